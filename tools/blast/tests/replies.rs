//! What the checker lets pass and what it catches, with answers built the way a worker builds them.

use blast::{
    check::{Checker, Expect, Verdict},
    config::{Config, Op},
    reference,
    request::{Request, requests},
    tally::Fault,
};
use wire::{
    Dtype, ErrorCode, HEADER_LEN, Header, Kind, Operation, Work, error, flags, heartbeat,
    payload::{self, Heartbeat},
    reply, request, response,
};

const OK: Verdict = Verdict::Good;
const CONTENT: Verdict = Verdict::Bad(Fault::Content);

fn asked(op: Operation, spoil: fn(&mut Config)) -> Vec<Request> {
    let mut config = Config::new("127.0.0.1:1".parse().expect("an address"), Op::Work(op));
    config.size = Some(4_000);
    config.rows = 3;
    config.k = 7;
    spoil(&mut config);
    requests(&config).expect("requests")
}

fn checker(requests: &[Request]) -> Checker {
    Checker::new(requests.iter().map(|request| request.expect.clone()).collect(), 1 << 20)
}

/// The answer of a right worker, its data changed by `spoil` before it is sealed.
fn answer(request: &Request, spoil: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let payload = client::Buffer::copy_of(&request.frame[HEADER_LEN..]);
    let (_, work) = request::work(payload.as_slice()).expect("work");
    let rows = request::rows(payload.as_slice(), &work).expect("rows");
    let mut parts = Parts::of(&work, rows);
    spoil(&mut parts);
    parts.seal(&work)
}

/// The data of an answer, before it is laid out.
#[derive(Default)]
struct Parts {
    echo: Vec<u8>,
    indices: Vec<u32>,
    values: Vec<f32>,
    max: Vec<f32>,
    log_sum: Vec<f32>,
    counts: Vec<u32>,
    codes: Vec<i8>,
    scales: Vec<f32>,
    flags: Vec<u8>,
}

impl Parts {
    fn of(work: &Work, rows: &[u8]) -> Self {
        let mut parts = Self { flags: vec![0; work.rows as usize], ..Self::default() };
        let widened = reference::widen(rows, work.dtype);
        for row in widened.chunks_exact((work.cols as usize).max(1)) {
            match work.operation {
                Operation::TopK | Operation::LmHead => {
                    let top = reference::top_k(row, work.k as usize);
                    parts.counts.push(top.indices.len() as u32);
                    parts.indices.extend(top.indices);
                    parts.values.extend(top.values);
                    parts.max.push(top.max);
                    parts.log_sum.push(top.log_sum as f32);
                }
                Operation::Int8 => {
                    let block = reference::int8(row).expect("finite");
                    parts.codes.extend(block.codes);
                    parts.scales.push(block.scale);
                }
                Operation::Echo | Operation::Generate | Operation::Hidden | Operation::Fetch => {}
            }
        }
        if work.operation == Operation::Echo {
            parts.echo = rows.to_vec();
        }
        parts
    }

    fn seal(&self, work: &Work) -> Vec<u8> {
        let mut out = vec![0; reply::reply_len(work) as usize];
        let chunk = reply::chunks(work).next().expect("one chunk");
        let layout = reply::Layout::of(work, &chunk).expect("a layout");
        let room = &mut out[HEADER_LEN..];
        match &layout {
            reply::Layout::TopK(set) => {
                let parts = set.parts(room).expect("room");
                parts.indices.copy_from_slice(&self.indices);
                let values = self.values.iter().flat_map(|value| match work.values {
                    Dtype::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
                    Dtype::Bf16 => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
                    _ => value.to_le_bytes().to_vec(),
                });
                parts.values.copy_from_slice(&values.collect::<Vec<u8>>());
                parts.counts.copy_from_slice(&self.counts);
                parts.max.copy_from_slice(&self.max);
                parts.log_sum.copy_from_slice(&self.log_sum);
                parts.flags.copy_from_slice(&self.flags);
            }
            reply::Layout::Int8(block) => {
                let parts = block.parts(room).expect("room");
                parts.codes.copy_from_slice(&self.codes);
                parts.scales.copy_from_slice(&self.scales);
                parts.flags.copy_from_slice(&self.flags);
            }
            reply::Layout::Echo(echo) => {
                echo.parts(room).expect("room").data.copy_from_slice(&self.echo);
            }
            reply::Layout::Coded(_) => unreachable!("the load tool asks for plain answers"),
        }
        let stamp = reply::Stamp {
            message_id: 1,
            timestamp_ns: 1,
            query_id: [0; 16],
            operation: work.operation,
            // Differs between answers, and must not matter.
            compute_ns: self.flags.len() as u64 + self.values.len() as u64,
            chunk,
        };
        let mut author = reply::Author::new("w0", "cpu", "test");
        let len = reply::finish(&mut out, &layout, &mut author, &stamp).expect("room");
        out.truncate(len);
        out
    }
}

fn judge(checker: &mut Checker, index: usize, frame: &[u8]) -> Verdict {
    // Once where the payload is aligned, and once where it is not: the verdict is the same.
    let aligned = client::Buffer::copy_of(frame);
    let shifted: Vec<u8> = [&[0; 3], frame].concat();
    let header = *Header::peek(frame).expect("a header");
    let verdict = checker.check(index, &header, &aligned.as_slice()[HEADER_LEN..]);
    assert_eq!(checker.check(index, &header, &shifted[3 + HEADER_LEN..]), verdict);
    verdict
}

#[test]
fn right_answers_pass_again_and_again() {
    for (op, values) in [
        (Operation::Echo, Dtype::F16),
        (Operation::TopK, Dtype::F16),
        (Operation::TopK, Dtype::Bf16),
        (Operation::TopK, Dtype::F32),
        (Operation::Int8, Dtype::F16),
        (Operation::LmHead, Dtype::F32),
    ] {
        let spoil: fn(&mut Config) = match values {
            Dtype::F16 => |config| config.values = Dtype::F16,
            Dtype::Bf16 => |config| config.values = Dtype::Bf16,
            _ => |config| config.values = Dtype::F32,
        };
        let requests = asked(op, spoil);
        let mut checker = checker(&requests);
        for _ in 0..2 {
            for (index, request) in requests.iter().enumerate().take(4) {
                let frame = answer(request, |_| {});
                assert_eq!(judge(&mut checker, index, &frame), OK, "{op} {values}");
            }
        }
    }
}

#[test]
fn an_answer_to_another_request_is_caught() {
    for op in [Operation::Echo, Operation::TopK, Operation::Int8] {
        let requests = asked(op, |_| {});
        let mut checker = checker(&requests);
        let other = answer(&requests[1], |_| {});
        assert_eq!(judge(&mut checker, 0, &other), CONTENT, "{op} first");
        assert_eq!(judge(&mut checker, 0, &answer(&requests[0], |_| {})), OK);
        assert_eq!(judge(&mut checker, 0, &other), CONTENT, "{op} later");
    }
}

#[test]
fn every_wrong_number_is_caught_at_first_sight_and_later() {
    type Spoil = fn(&mut Parts);
    let cases: [(Operation, &[Spoil]); 3] = [
        (Operation::Echo, &[|parts| parts.echo[77] ^= 1]),
        (
            Operation::TopK,
            &[
                |parts| parts.indices.swap(7, 8),
                |parts| parts.values[20] += 0.1,
                |parts| parts.counts[1] = 6,
                |parts| parts.max[2] += 1.0,
                |parts| parts.log_sum[0] *= 1.001,
                |parts| parts.flags[0] |= flags::SHORT,
            ],
        ),
        (
            Operation::Int8,
            &[|parts| parts.codes[999] ^= 1, |parts| parts.scales[2] = parts.scales[2].next_up()],
        ),
    ];
    for (op, spoils) in cases {
        let requests = asked(op, |_| {});
        for (at, spoil) in spoils.iter().enumerate() {
            let mut checker = checker(&requests);
            let wrong = answer(&requests[0], spoil);
            assert_eq!(judge(&mut checker, 0, &wrong), CONTENT, "{op} {at} first");
            assert_eq!(judge(&mut checker, 0, &answer(&requests[0], |_| {})), OK, "{op} {at}");
            assert_eq!(judge(&mut checker, 0, &wrong), CONTENT, "{op} {at} later");
        }
    }
}

#[test]
fn lm_head_answers_must_be_plausible_and_stay_the_same() {
    let requests = asked(Operation::LmHead, |_| {});
    let mut fresh = checker(&requests);
    let rising = answer(&requests[0], |parts| parts.values.swap(3, 4));
    assert_eq!(judge(&mut fresh, 0, &rising), CONTENT);
    let twice = answer(&requests[0], |parts| parts.indices[3] = parts.indices[4]);
    assert_eq!(judge(&mut fresh, 0, &twice), CONTENT);
    assert_eq!(judge(&mut fresh, 0, &answer(&requests[0], |_| {})), OK);
    // Plausible on its own, but not what was said before.
    let changed = answer(&requests[0], |parts| parts.log_sum[1] += 0.5);
    assert_eq!(judge(&mut checker(&requests), 0, &changed), OK);
    assert_eq!(judge(&mut fresh, 0, &changed), CONTENT);
}

#[test]
fn damage_on_the_way_is_told_by_its_layer() {
    let requests = asked(Operation::Echo, |_| {});
    let sound = answer(&requests[0], |_| {});
    let mut checker = checker(&requests);
    let mut flipped = sound.clone();
    flipped[HEADER_LEN + 99] ^= 0x20;
    assert_eq!(judge(&mut checker, 0, &flipped), Verdict::Bad(Fault::Checksum));
    // Two flips that no CRC-16 sees: the check inside does.
    let mut blind = sound.clone();
    blind[HEADER_LEN] ^= 0x80;
    blind[HEADER_LEN + 4_095] ^= 0x01;
    assert_eq!(wire::check::crc16(&blind[HEADER_LEN..]), wire::check::crc16(&sound[HEADER_LEN..]));
    assert_eq!(judge(&mut checker, 0, &blind), Verdict::Bad(Fault::Archive));
    let payload = [0xFF; 512];
    let header = Header::for_payload(Kind::QueryResponse, 1, 0, &payload);
    assert_eq!(checker.check(0, &header, &payload), Verdict::Bad(Fault::Archive));
    let header = Header::for_payload(Kind::MetricsUpdate, 1, 0, &payload);
    assert_eq!(checker.check(0, &header, &payload), Verdict::Bad(Fault::Kind));
}

#[test]
fn refusals_are_read_and_false_ones_are_not_believed() {
    let requests = asked(Operation::Echo, |_| {});
    let mut checker = checker(&requests);
    let mut frame = vec![0; error::FRAME_MAX];
    let refusal = error::Refusal::new(ErrorCode::DeadlineExceeded, 1);
    let len = error::write_frame(&mut frame, 1, 0, &refusal);
    frame.truncate(len);
    assert_eq!(judge(&mut checker, 0, &frame), Verdict::Refused(ErrorCode::DeadlineExceeded));
    let header = Header::for_payload(Kind::ErrorReport, 1, 0, &[0; 64]);
    assert_eq!(checker.check(0, &header, &[0; 64]), Verdict::Bad(Fault::Archive));
}

#[test]
fn a_heartbeat_must_repeat_its_timestamp() {
    let config = Config::new("127.0.0.1:1".parse().expect("an address"), Op::Heartbeat);
    let requests = requests(&config).expect("requests");
    assert!(matches!(requests[0].expect, Expect::Heartbeat { .. }));
    let asked = client::Buffer::copy_of(&requests[0].frame[HEADER_LEN..]);
    let asked = payload::open::<Heartbeat>(asked.as_slice()).expect("a heartbeat");
    let pulse = heartbeat::Pulse {
        sender_id: [1; 16],
        received_ns: 5,
        replied_ns: 6,
        current_queries: 0,
        max_concurrent: 0,
        avg_latency_ms: 0.0,
    };
    let mut frame = vec![0; heartbeat::FRAME_LEN];
    assert_eq!(heartbeat::write_reply(&mut frame, asked, 1, &pulse), heartbeat::FRAME_LEN);
    let mut checker = checker(&requests);
    assert_eq!(judge(&mut checker, 0, &frame), OK);
    let mut other = Vec::new();
    wire::frame::append(&mut other, &Heartbeat::default(), 1, 0).expect("room");
    assert_eq!(judge(&mut checker, 0, &other), CONTENT);
    // The answers of the builder are answers for the reader too.
    assert!(response::read(&frame[HEADER_LEN..]).is_err());
}
