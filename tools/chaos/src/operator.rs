//! An operator who gives orders all the time, so that the node has something to keep on its disk.

use client::{Addr, Client, Options};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use wire::payload::mesh::Gather;

/// Between two orders.
const PAUSE: Duration = Duration::from_millis(100);

/// The operator's thread.
#[derive(Debug)]
pub(crate) struct Operator {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Operator {
    /// Starts one at this node.
    pub(crate) fn start(addr: Addr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || run(&addr, &seen)) }
    }

    /// Orders that had their report, and those that had none because their connection ended.
    pub(crate) fn finish(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("an operator does not panic")
    }
}

fn run(addr: &Addr, stop: &AtomicBool) -> (u64, u64) {
    let (mut reports, mut none) = (0, 0);
    let mut client = None;
    let options = Options { io_timeout: Some(Duration::from_secs(5)), ..Options::default() };
    while !stop.load(Relaxed) {
        thread::sleep(PAUSE);
        if client.is_none() {
            client = Client::connect(addr, options.clone()).ok();
        }
        let Some(connected) = &mut client else { continue };
        let ask = Gather { window_ns: 50_000_000, timeout_ns: 1_000_000_000, ..Gather::default() };
        match connected.gather(&ask, |_| {}) {
            Ok(_) => reports += 1,
            Err(_) => {
                none += 1;
                client = None;
            }
        }
    }
    (reports, none)
}
