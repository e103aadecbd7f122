//! Admission by itself: what is learned, what is estimated, who is let in.

mod common;

use common::work;
use dataplane_core::{
    admission::Admission,
    driver::{ConnId, Time, WorkerId},
    limits::MS,
    slot::Tenant,
    stats::Shed,
};
use wire::{Operation, Priority, Work};

const TARGET: Time = 40 * MS;
const ECHO: u32 = 1 << Operation::Echo.code();
/// No worker is idle.
const BUSY: fn() -> bool = || false;
const INT8: u32 = 1 << Operation::Int8.code();

fn echo() -> Work {
    work(Operation::Echo, 100)
}

fn tenant(admission: &Admission, work: Work, priority: Priority) -> Tenant {
    Tenant {
        conn: ConnId(0),
        conn_life: 0,
        message_id: 0,
        sequence: 0,
        arrived: 0,
        deadline: 0,
        work,
        priority,
        cost: admission.cost(&work),
        key: 0,
        payload_len: 16,
        lending: 0,
        tries: 0,
        worker: WorkerId(0),
        batch: 0,
        abandoned: false,
        canary: None,
        lent_at: 0,
        lent_id: 0,
    }
}

/// Two workers for echoes of 1 ms each, and requests that were seen to wait.
fn busy() -> Admission {
    let mut admission = Admission::new(TARGET);
    admission.workers([ECHO, ECHO].into_iter());
    admission.learn(&echo(), 4, 4 * MS);
    admission.lending(20 * MS, 0);
    admission
}

fn queue(admission: &mut Admission, count: usize, priority: Priority) {
    for _ in 0..count {
        let tenant = tenant(admission, echo(), priority);
        admission.queue(&tenant);
    }
}

#[test]
fn a_wait_is_the_work_ahead_over_the_workers_that_serve_it() {
    let mut admission = busy();
    queue(&mut admission, 10, Priority::Normal);
    assert_eq!(admission.wait(Operation::Echo, Priority::Normal), 5 * MS);
    // What is of lower priority is not ahead; what is lent is, whatever its priority was.
    assert_eq!(admission.wait(Operation::Echo, Priority::High), 0);
    let low = tenant(&admission, echo(), Priority::Background);
    admission.lend(&low);
    admission.lend(&low);
    assert_eq!(admission.wait(Operation::Echo, Priority::High), MS);
    assert_eq!(admission.wait(Operation::Echo, Priority::Background), 6 * MS);
    // Other workers do other things.
    assert_eq!(admission.wait(Operation::Int8, Priority::Background), 0);
    admission.workers([ECHO | INT8, ECHO].into_iter());
    assert_eq!(admission.wait(Operation::Int8, Priority::Background), 12 * MS);
}

#[test]
fn what_is_over_the_share_of_its_priority_is_refused() {
    // Of a target of 40 ms: 20, 30, 35 and 40 ms.
    for (priority, waits) in Priority::ALL.iter().zip([20, 30, 35, 40]) {
        let mut admission = busy();
        queue(&mut admission, 2 * waits, Priority::Critical);
        assert_eq!(admission.judge(20 * MS, &echo(), *priority, 0, BUSY), Ok(()), "{priority}");
        queue(&mut admission, 1, Priority::Critical);
        assert_eq!(
            admission.judge(20 * MS, &echo(), *priority, 0, BUSY),
            Err(Shed::Queue),
            "{priority}"
        );
    }
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let mut admission = busy();
    queue(&mut admission, 10, Priority::Normal);
    let mut judge =
        |priority, deadline| admission.judge(20 * MS, &echo(), priority, deadline, BUSY);
    // 5 ms until its turn, and a millisecond of its own.
    assert_eq!(judge(Priority::Normal, 26 * MS), Ok(()));
    assert_eq!(judge(Priority::Normal, 26 * MS - 1), Err(Shed::Deadline));
    // Its turn may still come first.
    assert_eq!(judge(Priority::High, 20 * MS + 1), Ok(()));
}

#[test]
fn a_burst_may_wait_for_the_target_and_a_standing_queue_for_a_tenth() {
    let mut admission = busy();
    queue(&mut admission, 20, Priority::Normal);
    let judge =
        |admission: &mut Admission, now| admission.judge(now, &echo(), Priority::Normal, 0, BUSY);
    // No worker comes to rest for two targets.
    admission.rest(1);
    admission.lending(20 * MS, 0);
    assert_eq!(judge(&mut admission, 2 * TARGET), Ok(()), "one did");
    assert_eq!(judge(&mut admission, 4 * TARGET - 1), Ok(()));
    assert_eq!(judge(&mut admission, 4 * TARGET), Err(Shed::Queue));
    // One comes to rest, but only because half of the requests are refused.
    admission.rest(5 * TARGET);
    admission.lending(5 * TARGET, 4 * TARGET);
    (0..10).for_each(|_| assert_eq!(judge(&mut admission, 5 * TARGET), Err(Shed::Queue)));
    assert_eq!(judge(&mut admission, 6 * TARGET), Err(Shed::Queue));
    // And then because there is less to do.
    admission.rest(7 * TARGET);
    admission.lending(7 * TARGET, 6 * TARGET);
    let critical = |admission: &mut Admission| {
        admission.judge(7 * TARGET, &echo(), Priority::Critical, 0, BUSY)
    };
    (0..20).for_each(|_| assert_eq!(critical(&mut admission), Ok(())));
    assert_eq!(judge(&mut admission, 8 * TARGET), Ok(()));
}

#[test]
fn an_idle_worker_gets_what_nothing_waits_before() {
    let mut admission = busy();
    let lent = tenant(&admission, echo(), Priority::Normal);
    (0..200).for_each(|_| admission.lend(&lent));
    let judge = |admission: &mut Admission, idle: bool| {
        admission.judge(20 * MS, &echo(), Priority::Normal, 0, || idle)
    };
    assert_eq!(judge(&mut admission, false), Err(Shed::Queue));
    assert_eq!(judge(&mut admission, true), Ok(()));
    queue(&mut admission, 1, Priority::Background);
    assert_eq!(judge(&mut admission, true), Err(Shed::Queue));
}

#[test]
fn estimates_that_nothing_bears_out_refuse_nobody() {
    let mut admission = busy();
    queue(&mut admission, 1_000, Priority::Normal);
    assert!(admission.judge(20 * MS, &echo(), Priority::Normal, 0, BUSY).is_err());
    admission.lending(21 * MS, 20 * MS);
    assert_eq!(admission.judge(21 * MS, &echo(), Priority::Normal, 0, BUSY), Ok(()));
}

#[test]
fn one_stall_teaches_little() {
    let mut admission = busy();
    admission.learn(&echo(), 1, 10_000 * MS);
    assert!(admission.cost(&echo()) < 2 * MS, "{}", admission.cost(&echo()));
    (0..100).for_each(|_| admission.learn(&echo(), 8, 80 * MS));
    assert!(admission.cost(&echo()).abs_diff(10 * MS) < MS, "{}", admission.cost(&echo()));
    assert_eq!(admission.cost(&work(Operation::Echo, 1_000)), 0, "another class");
}

#[test]
fn the_hint_is_how_long_what_waits_needs() {
    let mut admission = busy();
    queue(&mut admission, 200, Priority::Background);
    assert_eq!(admission.retry_after_ms(), 100);
    assert_eq!(Admission::new(TARGET).retry_after_ms(), 1, "never nothing");
}
