//! The loop of a worker, on one screen, and how it waits.

use crate::{Backend, clock};
use link::{Lent, LinkFault, WorkerSide, hello::send_answer, spin::Spin};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::BorrowedFd,
    io::Errno,
    net::{RecvFlags, recv},
    time::Timespec,
};

/// Most slots taken up at once; a longer batch is served in parts.
const BATCH_MAX: usize = 256;
/// `Balanced` spins this long before it sleeps, where that has paid lately: a few times what a
/// wake-up costs.
const SPIN_NS: u64 = 50_000;
/// Longest sleep, so that the pulse of an idle worker moves at least four times a second.
const SLEEP_MAX: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// A spinning worker looks at its control socket this often: a system call each.
const GLANCE_NS: u64 = 20_000_000;
/// Pauses between two looks at the rings.
const PAUSES: u32 = 8;

/// How a worker without work waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Spin always: the lowest latency, a whole core.
    Latency,
    /// Spin for a moment where that has paid lately, then sleep.
    #[default]
    Balanced,
    /// Sleep at once.
    Frugal,
}

/// Serves until the node closes the control socket, be it that it drains or that it died.
///
/// `crowded` says that there are fewer cores than threads that spin: then spinning gives way to
/// others.
///
/// # Errors
/// A [`LinkFault`]: the node broke its word, and nothing it says can be believed any more.
pub fn serve<'s>(
    side: &'s WorkerSide,
    backend: &mut Backend<'s>,
    control: BorrowedFd<'_>,
    policy: Poll,
    crowded: bool,
) -> Result<(), LinkFault> {
    let mut batch: Vec<Lent<'s>> = Vec::with_capacity(BATCH_MAX);
    let mut idle =
        Idle { control, policy, crowded, spin: Spin::new(SPIN_NS), since: None, glanced: 0 };
    let beat = || side.beat();
    loop {
        side.beat();
        let taken = side.next_batch(BATCH_MAX, &mut batch)?;
        if taken > 0 {
            backend.submit(&mut batch, &beat)?;
        }
        let done = backend.collect(&beat)?;
        if let Some(news) = backend.news() {
            // Where the node is gone, the next look at the socket says so.
            let _ = send_answer(control, &news);
        }
        if taken + done > 0 {
            idle.end();
        } else if idle.wait(side, backend)? == Node::Gone {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    There,
    Gone,
}

/// A worker without work.
struct Idle<'a> {
    control: BorrowedFd<'a>,
    policy: Poll,
    crowded: bool,
    spin: Spin,
    /// Since when there is no work.
    since: Option<u64>,
    /// When the control socket was last looked at.
    glanced: u64,
}

impl Idle<'_> {
    /// There is work again.
    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.spin.learn(clock::monotonic_ns().saturating_sub(since));
        }
    }

    /// Waits a little, or until something happens.
    fn wait(&mut self, side: &WorkerSide, backend: &mut Backend<'_>) -> Result<Node, LinkFault> {
        let now = clock::monotonic_ns();
        let since = *self.since.get_or_insert(now);
        let spin = match self.policy {
            Poll::Latency => true,
            Poll::Balanced => self.spin.pays(now.saturating_sub(since)),
            Poll::Frugal => false,
        };
        if !spin {
            backend.arm(&|| side.beat())?;
            return Ok(self.sleep(side));
        }
        if self.crowded {
            std::thread::yield_now();
        } else {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
        }
        if now.saturating_sub(self.glanced) < GLANCE_NS {
            return Ok(Node::There);
        }
        self.glanced = now;
        Ok(self.hear(RecvFlags::DONTWAIT))
    }

    /// Sleeps until a shard or a device rings, the node goes, or it is time to move the pulse.
    fn sleep(&mut self, side: &WorkerSide) -> Node {
        if !side.park() {
            return Node::There;
        }
        let door = side.door().fd();
        let mut fds =
            [PollFd::new(&door, PollFlags::IN), PollFd::new(&self.control, PollFlags::IN)];
        // A signal or an exhausted kernel ends the sleep early, which does no harm.
        let woken = poll(&mut fds, Some(&SLEEP_MAX)).is_ok();
        let spoke = woken && !fds[1].revents().is_empty();
        side.unpark();
        if spoke { self.hear(RecvFlags::DONTWAIT) } else { Node::There }
    }

    /// The node says nothing on the control socket but its end; anything else is passed over.
    fn hear(&self, flags: RecvFlags) -> Node {
        match recv(self.control, &mut [0_u8; 64], flags) {
            Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR) => Node::There,
            Ok((_, 0)) | Err(_) => Node::Gone,
        }
    }
}
