//! Every operation on real tensors, against answers that other software computed.

use crate::support::{BULK, Request, Rig, elements, tensor};
use half::{bf16, f16};
use wire::{Dtype, ErrorCode, Operation, flags, payload::TensorWork, response};
use worker::{Args, Choice, Poll, sandbox::Mode};

const CPU: Args =
    Args { backend: Choice::Cpu, poll: Poll::Balanced, device: 0, sandbox: Mode::Off };

/// COMP: top-k of f32 rows: values and indices exactly, log-sum-exp to 1e-6.
#[test]
fn comp_topk_of_f32_rows_agrees_with_the_oracle() {
    let mut rig = Rig::start(CPU, None);
    let rows = tensor("logits.safetensors", "head.f32");
    let k = 100;
    rig.load(BULK, &Request::new(TensorWork::topk(Dtype::F32, 16, 30522, k, Dtype::F32), &rows));
    rig.run(&[BULK]);
    let reply = rig.reply(BULK).logits.expect("top-k sets");
    let indices: Vec<i32> = elements("topk.safetensors", "head.f32.k100.indices");
    let values: Vec<f32> = elements("topk.safetensors", "head.f32.k100.values");
    let sums: Vec<f64> = elements("topk.safetensors", "head.f32.logsumexp");
    assert_eq!((reply.rows, reply.k, reply.cols), (16, k, 30522));
    assert!(reply.indices.iter().zip(&indices).all(|(ours, theirs)| *ours == *theirs as u32));
    for row in 0..16 {
        let expected = &values[row * 100..][..100];
        assert!(reply.row_values_f32(row).eq(expected.iter().copied()), "row {row}");
        assert!((reply.logsumexp(row).expect("row") - sums[row]).abs() < 1e-6);
        assert_eq!(reply.flags[row], 0);
    }
}

/// COMP: bf16 rows of a wide vocabulary with many ties, the largest k, values as they came; and
/// f16.
#[test]
fn comp_topk_of_half_rows_agrees_with_the_oracle() {
    let mut rig = Rig::start(CPU, None);
    let wide = tensor("logits.safetensors", "wide.bf16");
    let tied = tensor("logits.safetensors", "tied.f16");
    let work = TensorWork::topk(Dtype::Bf16, 4, 128_256, 1024, Dtype::Bf16);
    rig.load(BULK, &Request::new(work, &wide));
    let work = TensorWork::topk(Dtype::F16, 4, 30_522, 100, Dtype::F16);
    rig.load(BULK + 1, &Request::new(work, &tied));
    rig.run(&[BULK, BULK + 1]);

    let reply = rig.reply(BULK).logits.expect("top-k sets");
    let indices: Vec<i32> = elements("topk.safetensors", "wide_bf16.bf16.k1024.indices");
    assert!(reply.indices.iter().zip(&indices).all(|(ours, theirs)| *ours == *theirs as u32));
    assert_eq!(reply.values, tensor("topk.safetensors", "wide_bf16.bf16.k1024.values"));
    let reply = rig.reply(BULK + 1).logits.expect("top-k sets");
    let indices: Vec<i32> = elements("topk.safetensors", "tied.f16.k100.indices");
    assert!(reply.indices.iter().zip(&indices).all(|(ours, theirs)| *ours == *theirs as u32));
    assert_eq!(reply.values, tensor("topk.safetensors", "tied.f16.k100.values"));
}

/// Values may be asked for in another type than the rows: rounded to nearest even.
#[test]
fn comp_values_are_rounded_to_the_type_asked_for() {
    let mut rig = Rig::start(CPU, None);
    let rows = [1.0_f32, 1.000_976_6 + 0.000_4, 65_519.9, f32::NAN, -0.0];
    let bytes: &[u8] = bytemuck::cast_slice(&rows);
    for (slot, dtype) in (0..).zip([Dtype::F32, Dtype::F16, Dtype::Bf16]) {
        rig.load(slot, &Request::new(TensorWork::topk(Dtype::F32, 1, 5, 5, dtype), bytes));
    }
    rig.run(&[0, 1, 2]);
    let best = [rows[2], rows[1], rows[0], 0.0];
    for slot in 0..3 {
        let reply = rig.reply(slot).logits.expect("a set");
        let expected = best.map(|value| match slot {
            0 => value,
            1 => f16::from_f32(value).to_f32(),
            _ => bf16::from_f32(value).to_f32(),
        });
        assert!(reply.row_values_f32(0).eq(expected), "slot {slot}");
        assert_eq!(reply.row_indices(0), [2, 1, 0, 4]);
        assert_eq!(reply.flags, [flags::NAN | flags::SHORT]);
        assert_eq!(reply.indices[4], 0, "nothing beyond the count leaves");
    }
}

/// COMP: int8 of f16 and f32 hidden rows: codes and scales exactly.
#[test]
fn comp_int8_agrees_with_the_oracle() {
    let mut rig = Rig::start(CPU, None);
    for (name, dtype, rows) in [
        ("hidden.f16", Dtype::F16, 256),
        ("hidden.f32", Dtype::F32, 64),
        ("outlier.f32", Dtype::F32, 64),
    ] {
        let hidden = tensor("hidden.safetensors", name);
        rig.load(BULK, &Request::new(TensorWork::int8(dtype, rows, 384), &hidden));
        rig.run(&[BULK]);
        let reply = rig.reply(BULK).hidden_states.expect("a block");
        let codes: Vec<i8> = elements("int8.safetensors", &format!("{name}.codes"));
        let scales: Vec<f32> = elements("int8.safetensors", &format!("{name}.scales"));
        assert_eq!((reply.rows, reply.cols), (rows, 384));
        assert!(reply.codes == codes && reply.scales == scales, "{name}");
        assert_eq!(rig.outcome(BULK).copied, 0, "computed in place");
    }
}

/// An echo brings every byte back, of every type, and says that it copied them.
#[test]
fn an_echo_is_what_was_sent() {
    let mut rig = Rig::start(CPU, None);
    let bytes: Vec<u8> = (0..3_000_u32).map(|byte| (byte * 7) as u8).collect();
    for (slot, dtype) in (0..).zip([Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::U8]) {
        let cols = 300 / dtype.size() as u32;
        rig.load(slot, &Request::new(TensorWork::echo(dtype, 10, cols), &bytes));
    }
    rig.run(&[0, 1, 2, 3]);
    for slot in 0..4 {
        assert_eq!(rig.reply(slot).echo.expect("a tensor").data, bytes);
        assert_eq!(rig.outcome(slot).copied, 3_000);
    }
}

/// QUERY: a streamed answer is several frames back to back, and together they are the whole answer.
#[test]
fn query_streaming_sends_chunks_of_rows() {
    let mut rig = Rig::start(CPU, None);
    let hidden = tensor("hidden.safetensors", "hidden.f16");
    let rows = &hidden[..100 * 768];
    let work = TensorWork::int8(Dtype::F16, 100, 384);
    rig.load(BULK, &Request { work, rows, streaming: true });
    rig.load(BULK + 1, &Request::new(work, rows));
    rig.run(&[BULK, BULK + 1]);
    let whole = rig.reply(BULK + 1).hidden_states.expect("a block");
    let frames = rig.frames(BULK);
    assert_eq!(frames.len(), 4);
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for (at, frame) in frames.iter().enumerate() {
        let chunk = response::read(frame).expect("a whole answer");
        let place = &chunk.root.streaming_chunk;
        assert_eq!(place.chunk_index.to_native() as usize, at);
        assert_eq!(place.first_row.to_native() as usize, scales.len());
        assert_eq!(place.is_final, at == 3);
        let block = chunk.hidden_states.expect("a block");
        codes.extend_from_slice(block.codes);
        scales.extend_from_slice(block.scales);
    }
    assert!(codes == whole.codes && scales == whole.scales);
}

/// COMP: lm-head of real rows: values near the float64 oracle, and the logits nowhere in the reply.
#[test]
fn comp_lm_head_agrees_with_the_oracle() {
    let mut rig = Rig::start(CPU, Some("lm_head.safetensors"));
    let features = tensor("lm_head_rows.safetensors", "features");
    let work = TensorWork::lm_head(Dtype::F16, 64, 384, 100, Dtype::F32);
    rig.load(BULK, &Request::new(work, &features));
    rig.run(&[BULK]);
    let reply = rig.reply(BULK).logits.expect("top-k sets");
    assert_eq!((reply.rows, reply.k, reply.cols), (64, 100, 8192));
    let values: Vec<f64> = elements("lm_head_rows.safetensors", "top100.values");
    let indices: Vec<i32> = elements("lm_head_rows.safetensors", "top100.indices");
    let sums: Vec<f64> = elements("lm_head_rows.safetensors", "logsumexp");
    for row in 0..64 {
        let theirs = &values[row * 100..][..100];
        for (ours, theirs) in reply.row_values_f32(row).zip(theirs) {
            assert!((f64::from(ours) - theirs).abs() < 2e-5, "row {row}: {ours} {theirs}");
        }
        assert_eq!(reply.row_indices(row)[0] as i32, indices[row * 100], "row {row}");
        assert!((reply.logsumexp(row).expect("row") - sums[row]).abs() < 1e-5);
    }
}

/// BATCH: the rows of a whole batch share tiles, and nobody notices: same bits as alone, whoever
/// else is in the batch, and refused neighbours take nothing with them.
#[test]
fn batch_lm_head_gives_each_order_what_it_gets_alone() {
    let mut rig = Rig::start(CPU, Some("lm_head.safetensors"));
    let features = tensor("lm_head_rows.safetensors", "features");
    let counts = [1_u32, 3, 2, 40, 1, 30, 2, 5];
    let work = |rows| TensorWork::lm_head(Dtype::F16, rows, 384, 7, Dtype::F16);
    let rows = |count: u32| &features[..count as usize * 768];
    let place = |at: usize| if counts[at] > 9 { BULK + at as u32 % 4 } else { at as u32 };
    let mut alone = Vec::new();
    for (at, count) in counts.into_iter().enumerate() {
        rig.load(place(at), &Request { work: work(count), rows: rows(count), streaming: true });
        rig.run(&[place(at)]);
        let frames = rig.frames(place(at));
        let sets = frames.iter().map(|frame| response::read(frame).expect("whole").logits);
        alone.push(sets.map(|set| set.expect("set").values.to_vec()).collect::<Vec<_>>());
    }
    // Together, with orders between them that are refused: spoilt rows, another width, another
    // operation.
    let echo: &[u8] = &features[..1000];
    rig.load(20, &Request::new(TensorWork::echo(Dtype::U8, 1, 1000), echo));
    rig.load(21, &Request::new(TensorWork::lm_head(Dtype::F16, 2, 192, 7, Dtype::F16), rows(1)));
    rig.load(22, &Request::new(work(8), rows(8)));
    rig.shard.request_mut(22)[1000] ^= 1;
    let batch: Vec<u32> = [0, 1, 22, 2, 3, 21, 4, 5, 20, 6, 7]
        .map(|at| if at < 9 { place(at) } else { at as u32 })
        .to_vec();
    rig.run(&batch);
    for (at, expected) in alone.iter().enumerate() {
        let frames = rig.frames(place(at));
        for (frame, expected) in frames.iter().zip(expected) {
            let set = response::read(frame).expect("whole").logits.expect("set");
            assert_eq!(set.values, expected, "order {at}");
        }
    }
    assert_eq!(rig.status(22), Some(ErrorCode::BadCheck));
    assert_eq!(rig.status(21), Some(ErrorCode::BadShape));
    assert_eq!(rig.reply(20).echo.expect("a tensor").data, echo);
}

/// The replies name worker, backend and reason, and the operation.
#[test]
fn query_replies_say_who_computed_and_why_there() {
    let mut rig = Rig::start(CPU, None);
    let request = TensorWork::topk(Dtype::F32, 1, 2, 1, Dtype::F32);
    rig.load(0, &Request::new(request, &[0; 8]));
    rig.run(&[0]);
    let root = rig.reply(0).root;
    assert_eq!(&*root.worker_id, "worker-0");
    assert_eq!(&*root.metadata.backend, "cpu");
    assert_eq!(&*root.metadata.backend_reason, "asked for");
    assert_eq!(&*root.metadata.capability_used, Operation::TopK.name());
    assert!(rig.outcome(0).started_ns > 0);
}
