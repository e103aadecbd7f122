use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Ahead of the node's clock.
const AHEAD: Time = 7 * 86_400 * SECOND;

fn place() -> Place {
    Place { handle: 7, generation: 2, ..Place::default() }
}

/// Registered at own time `AHEAD + 1 s`, over a path without delay.
fn agent() -> Agent {
    let mut agent = Agent::new(123);
    agent.registered(AHEAD + SECOND, AHEAD + SECOND, &place(), SECOND, 0);
    agent
}

fn order(id: u8, sent: Time, target: Time) -> Order {
    Order {
        message_id: [id; 16],
        hlc: 1,
        sent_ns: sent,
        target_ns: target,
        expires_ns: Time::MAX,
        handle: 7,
        generation: 2,
        lead_us: 0,
        expected_us: 0,
        weight: 1.0,
        hold: true,
        is_verified: false,
    }
}

fn acks(out: &[Output]) -> Vec<Ack> {
    let ack = |output: &Output| match output {
        Output::Ack(ack) => Some(*ack),
        _ => None,
    };
    out.iter().filter_map(ack).collect()
}

#[test]
fn meshmsg_16_nothing_is_held_by_a_clock_that_nobody_knows() {
    let (mut agent, mut out) = (Agent::new(123), Vec::new());
    // The answer took longer than an exchange may.
    agent.registered(AHEAD + SECOND, AHEAD + 7 * SECOND, &place(), 4 * SECOND, 0);
    assert_eq!(agent.place(), (7, 2));
    let now = AHEAD + 8 * SECOND;
    agent.order(now, &order(9, 5 * SECOND, 9 * SECOND), 0, &mut out);
    assert_eq!(acks(&out)[0].state, Trinary::Conflict.code());
    assert_eq!(acks(&out)[0].conflict_detail, CLOCK_UNKNOWN);
    out.clear();
    agent.order(now, &Order { hold: false, ..order(8, 5 * SECOND, 9 * SECOND) }, 0, &mut out);
    assert!(matches!(out[..], [Output::Begin { .. }]), "{out:?}");
    out.clear();
    agent.finished(now + MS, Verdict::Ready, 0, &mut out);
    assert_eq!(acks(&out).len(), 1, "its time to live counts from its arrival");
}

#[test]
fn x_14_an_agent_whose_node_started_anew_holds_nothing_by_the_old_clock() {
    let (mut agent, mut out) = (agent(), Vec::new());
    let (now, node) = (AHEAD + 60 * SECOND, 3_600 * SECOND);
    // The answer took longer than an exchange may, so that it says nothing of the new clock.
    agent.registered(now, now + 6 * SECOND, &place(), node + 3 * SECOND, 0);
    let (sent, target) = (node + 7 * SECOND, node + 8 * SECOND);
    agent.order(now + 8 * SECOND, &order(9, sent, target), 0, &mut out);
    assert_eq!(acks(&out)[0].conflict_detail, CLOCK_UNKNOWN);
    assert_eq!(agent.next_release(), None);
}

#[test]
fn x_14_an_agent_that_registers_with_another_node_takes_its_clock() {
    let (mut agent, mut out) = (agent(), Vec::new());
    let (now, node) = (AHEAD + 60 * SECOND, 3_600 * SECOND);
    agent.registered(now, now + 2 * MS, &place(), node + MS, 0);
    agent.order(now + SECOND, &order(9, node + SECOND, node + 2 * SECOND), 0, &mut out);
    agent.finished(now + SECOND, Verdict::Ready, 0, &mut out);
    let release = agent.next_release().expect("held");
    assert!(release.abs_diff(now + 2 * SECOND) < 2 * MS, "{release}");
}

#[test]
fn meshmsg_16_holds_until_the_moment_acts_and_answers_with_its_times() {
    let (mut agent, mut out) = (agent(), Vec::new());
    let (sent, target) = (2 * SECOND, 3 * SECOND);
    let came = AHEAD + sent + 5 * MS;
    agent.order(came, &order(9, sent, target), 3, &mut out);
    assert_eq!(out, [Output::Begin { weight: 1.0, queue: 3 }]);
    out.clear();
    agent.finished(came + 100 * MS, Verdict::Ready, 3, &mut out);
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(agent.next_release(), Some(AHEAD + target));
    agent.beat_by_hand();
    agent.timer(AHEAD + target - 1, 0, &mut out);
    assert!(out.is_empty(), "not a nanosecond early");
    agent.timer(AHEAD + target + 5, 1, &mut out);
    let ack = acks(&out)[0];
    assert_eq!((ack.message_id, ack.handle, ack.generation), ([9; 16], 7, 2));
    assert_eq!(ack.state, Trinary::Ready.code());
    assert_eq!((ack.origin_ns, ack.received_ns, ack.ready_ns), (sent, came, came + 100 * MS));
    assert_eq!((ack.acted_ns, ack.target_own_ns), (AHEAD + target + 5, AHEAD + target));
    assert_eq!((ack.processing_ns, ack.queue_found, ack.queue_depth), (100 * MS, 3, 1));
    assert_eq!(agent.in_hand(), 0);
    assert_eq!(agent.next_timer(), Time::MAX);
}

#[test]
fn plain_messages_and_late_ones_are_acted_on_at_once() {
    for (hold, target) in [(false, 9 * SECOND), (true, 2 * SECOND + 1)] {
        let (mut agent, mut out) = (agent(), Vec::new());
        let came = AHEAD + 2 * SECOND;
        agent.order(came, &Order { hold, ..order(1, 2 * SECOND, target) }, 0, &mut out);
        agent.finished(came + MS, Verdict::Ready, 0, &mut out);
        assert_eq!(acks(&out)[0].acted_ns, came + MS);
    }
}

#[test]
fn trin_01_conflict_says_why_and_a_long_wait_is_transit_first() {
    let (mut agent, mut out) = (agent(), Vec::new());
    let came = AHEAD + 2 * SECOND;
    agent.beat_by_hand();
    agent.order(came, &order(1, 2 * SECOND, 60 * SECOND), 0, &mut out);
    assert_eq!(agent.next_timer(), came + TRANSIT_AFTER);
    out.clear();
    agent.timer(came + TRANSIT_AFTER, 0, &mut out);
    agent.timer(came + 2 * TRANSIT_AFTER, 0, &mut out);
    let told = acks(&out);
    assert_eq!(told.len(), 1, "once");
    assert_eq!(
        (told[0].state, told[0].ready_ns, told[0].acted_ns),
        (Trinary::Transit.code(), 0, 0)
    );
    out.clear();
    agent.finished(came + 3 * TRANSIT_AFTER, Verdict::Conflict("sold out"), 0, &mut out);
    let ack = acks(&out)[0];
    assert_eq!(
        (ack.state, ack.conflict_detail, ack.acted_ns),
        (Trinary::Conflict.code(), "sold out", 0)
    );
    assert_eq!(Trinary::Ready.code() as i8, 1);
    assert_eq!(Trinary::Transit.code() as i8, 0);
    assert_eq!(Trinary::Conflict.code() as i8, -1);
    let sent = ack.payload();
    assert_eq!((sent.conflict_detail.as_str(), sent.state), ("sold out", 255));
}

#[test]
fn meshmsg_06_what_is_past_its_time_to_live_is_dropped_wherever_it_is() {
    let expired = |out: &[Output]| {
        out.iter().filter(|o| matches!(o, Output::Dropped(_, Dropped::Expired))).count()
    };
    let came = AHEAD + 2 * SECOND;
    let brief = Order { expires_ns: 2 * SECOND + MS, ..order(1, 2 * SECOND, 3 * SECOND) };
    // Too late already when it comes.
    let (mut one, mut out) = (agent(), Vec::new());
    one.order(came + 2 * MS, &brief, 0, &mut out);
    assert_eq!((expired(&out), out.len(), one.in_hand()), (1, 1, 0));
    // Too late when its service ends.
    let (mut one, mut out) = (agent(), Vec::new());
    one.order(came, &brief, 0, &mut out);
    one.finished(came + 2 * MS, Verdict::Ready, 0, &mut out);
    assert_eq!((expired(&out), acks(&out).len(), one.in_hand()), (1, 0, 0));
    // While it is held, and while it waits behind another.
    let (mut one, mut out) = (agent(), Vec::new());
    one.beat_by_hand();
    one.order(came, &brief, 0, &mut out);
    one.finished(came + 1, Verdict::Ready, 0, &mut out);
    one.order(came, &order(2, 2 * SECOND, 3 * SECOND), 0, &mut out);
    one.order(came, &Order { message_id: [3; 16], ..brief }, 0, &mut out);
    assert_eq!(one.in_hand(), 3);
    one.timer(one.next_timer(), 0, &mut out);
    assert_eq!((expired(&out), acks(&out).len(), one.in_hand()), (2, 0, 1));
    assert_eq!(one.profile.as_ref().and_then(|p| p.outcomes.rate(came)), Some(0.0));
}

#[test]
fn what_is_not_for_it_or_came_before_is_dropped_and_a_full_queue_says_so() {
    let (mut agent, mut out) = (agent(), Vec::new());
    let came = AHEAD + 2 * SECOND;
    for (handle, generation) in [(8, 2), (7, 1)] {
        let stray = Order { handle, generation, ..order(1, 2 * SECOND, 0) };
        agent.order(came, &stray, 0, &mut out);
    }
    assert_eq!(out, [Output::Dropped([1; 16], Dropped::Stale); 2]);
    out.clear();
    agent.order(came, &order(1, 2 * SECOND, 0), 0, &mut out);
    agent.order(came, &order(1, 2 * SECOND, 0), 0, &mut out);
    agent.finished(came, Verdict::Ready, 0, &mut out);
    agent.order(came, &order(1, 2 * SECOND, 0), 0, &mut out);
    let repeated = Output::Dropped([1; 16], Dropped::Repeated);
    assert_eq!(out.iter().filter(|output| **output == repeated).count(), 2);
    assert_eq!(acks(&out).len(), 1);
    out.clear();
    for id in 0..=QUEUE_MAX {
        agent.order(came, &order(10 + id as u8, 2 * SECOND, 0), 0, &mut out);
    }
    let refused = acks(&out);
    assert_eq!((refused.len(), refused[0].conflict_detail), (1, QUEUE_FULL));
    assert_eq!(agent.queue() as usize, QUEUE_MAX);
}

#[test]
fn prof_02_beats_every_five_seconds_with_a_phase_of_its_own() {
    let mut phases = Vec::new();
    for phase in [0, 1_000_000_007, 77_777_777_777] {
        let mut agent = Agent::new(phase);
        agent.registered(AHEAD, AHEAD, &place(), 0, 0);
        let (mut out, mut times) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let now = agent.next_timer();
            agent.timer(now, 0, &mut out);
            times.push(now - AHEAD);
        }
        assert_eq!(out.len(), 20);
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[..3], [BEAT_EVERY / 4; 3]);
        assert!(gaps[4..].iter().all(|gap| *gap == BEAT_EVERY), "{gaps:?}");
        phases.push(times.last().map_or(0, |time| time % BEAT_EVERY));
    }
    assert_eq!(phases, [0, 1_000_000_007, 77_777_777_777 % BEAT_EVERY]);
}

#[test]
fn a_beat_that_leaves_late_does_not_shift_the_next_ones() {
    let mut agent = Agent::new(0);
    agent.registered(AHEAD, AHEAD, &place(), 0, 1_000 * SECOND);
    let mut out = Vec::new();
    agent.timer(AHEAD + 700 * SECOND, 0, &mut out);
    assert_eq!((out.len(), agent.next_timer()), (1, AHEAD + 750 * SECOND));
}

#[test]
fn prof_03_prof_05_x_14_reports_medians_on_its_own_clock() {
    let mut agent = agent();
    agent.beat_by_hand();
    let mut out = Vec::new();
    // The node's clock is 7 days behind; the path takes 20 ms there, 20 ms back; the message says
    // when it was made, which is long before it left: that does not count.
    for round in 0..100_u64 {
        let asked = AHEAD + (10 + round) * SECOND;
        let beat = agent.beat(asked, 5);
        assert_eq!((beat.sent_ns, beat.queue_depth), (asked, 5));
        let arrived = asked - AHEAD + 20 * MS;
        let answer = AgentHeartbeat {
            handle: 7,
            generation: 2,
            origin_ns: asked,
            received_ns: arrived,
            sent_ns: arrived + 3 * MS,
            ..AgentHeartbeat::default()
        };
        assert!(agent.answered(asked + 43 * MS, &answer));
        assert!(!agent.answered(asked + 43 * MS, &answer), "once");
        let sent = asked - AHEAD + 100 * MS;
        let message = order(round as u8 + 1, sent, sent);
        agent.order(AHEAD + sent + 20 * MS, &message, 0, &mut out);
        agent.finished(AHEAD + sent + (70 + round) * MS, Verdict::Ready, 0, &mut out);
    }
    let beat = agent.beat(AHEAD + 200 * SECOND, 4);
    assert!((beat.latency_ms - 20.0).abs() < 0.5, "{}", beat.latency_ms);
    assert!((beat.processing_ms - 99.5).abs() < 2.0, "{}", beat.processing_ms);
    assert_eq!((beat.reliability, beat.queue_depth), (1.0, 4));
    assert!(beat.drift < 0.05, "{}", beat.drift);
    let expected = beat.latency_ms + beat.processing_ms * 1.4;
    assert!((beat.impedance - expected).abs() < 0.01);
    assert!(beat.origin_ns > 0 && beat.received_ns > AHEAD);
}

#[test]
fn answers_to_nothing_and_impossible_ones_change_nothing() {
    let mut agent = agent();
    let asked = AHEAD + 10 * SECOND;
    let before = agent.clock().offset_at(asked);
    let answer = AgentHeartbeat {
        handle: 7,
        generation: 2,
        origin_ns: asked,
        received_ns: 10 * SECOND,
        sent_ns: 10 * SECOND,
        ..AgentHeartbeat::default()
    };
    assert!(!agent.answered(asked + MS, &answer), "nothing was asked");
    agent.beat(asked, 0);
    for wrong in [
        AgentHeartbeat { origin_ns: asked - 1, ..answer },
        AgentHeartbeat { handle: 8, ..answer },
        AgentHeartbeat { generation: 1, ..answer },
        AgentHeartbeat { sent_ns: 10 * SECOND - 1, ..answer },
    ] {
        assert!(!agent.answered(asked + MS, &wrong));
    }
    assert_eq!(agent.clock().offset_at(asked), before);
    assert!(agent.answered(asked + MS, &answer));
}

#[test]
fn an_agent_is_small() {
    let inline = size_of::<Agent>();
    assert!(inline <= 250, "{inline} bytes");
    assert!(inline + size_of::<Profile>() <= 750);
    assert!(size_of::<Job>() <= 96);
}

/// One step of a random life.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A message: its number, when it should be acted on and when it expires after now.
    Order { id: u8, target: Time, ttl: Option<Time>, hold: bool },
    /// The service ends.
    Finish { conflict: bool },
    /// Time passes.
    Wait(Time),
    /// Up to the next timer, and a little late.
    Timer(Time),
}

fn event() -> impl Strategy<Value = Event> {
    let order = (1..30_u8, 0..5_000_u64, proptest::option::of(0..4_000_u64), any::<bool>());
    prop_oneof![
        4 => order.prop_map(|(id, target, ttl, hold)| Event::Order {
            id,
            target: target * MS,
            ttl: ttl.map(|ttl| ttl * MS),
            hold,
        }),
        4 => any::<bool>().prop_map(|conflict| Event::Finish { conflict }),
        2 => (0..800_u64).prop_map(|ms| Event::Wait(ms * MS)),
        3 => (0..2_u64).prop_map(|ms| Event::Timer(ms * MS)),
    ]
}

/// What a message was and what came of it, by the test's own books.
#[derive(Debug, Default)]
struct Book {
    target: Time,
    expires: Time,
    hold: bool,
    ends: u32,
    transits: u32,
}

/// Enters an output at `now` into the books, and says what is wrong with it.
fn judge(books: &mut HashMap<u8, Book>, output: &Output, now: Time) -> Result<(), TestCaseError> {
    match output {
        Output::Begin { .. } => {}
        Output::Beat(beat) => prop_assert_eq!(beat.sent_ns, now),
        Output::Ack(ack) => {
            let book = books.get_mut(&ack.message_id[0]).expect("asked for");
            match Trinary::from_code(ack.state).unwrap() {
                Trinary::Transit => book.transits += 1,
                Trinary::Conflict => book.ends += 1,
                Trinary::Ready => {
                    book.ends += 1;
                    prop_assert_eq!(ack.acted_ns, now);
                    prop_assert!(!book.hold || now >= book.target, "early");
                    prop_assert!(now <= book.expires, "after its time to live");
                }
            }
            prop_assert!(book.transits <= 1 && book.ends <= 1);
        }
        Output::Dropped(id, Dropped::Expired) => {
            let book = books.get_mut(&id[0]).expect("asked for");
            prop_assert!(now > book.expires, "dropped before its time");
            book.ends += 1;
        }
        Output::Dropped(_, why) => prop_assert_eq!(*why, Dropped::Repeated),
    }
    Ok(())
}

proptest! {
    #[test]
    fn never_early_never_after_its_time_to_live_exactly_one_outcome(
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut agent = agent();
        let mut now = AHEAD + SECOND;
        let (mut out, mut seen): (Vec<Output>, usize) = (Vec::new(), 0);
        let mut books: HashMap<u8, Book> = HashMap::new();
        let (mut serving, mut last_timer) = (0_i32, now);
        // In the end everything is let run out.
        let rest = (0..1_000).flat_map(|_| [Event::Finish { conflict: false }, Event::Timer(0)]);
        for event in events.into_iter().chain(rest) {
            match event {
                Event::Order { id, target, ttl, hold } => {
                    if books.contains_key(&id) && books[&id].ends > 0 {
                        continue;
                    }
                    let node = now - AHEAD;
                    let expires = ttl.map_or(Time::MAX, |ttl| node + ttl);
                    let message = Order {
                        expires_ns: expires,
                        hold,
                        ..order(id, node, node + target)
                    };
                    books.entry(id).or_insert_with(|| Book {
                        target: node + target + AHEAD,
                        expires: expires.saturating_add(AHEAD),
                        hold,
                        ..Book::default()
                    });
                    agent.order(now, &message, 0, &mut out);
                }
                Event::Finish { conflict } => {
                    let verdict =
                        if conflict { Verdict::Conflict("no") } else { Verdict::Ready };
                    if serving > 0 {
                        serving -= 1;
                    }
                    agent.finished(now, verdict, 0, &mut out);
                }
                Event::Wait(time) => now += time,
                Event::Timer(late) => {
                    prop_assert!(agent.next_timer() >= last_timer);
                    now = now.max(agent.next_timer()) + late;
                    last_timer = agent.next_timer();
                    agent.timer(now, 0, &mut out);
                }
            }
            for output in out.drain(..) {
                seen += 1;
                serving += i32::from(matches!(output, Output::Begin { .. }));
                judge(&mut books, &output, now)?;
            }
            prop_assert!(serving <= 1, "one service at a time");
            prop_assert!(agent.in_hand() <= QUEUE_MAX);
        }
        prop_assert!(seen > 0);
        prop_assert_eq!(agent.in_hand(), 0);
        for (id, book) in books {
            prop_assert_eq!(book.ends, 1, "message {}", id);
        }
    }

    #[test]
    fn whatever_numbers_come_nothing_panics(
        times in prop::collection::vec(any::<u64>(), 8),
        weight in any::<f32>(),
        hold in any::<bool>(),
    ) {
        let mut agent = Agent::new(times[0]);
        let mut out = Vec::new();
        agent.registered(times[1], times[2], &place(), times[3], times[4]);
        let wild = Order {
            hlc: times[5],
            sent_ns: times[6],
            target_ns: times[7],
            expires_ns: times[0],
            weight,
            hold,
            ..order(1, 0, 0)
        };
        agent.order(times[1], &wild, u32::MAX, &mut out);
        agent.finished(times[2], Verdict::Ready, u32::MAX, &mut out);
        agent.timer(times[3], u32::MAX, &mut out);
        agent.timer(Time::MAX, u32::MAX, &mut out);
        let beat = agent.beat(times[4], u32::MAX);
        agent.answered(times[5], &AgentHeartbeat { origin_ns: times[4], ..beat });
    }
}
