//! Pools against a node that follows a script.

use crate::node::{Do, Heard, Node, frame, refusal};
use client::{ClientError, Limits, Pool, PoolOptions, Retry, aio};
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use wire::{
    Dtype, ErrorCode, Kind,
    payload::{QueryRequest, TensorWork},
};

const ROWS: &[u8] = b"a row of bytes";

fn echo(rows: u32) -> QueryRequest {
    let work = TensorWork::echo(Dtype::U8, rows, ROWS.len() as u32);
    QueryRequest { work, ..QueryRequest::default() }
}

/// One connection, so that a test sees every try in order.
fn single() -> PoolOptions {
    let limits = Limits { least: 1, most: 1, ..Limits::DEFAULT };
    PoolOptions { limits, timeout: Duration::from_secs(20), ..PoolOptions::default() }
}

fn ask(pool: &Pool) -> Result<(), ClientError> {
    let answer = pool.request(&echo(1), ROWS)?;
    assert_eq!(answer.response()?.echo.expect("an echo").data, ROWS);
    Ok(())
}

/// A node that does this to the first requests and answers the others, and a pool of it.
fn after(count: usize, deed: impl Fn(&Heard) -> Vec<Do> + Send + Sync + 'static) -> (Node, Pool) {
    let node = Node::new(move |heard| match heard.kind {
        Kind::QueryRequest if heard.nth < count => deed(heard),
        _ => heard.sound(),
    });
    let addr = node.listen("127.0.0.1:0");
    (node, Pool::new(addr, single()).expect("a pool"))
}

#[test]
fn pool_06_each_refusal_is_tried_again_where_the_format_says_so() {
    for code in ErrorCode::ALL.iter().copied().filter(|code| *code != ErrorCode::Duplicate) {
        let (node, pool) = after(1, move |heard| {
            let mut deeds = vec![Do::Say(heard.refusal(code, 1))];
            deeds.extend(code.closes().then_some(Do::Close));
            deeds
        });
        let done = ask(&pool);
        let heard = node.heard(Kind::QueryRequest);
        if code.retryable() {
            done.unwrap_or_else(|fault| panic!("{code}: {fault}"));
            assert_eq!(heard.len(), 2, "{code}");
            assert_eq!(heard[0].query_id(), heard[1].query_id(), "{code}");
        } else {
            let fault = done.expect_err("a refusal");
            assert!(fault.to_string().contains(code.name()), "{code}: {fault}");
            assert_eq!(heard.len(), 1, "{code}");
        }
    }
}

#[test]
fn pool_06_a_request_is_one_over_all_its_tries_and_its_deadline_travels() {
    let (node, pool) = after(2, |_| vec![Do::Wait(Duration::from_millis(15)), Do::Close]);
    ask(&pool).expect("the third try");
    let heard = node.heard(Kind::QueryRequest);
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|try_| try_.query_id() == heard[0].query_id()));
    assert_eq!(heard[0].query_id()[6] >> 4, 4, "a random UUID, version 4");
    assert_eq!(heard.iter().map(Heard::attempt).collect::<Vec<_>>(), [0, 1, 2]);
    let left: Vec<_> = heard.iter().map(Heard::timeout_ms).collect();
    assert!(left[0] <= 20_000 && left.windows(2).all(|pair| pair[1] + 15 <= pair[0]), "{left:?}");
    assert_eq!(pool.stats().retries, 2);
    ask(&pool).expect("another");
    assert_ne!(node.heard(Kind::QueryRequest)[3].query_id(), heard[0].query_id());
}

#[test]
fn pool_06_three_tries_and_no_more_whatever_the_node_does() {
    type Deed = fn(&Heard) -> Vec<Do>;
    let deeds: [(&str, Deed); 7] = [
        ("closes", |_| vec![Do::Close]),
        ("garbage", |_| vec![Do::Say(vec![0xA5; 100])]),
        ("half a header", |_| vec![Do::Say(b"BUTT\0\x01".to_vec()), Do::Close]),
        ("half a frame", |heard| vec![Do::Say(heard.echo()[0][..90].to_vec()), Do::Close]),
        ("a wrong id", |heard| vec![Do::Say(frame(Kind::QueryResponse, heard.id + 7, &[]))]),
        ("a bad sum", |heard| {
            let mut bytes = heard.echo().remove(0);
            bytes[60] ^= 1;
            vec![Do::Say(bytes)]
        }),
        ("draining", |heard| vec![Do::Say(heard.refusal(ErrorCode::Draining, 0))]),
    ];
    for (what, deed) in deeds {
        let (node, pool) = after(usize::MAX, deed);
        let fault = ask(&pool).expect_err(what);
        assert_eq!(node.heard(Kind::QueryRequest).len(), 3, "{what}: {fault}");
        assert!(!matches!(fault, ClientError::DeadlineExceeded { .. }), "{what}: {fault}");
        let (node, pool) = after(2, deed);
        ask(&pool).unwrap_or_else(|fault| panic!("{what}: {fault}"));
        assert_eq!(node.heard(Kind::QueryRequest).len(), 3, "{what}");
    }
}

#[test]
fn pool_06_an_order_that_may_have_arrived_is_not_given_twice() {
    let node = Node::new(|_| vec![Do::Close]);
    let pool = Pool::new(node.listen("127.0.0.1:0"), single()).expect("a pool");
    let fault = pool.call(Kind::Circuit, &[0_u8; 16][..]).expect_err("no answer");
    assert!(matches!(fault, ClientError::Io { .. }), "{fault}");
    assert_eq!(node.heard(Kind::Circuit).len(), 1);
}

#[test]
fn a_duplicate_is_waited_for_until_the_first_one_is_done() {
    let (node, pool) = after(6, |heard| vec![Do::Say(heard.refusal(ErrorCode::Duplicate, 1))]);
    ask(&pool).expect("the answer to the first of the twins");
    assert_eq!(node.heard(Kind::QueryRequest).len(), 7);
    let (node, pool) = after(6, |heard| vec![Do::Say(heard.refusal(ErrorCode::Duplicate, 0))]);
    assert!(matches!(ask(&pool), Err(ClientError::Refused(_))), "no advice: it is gone");
    assert_eq!(node.heard(Kind::QueryRequest).len(), 1);
}

#[test]
fn pool_06_the_budget_of_all_calls_bounds_a_storm() {
    let node = Node::new(|heard| vec![Do::Say(heard.refusal(ErrorCode::Overloaded, 0))]);
    let retry = Retry { share: 0.25, reserve: 3, ..Retry::DEFAULT };
    let options = PoolOptions { retry, ..single() };
    let pool = Pool::new(node.listen("127.0.0.1:0"), options).expect("a pool");
    for _ in 0..40 {
        assert!(matches!(ask(&pool), Err(ClientError::Refused(_))));
    }
    let heard = node.heard(Kind::QueryRequest).len();
    assert!((43..=40 + 3 + 10).contains(&heard), "{heard}");
}

#[test]
fn a_deadline_ends_the_call_and_takes_the_request_back() {
    let (node, pool) = after(1, |_| vec![]);
    let began = Instant::now();
    let fault = pool.within(Duration::from_millis(60)).request(&echo(1), ROWS).expect_err("late");
    assert!(matches!(fault, ClientError::DeadlineExceeded { .. }), "{fault}");
    assert!(began.elapsed() >= Duration::from_millis(60));
    let cancel = &node.wait_for(Kind::ErrorReport, 1)[0];
    let asked = &node.heard(Kind::QueryRequest)[0];
    assert_eq!((cancel.id, cancel.conn), (asked.id, asked.conn));
    let payload = client::Buffer::copy_of(&cancel.payload);
    let report = wire::payload::open::<wire::payload::ErrorReport>(payload.as_slice());
    let code = report.expect("a report").code.to_native();
    assert_eq!(ErrorCode::from_code(code), Some(ErrorCode::Cancelled));
    assert_eq!(pool.stats().cancelled, 1);
    ask(&pool).expect("the connection lives");
    assert_eq!(node.accepted(), 1);
}

#[test]
fn what_the_node_asks_to_wait_beyond_the_deadline_is_not_waited_for() {
    let (node, pool) =
        after(1, |heard| vec![Do::Say(heard.refusal(ErrorCode::Overloaded, 60_000))]);
    match ask(&pool) {
        Err(ClientError::Refused(refusal)) => {
            assert_eq!(refusal.retry_after, Some(Duration::from_secs(60)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(node.heard(Kind::QueryRequest).len(), 1);
}

#[test]
fn a_request_that_states_its_own_time_has_no_more() {
    let (_node, pool) = after(1, |_| vec![]);
    let mut request = echo(1);
    request.routing_hint.timeout_ms = 40;
    match pool.request(&request, ROWS) {
        Err(ClientError::DeadlineExceeded { after, .. }) => assert_eq!(after.as_millis(), 40),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_can_be_taken_back_from_another_thread() {
    let (node, pool) = after(2, |_| vec![]);
    let pending = pool.submit(&echo(1), ROWS);
    let canceller = pending.canceller();
    let waiting = thread::spawn(move || pending.wait());
    node.wait_for(Kind::QueryRequest, 1);
    canceller.cancel();
    assert!(matches!(waiting.join().expect("a thread"), Err(ClientError::Cancelled)));
    drop(pool.submit(&echo(1), ROWS));
    // Dropped before it was sent or after: both are fine, and both leave the pool usable.
    let cancels = node.wait_for(Kind::ErrorReport, 1);
    assert_eq!(cancels[0].id, node.heard(Kind::QueryRequest)[0].id);
    pool.ping().expect("the connection lives");
}

#[test]
fn dropping_the_future_takes_the_request_back() {
    let (node, _) = after(usize::MAX, |_| vec![]);
    let addr = node.listen("127.0.0.1:0");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let pool = aio::Pool::new(addr, single()).expect("a pool");
        pool.ping().await.expect("an echo");
        let request = echo(1);
        let call = pool.request(&request, ROWS);
        let dropped = tokio::time::timeout(Duration::from_millis(30), call).await;
        assert!(dropped.is_err(), "{dropped:?}");
        // Behind it on the same connection.
        pool.ping().await.expect("an echo");
        assert_eq!((pool.stats().cancelled, pool.stats().in_flight), (1, 0));
    });
    assert_eq!(node.wait_for(Kind::ErrorReport, 1)[0].id, node.heard(Kind::QueryRequest)[0].id);
}

#[test]
fn late_answers_and_second_ones_are_dropped_and_counted() {
    let node = Node::new(|heard| match (heard.kind, heard.nth) {
        (Kind::QueryRequest, 0) => vec![],
        // The late answer to the first, then two to this one.
        (Kind::QueryRequest, 1) => {
            let first = Heard { id: 1, ..heard.clone() };
            let both = [first.echo(), heard.echo(), heard.echo()].concat();
            both.into_iter().map(Do::Say).collect()
        }
        _ => heard.sound(),
    });
    let pool = Pool::new(node.listen("127.0.0.1:0"), single()).expect("a pool");
    pool.within(Duration::from_millis(30)).request(&echo(1), ROWS).expect_err("late");
    ask(&pool).expect("the right one");
    pool.ping().expect("behind the second answer");
    assert_eq!(pool.stats().late, 2);
    assert_eq!(node.accepted(), 1);
}

#[test]
fn pool_02_many_callers_share_few_connections_and_each_gets_its_own_answer() {
    const CALLERS: usize = 200;
    let node = Node::new(Heard::sound);
    let limits = Limits { least: 2, most: 3, in_flight: 4, ..Limits::DEFAULT };
    let options = PoolOptions { limits, ..single() };
    let pool = Pool::new(node.listen("127.0.0.1:0"), options).expect("a pool");
    let work = TensorWork::echo(Dtype::U8, 1, 8);
    let request = QueryRequest { work, ..QueryRequest::default() };
    let calls: Vec<_> =
        (0..CALLERS).map(|n| pool.submit(&request, n.to_le_bytes().to_vec())).collect();
    for (n, call) in calls.into_iter().enumerate() {
        let answer = call.wait().expect("an answer");
        assert_eq!(
            answer.response().expect("a response").echo.expect("an echo").data,
            n.to_le_bytes()
        );
    }
    assert_eq!(node.heard(Kind::QueryRequest).len(), CALLERS);
    assert!((2..=3).contains(&node.most()), "{}", node.most());
    assert_eq!(pool.stats().in_flight, 0);
}

#[test]
fn pool_01_two_connections_are_warm_before_the_first_call_and_are_replaced_when_they_break() {
    let (go, gone) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let node = Node::new(move |heard| match heard.kind {
        Kind::Circuit => {
            let _ = gone.lock().expect("a lock").recv();
            vec![Do::Close]
        }
        _ => heard.sound(),
    });
    let pool = Pool::new(node.listen("127.0.0.1:0"), PoolOptions::default()).expect("a pool");
    let wait = |count: usize| {
        let give_up = Instant::now() + Duration::from_secs(20);
        while pool.stats().connected < count as u64 {
            assert!(Instant::now() < give_up, "{:?}", pool.stats());
            thread::sleep(Duration::from_millis(2));
        }
    };
    wait(2);
    assert_eq!((pool.stats().connections, pool.stats().calls), (2, 0));
    go.send(()).expect("a node");
    pool.call(Kind::Circuit, &[][..]).expect_err("closed");
    wait(3);
    ask(&pool).expect("a sound connection");
}

#[test]
fn pool_05_a_connection_that_died_while_idle_costs_no_call() {
    let node = Node::new(|heard| match (heard.kind, heard.conn) {
        (Kind::Heartbeat, 0) => vec![Do::Close],
        _ => heard.sound(),
    });
    let fresh = Duration::from_millis(10);
    let options = PoolOptions { limits: Limits { fresh, ..single().limits }, ..single() };
    let pool = Pool::new(node.listen("127.0.0.1:0"), options).expect("a pool");
    ask(&pool).expect("on the first connection");
    thread::sleep(fresh * 2);
    ask(&pool).expect("on the second");
    let stats = pool.stats();
    assert_eq!((stats.pings, stats.retries, node.accepted()), (1, 0, 2), "{stats:?}");
    assert_eq!(node.heard(Kind::QueryRequest).len(), 2);
}

#[test]
fn nobody_listening_is_tried_three_times_and_found_when_it_comes() {
    let node = Node::new(Heard::sound);
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let place = held.local_addr().expect("an address");
    drop(held);
    let pool = Pool::new(place.into(), single()).expect("a pool");
    let fault = ask(&pool).expect_err("nobody").to_string();
    assert!(fault.contains(&place.to_string()) && fault.contains("butterfly serve"), "{fault}");
    assert!(pool.stats().failures >= 3, "{:?}", pool.stats());
    node.listen(&place.to_string());
    // Its pauses between attempts are a second at most.
    let found = (0..10).any(|_| ask(&pool).is_ok());
    assert!(found, "{:?}", pool.stats());
}

#[test]
fn a_full_node_refuses_the_connection_and_is_asked_again() {
    let node = Node::new(|heard| match heard.conn {
        0 => vec![Do::Say(refusal(0, ErrorCode::TooManyConnections, 5)), Do::Close],
        _ => heard.sound(),
    });
    let pool = Pool::new(node.listen("127.0.0.1:0"), single()).expect("a pool");
    ask(&pool).expect("the second connection");
    assert_eq!(node.accepted(), 2);
}

#[test]
fn more_waiting_calls_than_allowed_are_refused_at_once() {
    let (node, _) = after(usize::MAX, |_| vec![]);
    let limits = Limits { in_flight: 1, ..single().limits };
    let options = PoolOptions { limits, waiting: 2, ..single() };
    let pool = Pool::new(node.listen("127.0.0.1:0"), options).expect("a pool");
    let first = pool.submit(&echo(1), ROWS);
    node.wait_for(Kind::QueryRequest, 1);
    let waiting = [pool.submit(&echo(1), ROWS), pool.submit(&echo(1), ROWS)];
    // The thread takes calls in order, so both wait by now.
    assert!(matches!(ask(&pool), Err(ClientError::Busy { waiting: 2 })));
    // In this order: a place that is free would be taken by who waits.
    drop((waiting, first));
    assert_eq!(node.wait_for(Kind::ErrorReport, 1).len(), 1, "only what was sent is taken back");
}

#[test]
fn chunks_come_in_order_and_a_break_in_the_middle_is_an_error_once() {
    let rows: Vec<u8> = (0..100 * ROWS.len()).map(|n| n as u8).collect();
    let (node, pool) = after(3, |heard| match heard.nth {
        // Before the first chunk it is safe to try again.
        0 => vec![Do::Close],
        1 => heard.sound(),
        _ => vec![Do::Say(heard.echo().remove(0)), Do::Close],
    });
    let mut whole = Vec::new();
    for (n, chunk) in pool.stream(&echo(100), rows.clone()).expect("a stream").enumerate() {
        let chunk = chunk.expect("a chunk");
        let response = chunk.response().expect("a response");
        assert_eq!(response.root.streaming_chunk.chunk_index.to_native() as usize, n);
        whole.extend_from_slice(response.echo.expect("an echo").data);
    }
    assert_eq!(whole, rows);
    assert_eq!(node.heard(Kind::QueryRequest).len(), 2);

    let mut broken = pool.stream(&echo(100), rows.clone()).expect("a stream");
    assert!(broken.next().is_some_and(|chunk| chunk.is_ok()));
    assert!(matches!(broken.next(), Some(Err(ClientError::Io { .. }))));
    assert!(broken.next().is_none());
    assert_eq!(node.heard(Kind::QueryRequest).len(), 3, "not tried again behind a chunk");

    let mut left = pool.stream(&echo(100), rows).expect("a stream");
    assert!(left.next().is_some_and(|chunk| chunk.is_ok()));
    drop(left);
    ask(&pool).expect("the connection lives");
}

#[test]
fn the_last_clone_closes_the_connections() {
    let node = Node::new(Heard::sound);
    let pool = Pool::new(node.listen("127.0.0.1:0"), single()).expect("a pool");
    let clone = pool.clone();
    drop(pool);
    ask(&clone).expect("a clone is enough");
    drop(clone);
    let give_up = Instant::now() + Duration::from_secs(20);
    while node.open() > 0 {
        assert!(Instant::now() < give_up, "a connection stays open");
        thread::sleep(Duration::from_millis(2));
    }
}
