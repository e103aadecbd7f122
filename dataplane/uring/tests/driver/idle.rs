//! System calls and sleep: how many, and when.

use crate::rig::{Rig, Seen, config, connect, pattern, read_exactly};
use dataplane_core::driver::Driver;
use dataplane_uring::{Command, Config, Policy};
use std::io::Write;

#[test]
fn a_sleep_ends_when_something_is_due() {
    let mut rig = Rig::new(&config());
    while rig.poll().is_some() {}
    rig.driver.flush(true, None);
    let due = rig.driver.now() + 3_000_000;
    rig.driver.flush(true, Some(due));
    assert!(rig.driver.now() >= due, "the sleep ended early, with nothing to tell");
    assert_eq!(rig.poll(), None);
}

#[test]
fn one_entry_into_the_kernel_carries_a_whole_turn() {
    const CONNECTIONS: usize = 64;
    const DEPTH: usize = 16;
    const ROUNDS: usize = 20;
    let (mut rig, address) = Rig::tcp(&config());
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    for _ in 0..CONNECTIONS {
        let conn = rig.accepted();
        rig.driver.start_stream(conn);
    }
    let burst = pattern(96 * DEPTH, 9);
    let before = *rig.driver.counters();
    for _ in 0..ROUNDS {
        for client in &mut clients {
            client.write_all(&burst).unwrap();
        }
        let (mut came, mut left) = (0, 0);
        while left < CONNECTIONS * burst.len() {
            match rig.next() {
                Seen::Bytes(conn, bytes) => {
                    came += bytes.len();
                    rig.send(conn, &bytes);
                }
                Seen::Sent(_, bytes) => left += bytes as usize,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, left);
        for client in &mut clients {
            assert_eq!(read_exactly(client, burst.len()), burst);
        }
    }
    let messages = (CONNECTIONS * DEPTH * ROUNDS) as f64;
    let calls = (rig.driver.counters().syscalls() - before.syscalls()) as f64;
    assert!(calls / messages <= 0.05, "{calls} system calls for {messages} messages");
}

#[test]
fn a_turn_with_nothing_to_do_makes_no_call() {
    let config = Config { policy: Policy::Latency, ..config() };
    let (mut rig, _address) = Rig::tcp(&config);
    while rig.poll().is_some() {}
    rig.driver.flush(true, None);
    while rig.poll().is_some() {}
    let before = rig.driver.counters().syscalls();
    for _ in 0..1_000 {
        assert_eq!(rig.poll(), None);
        rig.driver.flush(true, None);
    }
    assert_eq!(rig.driver.counters().syscalls(), before, "polling reads memory only");
}

#[test]
fn a_polling_turn_gives_the_core_away_where_it_is_told_to() {
    let config = Config { policy: Policy::Latency, yields: true, ..config() };
    let (mut rig, _address) = Rig::tcp(&config);
    while rig.poll().is_some() {}
    rig.driver.flush(true, None);
    while rig.poll().is_some() {}
    let before = *rig.driver.counters();
    for _ in 0..10 {
        rig.driver.flush(true, None);
    }
    let after = rig.driver.counters();
    assert_eq!(after.yields - before.yields, 10);
    assert_eq!(after.syscalls() - before.syscalls(), 10, "each is a system call and counted");
}

#[test]
fn balanced_polls_first_and_sleeps_then() {
    let spin_ns = 2_000_000;
    let config = Config { policy: Policy::Balanced { spin_ns }, early_ns: 0, ..config() };
    let (mut rig, address) = Rig::tcp(&config);
    let _client = connect(address);
    rig.accepted();
    rig.driver.flush(false, None);
    let active = rig.driver.now();
    let mut polls = 0;
    while rig.driver.counters().waits == 0 {
        assert_eq!(rig.poll(), None);
        let due = rig.driver.now() + 1_000_000;
        rig.driver.flush(true, Some(due));
        polls += 1;
    }
    assert!(rig.driver.now() - active >= spin_ns, "asleep too early");
    assert!(polls > 1);
}

#[test]
fn a_command_wakes_a_sleeper() {
    let mut rig = Rig::new(&config());
    while rig.poll().is_some() {}
    rig.driver.flush(true, None);
    while rig.poll().is_some() {}
    let commander = rig.commander.clone();
    let control = std::thread::spawn(move || commander.send(Command::Drain).unwrap());
    // Waits in the kernel, without a limit, until the command comes.
    while rig.poll() != Some(Seen::Drain) {
        rig.driver.flush(true, None);
    }
    control.join().unwrap();
}

#[test]
fn balanced_sleeps_at_once_where_polling_did_not_pay() {
    let spin_ns = 1_000_000;
    let config = Config { policy: Policy::Balanced { spin_ns }, early_ns: 0, ..config() };
    let (mut rig, address) = Rig::tcp(&config);
    for _ in 0..4 {
        let until = rig.driver.now() + 2 * spin_ns;
        while rig.driver.now() < until {
            assert_eq!(rig.poll(), None);
            rig.driver.flush(true, Some(until));
        }
        let _client = connect(address);
        rig.accepted();
        rig.driver.flush(false, None);
    }
    while rig.poll().is_some() {}
    let waits = rig.driver.counters().waits;
    let due = rig.driver.now() + 1_000_000;
    rig.driver.flush(true, Some(due));
    assert_eq!(rig.driver.counters().waits, waits + 1, "no polling before the first wait");
}
