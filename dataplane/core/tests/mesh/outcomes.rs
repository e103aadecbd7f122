//! Exactly one outcome per send, whatever happens to connections, room and time.

use crate::desk::{Desk, Sizes, Volleyed, send, template};
use dataplane_core::{
    driver::{Caller, ConnId, Event},
    limits::VOLLEYS_MAX,
    mesh_port::Up,
};
use proptest::prelude::*;

#[test]
fn sends_to_connections_that_are_gone_are_counted_as_gone() {
    let mut desk = Desk::new(Sizes::default());
    (0..3).for_each(|conn| _ = desk.connect(conn));
    let t = desk.now + 1_000;
    let mut sends = vec![send(t, 0, 1), send(t, 1, 2), send(t, 2, 3), send(t, 60, 4)];
    sends[2].life = 2;
    desk.volley(1, Volleyed::new(&template(0), sends));
    desk.settle();
    desk.hang_up(ConnId(0));
    // The same place, another peer.
    desk.connect(0);
    desk.now = t;
    desk.settle();
    let frames = desk.frames();
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [ConnId(1)]);
    let report = &desk.reports()[0];
    assert_eq!((report.sent, report.gone), (1, 3));
}

#[test]
fn what_finds_no_room_is_refused() {
    let sizes = Sizes { scheduled: 4, unsent: 600, ..Sizes::default() };
    let mut desk = Desk::new(sizes);
    desk.connect(0);
    let t = desk.now + 1_000;
    // The wheel holds four of six; of these the connection takes two.
    let sends = (0..6).map(|n| send(t, 0, n)).collect();
    desk.volley(1, Volleyed::new(&template(0), sends));
    // Longer than half of all chunks: it could wait for ever.
    desk.volley(2, Volleyed::new(&template(20_000), vec![send(t, 0, 0)]));
    desk.volley(3, Volleyed::new(&template(0), vec![]));
    desk.settle();
    let reports = desk.reports();
    assert_eq!((reports[0].number, reports[0].refused), (2, 1));
    assert_eq!((reports[1].number, reports[1].refused), (3, 0));
    desk.now = t;
    desk.settle();
    let report = &desk.reports()[0];
    assert_eq!((report.number, report.sent, report.refused), (1, 2, 4));
    assert_eq!(desk.stats.schedule_refused.get(), 5);
}

#[test]
fn one_volley_too_many_is_refused_as_a_whole() {
    let mut desk = Desk::new(Sizes { up: 8, ..Sizes::default() });
    desk.connect(0);
    let t = desk.now + 1_000_000_000;
    for number in 0..=VOLLEYS_MAX as u32 {
        desk.volley(number, Volleyed::new(&template(0), vec![send(t, 0, number)]));
        desk.settle();
    }
    let reports = desk.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].number, reports[0].refused), (VOLLEYS_MAX as u32, 1));
    // Far more reports than the ring has room for: none is lost, and they come in order.
    desk.now = t;
    let mut numbers = Vec::new();
    while numbers.len() < VOLLEYS_MAX {
        desk.turn();
        numbers.extend(desk.reports().iter().map(|report| report.number));
    }
    assert!(numbers.into_iter().eq(0..VOLLEYS_MAX as u32));
}

#[derive(Clone, Debug)]
enum Op {
    /// Sends: distance, connection; whether they expire, priority.
    Volley(Vec<(u32, u32)>, bool, u8),
    Wait(u32),
    HangUp(u32),
    Connect(u32),
    Stick(bool),
    /// The mesh takes what came up.
    Take,
}

const CONNS: u32 = 5;

fn op() -> impl Strategy<Value = Op> {
    let sends = prop::collection::vec((0..3_000_000u32, 0..CONNS + 1), 0..60);
    prop_oneof![
        4 => (sends, any::<bool>(), 0..4u8).prop_map(|(s, e, p)| Op::Volley(s, e, p)),
        6 => (0..1_000_000u32).prop_map(Op::Wait),
        1 => (0..CONNS).prop_map(Op::HangUp),
        2 => (0..CONNS).prop_map(Op::Connect),
        1 => any::<bool>().prop_map(Op::Stick),
        3 => Just(Op::Take),
    ]
}

/// What was asked of each volley, and what was reported.
#[derive(Default)]
struct Books {
    asked: Vec<u32>,
    told: Vec<Option<[u32; 4]>>,
    sent: u64,
}

impl Books {
    fn take(&mut self, desk: &mut Desk) -> Result<(), TestCaseError> {
        for up in desk.ups() {
            let Up::VolleyDone(report) = up else { continue };
            let place = &mut self.told[report.number as usize];
            prop_assert!(place.is_none(), "volley {} reported twice", report.number);
            *place = Some([report.sent, report.expired, report.gone, report.refused]);
            prop_assert_eq!(report.fire_error.count(), u64::from(report.sent));
            self.sent += u64::from(report.sent);
        }
        Ok(())
    }
}

fn step(desk: &mut Desk, books: &mut Books, op: Op) -> Result<(), TestCaseError> {
    match op {
        Op::Volley(sends, expires, priority) => {
            let number = books.asked.len() as u32;
            books.asked.push(sends.len() as u32);
            books.told.push(None);
            let now = desk.now;
            let sends = sends
                .iter()
                .enumerate()
                .map(|(n, (distance, conn))| send(now + u64::from(*distance), *conn, n as u32))
                .collect();
            let expires = if expires { now + 1_000_000 } else { u64::MAX };
            let template = template(32);
            desk.volley(number, Volleyed { expires, priority, ..Volleyed::new(&template, sends) });
        }
        Op::Wait(time) => desk.now += u64::from(time),
        Op::HangUp(conn) => desk.hang_up(ConnId(conn)),
        Op::Connect(conn) => desk.event(Event::Accepted { conn: ConnId(conn), who: Caller::LOCAL }),
        Op::Stick(stuck) => {
            desk.stuck = stuck;
            desk.take_sent();
        }
        Op::Take => books.take(desk)?,
    }
    desk.turn();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_send_has_exactly_one_outcome(ops in prop::collection::vec(op(), 1..80)) {
        let sizes = Sizes { up: 2, scheduled: 150, chunks: 3, unsent: 3_000 };
        let mut desk = Desk::new(sizes);
        (0..CONNS).for_each(|conn| _ = desk.connect(conn));
        let mut books = Books::default();
        for op in ops {
            step(&mut desk, &mut books, op)?;
        }
        desk.stuck = false;
        desk.take_sent();
        for _ in 0..40 {
            desk.now += 1_000_000;
            desk.turn();
            books.take(&mut desk)?;
        }
        for (asked, told) in books.asked.iter().zip(&books.told) {
            let told = told.map(|counts| counts.iter().sum());
            prop_assert_eq!(told, Some(*asked));
        }
        prop_assert_eq!(desk.stats.schedule_fired.get(), books.sent);
        prop_assert!(desk.shard.scheduled() == 0);
    }
}
