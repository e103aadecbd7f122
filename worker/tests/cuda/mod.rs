//! The unmodified worker process with a driver that has no device: same answers as the CPU's, and
//! no order lost or doubled when something fails.

mod codings;
mod failures;
mod leases;
mod timing;

use crate::{
    faults::sealed,
    support::{BULK, Request, Rig, tensor},
};
use link::hello::Answer;
use safetensors::tensor::TensorView;
use wire::{Coding, Dtype, ErrorCode, payload::TensorWork, response};
use worker::{Args, Choice};

/// What is asked of a worker in these tests.
pub(crate) struct Ask {
    slot: u32,
    work: TensorWork,
    rows: Vec<u8>,
    streaming: bool,
}

fn ask(slot: u32, work: TensorWork, rows: &[u8]) -> Ask {
    let len = work.rows as usize * work.cols as usize;
    let size = Dtype::from_code(work.dtype).expect("a type").size();
    Ask { slot, work, rows: rows[..len * size].to_vec(), streaming: false }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// Rows that kernels get wrong first: ties, zeros of both signs, infinities, NaN, subnormals.
fn odd_rows(cols: usize) -> Vec<u8> {
    let odd = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -1e-40, 1.0];
    let row = |of: fn(usize, &[f32; 8]) -> f32| (0..cols).map(move |at| of(at, &odd));
    let all: Vec<f32> = row(|at, odd| odd[at % 8])
        .chain(row(|_, _| 1.0))
        .chain(row(|at, _| at as f32))
        .chain(row(|_, _| f32::NAN))
        .chain(row(|at, _| ((at * 7919) % 13) as f32))
        .collect();
    bytes(&all)
}

/// Orders of every operation and type over many slots.
pub(crate) fn asks() -> Vec<Ask> {
    let head = tensor("logits.safetensors", "head.f32");
    let wide = tensor("logits.safetensors", "wide.bf16");
    let tied = tensor("logits.safetensors", "tied.f16");
    let hidden = tensor("hidden.safetensors", "hidden.f16");
    let wide_hidden = tensor("hidden.safetensors", "outlier.f32");
    let topk = TensorWork::topk;
    let mut asks = vec![
        ask(BULK, topk(Dtype::F32, 3, 30_522, 100, Dtype::F16), &head),
        ask(BULK + 1, topk(Dtype::Bf16, 1, 128_256, 1024, Dtype::Bf16), &wide),
        ask(BULK + 2, topk(Dtype::F16, 2, 30_522, 100, Dtype::F16), &tied),
        ask(BULK + 3, TensorWork::int8(Dtype::F32, 40, 384), &wide_hidden),
        ask(0, topk(Dtype::F32, 5, 257, 20, Dtype::F32), &odd_rows(257)),
        ask(1, TensorWork::int8(Dtype::F32, 5, 257), &odd_rows(257)),
        ask(2, topk(Dtype::F32, 1, 1, 5, Dtype::F16), &bytes(&[3.5])),
        ask(3, TensorWork::echo(Dtype::U8, 2, 50), &hidden),
        ask(4, topk(Dtype::F32, 5, 257, 20, Dtype::F32), &odd_rows(257)),
        ask(5, topk(Dtype::F32, 1, 1500, 7, Dtype::Bf16), &head),
    ];
    for slot in 6..14 {
        asks.push(ask(slot, TensorWork::int8(Dtype::F16, 2, 384), &hidden[slot as usize * 768..]));
    }
    // Odd widths: rows that begin at no better address than their element needs.
    asks.push(ask(14, TensorWork::int8(Dtype::Bf16, 3, 101), &wide));
    asks.push(ask(15, topk(Dtype::Bf16, 3, 101, 9, Dtype::F16), &wide));
    asks.push(ask(16, topk(Dtype::F16, 3, 333, 50, Dtype::F32), &tied));
    // Coded by the host from sets of the device.
    for (slot, coding) in (20..).zip([Coding::SetF16, Coding::SetU8, Coding::SetSteps]) {
        let work = topk(Dtype::F32, 3, 501, 40, Dtype::F16).coded(coding, 0.0);
        asks.push(ask(slot, work, &head));
    }
    let adaptive = topk(Dtype::F16, 34, 21, 5, Dtype::F16).coded(Coding::SetTiered, 0.9);
    asks.push(Ask { streaming: true, ..ask(BULK + 4, adaptive, &tied) });
    asks.push(ask(24, TensorWork::hidden(Dtype::F16, 2, 384, Coding::Int8Group, 0.0), &hidden));
    // More rows than a wave has tables for.
    asks.push(ask(BULK + 6, TensorWork::int8(Dtype::F16, 60_000, 1), &hidden));
    // In several frames.
    let streamed = ask(17, topk(Dtype::F16, 34, 21, 2, Dtype::F16), &tied);
    asks.push(Ask { streaming: true, ..streamed });
    let streamed = ask(18, TensorWork::int8(Dtype::F32, 33, 20), &wide_hidden);
    asks.push(Ask { streaming: true, ..streamed });
    asks
}

fn load(rig: &mut Rig, asks: &[Ask]) -> Vec<u32> {
    for Ask { slot, work, rows, streaming } in asks {
        rig.load(*slot, &Request { work: *work, rows, streaming: *streaming });
    }
    asks.iter().map(|ask| ask.slot).collect()
}

/// Everything of a reply that is computed, bit by bit.
fn answer(rig: &Rig, slot: u32) -> Vec<String> {
    let frames = rig.frames(slot).into_iter();
    frames
        .map(|frame| {
            let reply = response::read(frame).expect("a whole answer");
            let chunk = &reply.root.streaming_chunk;
            let place =
                (chunk.chunk_index.to_native(), chunk.first_row.to_native(), chunk.is_final);
            let sets = reply.logits.map(|set| {
                let bits = |of: &[f32]| of.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                let (max, log_sum) = (bits(set.max), bits(set.log_sum));
                let shape = (set.rows, set.cols, set.k);
                format!(
                    "{shape:?} {:?} {:?} {:?} {max:x?} {log_sum:x?} {:?}",
                    set.indices, set.values, set.counts, set.flags
                )
            });
            let block = reply.hidden_states.map(|block| {
                let scales: Vec<_> = block.scales.iter().map(|x| x.to_bits()).collect();
                format!("{:?} {scales:x?} {:?}", block.codes, block.flags)
            });
            let echo = reply.echo.map(|echo| echo.data.to_vec());
            let coded = reply.coded.map(|coded| {
                let rows: Vec<_> = (0..coded.rows as usize).map(|row| coded.row(row)).collect();
                let shape = (coded.coding, coded.k, coded.cols, coded.data.len());
                format!("{shape:?} {:x?} {rows:x?} {:?}", coded.basis, coded.flags)
            });
            format!("{place:?} {sets:?} {block:?} {echo:?} {coded:?}")
        })
        .collect()
}

/// What one core answers.
pub(crate) fn expected(asks: &[Ask], weights: Option<&str>) -> Vec<Vec<String>> {
    let args = Args { backend: Choice::Cpu, ..Args::default() };
    told(Rig::start(args, weights), asks)
}

/// What a worker that completes in order answers.
fn told(mut rig: Rig, asks: &[Ask]) -> Vec<Vec<String>> {
    let slots = load(&mut rig, asks);
    rig.run(&slots);
    slots.iter().map(|slot| answer(&rig, *slot)).collect()
}

/// Asks a worker and compares each answer with the CPU's.
pub(crate) fn compare(rig: &mut Rig, asks: &[Ask], expected: &[Vec<String>], what: &str) {
    let slots = load(rig, asks);
    rig.run_all(&slots);
    for (ask, expected) in asks.iter().zip(expected) {
        assert_eq!(&answer(rig, ask.slot), expected, "{what}, slot {}", ask.slot);
    }
}

/// Backend and reason of a slot's reply.
pub(crate) fn signed(rig: &Rig, slot: u32) -> (String, String) {
    let reply = response::read(rig.frames(slot)[0]).expect("a whole answer");
    let metadata = &reply.root.metadata;
    (metadata.backend.to_string(), metadata.backend_reason.to_string())
}

fn ready(rig: &Rig) -> (String, String) {
    match &rig.answer {
        Answer::Ready { backend, text, .. } => (backend.clone(), text.clone()),
        other => panic!("{other:?}"),
    }
}

/// COMP, BATCH-07: whatever the order in which the device does its work, every byte that is
/// computed is the CPU's, and the reply says which side computed it.
#[test]
fn comp_the_device_gives_the_bits_of_the_cpu() {
    let asks = asks();
    let expected = expected(&asks, None);
    for seed in ["0", "1", "7"] {
        let mut rig = Rig::process("cuda", None, &[("FAKE_CUDA_SEED", seed)]);
        let (backend, text) = ready(&rig);
        assert_eq!(backend, "cuda");
        assert!(text.contains("Fake 0, 132 MiB of device memory"), "{text}");
        assert!(text.contains("segment pinned"), "{text}");
        assert!(text.contains("24 MiB of pinned memory"), "{text}");
        compare(&mut rig, &asks, &expected, seed);
        assert_eq!(signed(&rig, 0), ("cuda".into(), "asked for".into()));
        assert_eq!(signed(&rig, 3).0, "cpu", "an echo needs no device");
        let too_long = ("cpu".into(), "larger than a wave of the device".into());
        assert_eq!(signed(&rig, BULK + 6), too_long);
        assert_eq!(signed(&rig, 20).0, "cuda", "sets are coded from the device's");
        // And again, over what the first left in the slots.
        compare(&mut rig, &asks, &expected, seed);
        assert_eq!(rig.close(), 0);
    }
}

/// COMP: hidden rows in, sets out; rows of several orders share a tile.
#[test]
fn comp_lm_head_on_the_device_gives_the_bits_of_the_cpu() {
    let features = tensor("lm_head_rows.safetensors", "features");
    let work = |rows, k| TensorWork::lm_head(Dtype::F16, rows, 384, k, Dtype::F32);
    let asks = [
        ask(0, work(1, 100), &features),
        ask(1, work(2, 7), &features[768..]),
        ask(2, work(1, 100), &features[4 * 768..]),
        ask(3, TensorWork::int8(Dtype::F16, 2, 384), &features),
        ask(4, work(2, 50).coded(Coding::SetSteps, 0.99), &features),
    ];
    let weights = Some("lm_head.safetensors");
    let expected = expected(&asks, weights);
    let mut rig = Rig::process("cuda", weights, &[]);
    let (_, text) = ready(&rig);
    assert!(text.contains("weights of 7 MiB") || text.contains("weights of 6 MiB"), "{text}");
    compare(&mut rig, &asks, &expected, "lm-head");
    assert_eq!(signed(&rig, 0).0, "cuda");
}

/// COMP: where cuBLASLt is there, it multiplies hidden rows of the weights' own type, and the reply
/// says so: the same sets as the CPU's, but for entries that are next to equal. Others go to our
/// kernel and have the CPU's bits.
#[test]
fn comp_lm_head_by_a_library_is_near_and_says_so() {
    let features = tensor("lm_head_rows.safetensors", "features");
    let wide = tensor("hidden.safetensors", "outlier.f32");
    let work = |dtype, rows| TensorWork::lm_head(dtype, rows, 384, 20, Dtype::F32);
    let asks = [
        ask(0, work(Dtype::F16, 2), &features),
        ask(1, work(Dtype::F16, 1), &features[7 * 768..]),
        ask(2, work(Dtype::F32, 1), &wide),
        ask(BULK, work(Dtype::F16, 9), &features[768..]),
    ];
    let weights = Some("lm_head.safetensors");
    let expected = expected(&asks, weights);
    let mut cpu = Rig::start(Args { backend: Choice::Cpu, ..Args::default() }, weights);
    let slots = load(&mut cpu, &asks);
    cpu.run(&slots);
    let variables = [("FAKE_CUDA_BLAS", "1"), ("FAKE_CUDA_SEED", "2")];
    let mut rig = Rig::process("cuda", weights, &variables);
    assert!(ready(&rig).1.contains("product by cuBLASLt"), "{:?}", rig.answer);
    let slots = load(&mut rig, &asks);
    rig.run_all(&slots);
    assert_eq!(answer(&rig, 2), expected[2]);
    assert_eq!(signed(&rig, 2), ("cuda".into(), "asked for".into()));
    for slot in [0, 1, BULK] {
        let library = ("cuda".into(), "asked for; product by cuBLASLt".into());
        assert_eq!(signed(&rig, slot), library);
        let ours = rig.reply(slot).logits.expect("sets");
        let theirs = cpu.reply(slot).logits.expect("sets");
        for row in 0..ours.rows as usize {
            let values = ours.row_values_f32(row).zip(theirs.row_values_f32(row));
            for (ours, theirs) in values {
                assert!((ours - theirs).abs() < 1e-4, "slot {slot}: {ours} {theirs}");
            }
            assert_eq!(ours.row_indices(row)[0], theirs.row_indices(row)[0]);
            assert!((ours.log_sum[row] - theirs.log_sum[row]).abs() < 1e-4);
        }
    }
}

/// COMP: more rows than one launch has scratch for.
#[test]
fn comp_many_rows_take_several_launches() {
    let head = tensor("logits.safetensors", "head.f32");
    let work = TensorWork::topk(Dtype::F32, 340, 3, 2, Dtype::F16);
    let asks = [ask(BULK, work, &head)];
    let mut rig = Rig::process("cuda", None, &[]);
    compare(&mut rig, &asks, &expected(&asks, None), "many rows");
}

/// COMP: more hidden rows than a tile has room for, f32 weights, with a bias, from orders that want
/// different sets.
#[test]
fn comp_lm_head_goes_tile_by_tile() {
    let (vocabulary, width) = (41_usize, 17_usize);
    let number = |at: usize| ((at * 7919) % 1013) as f32 / 97.0 - 5.0;
    let weight: Vec<f32> = (0..vocabulary * width).map(number).collect();
    let bias: Vec<f32> = (0..vocabulary).map(|at| number(at + 5)).collect();
    let view = |shape: Vec<usize>, data| {
        TensorView::new(safetensors::Dtype::F32, shape, data).expect("a tensor")
    };
    let tensors = [
        ("weight", view(vec![vocabulary, width], bytemuck::cast_slice(&weight))),
        ("bias", view(vec![vocabulary], bytemuck::cast_slice(&bias))),
    ];
    let file = sealed(&safetensors::serialize(tensors, None).expect("a file"));
    let hidden = tensor("hidden.safetensors", "outlier.f32");
    let work = |rows, k| TensorWork::lm_head(Dtype::F32, rows, 17, k, Dtype::F32);
    let asks = [
        ask(BULK, work(70, 5), &hidden),
        ask(0, work(3, 41), &hidden[68..]),
        ask(BULK + 1, work(9, 5), &hidden[680..]),
    ];
    let args = Args { backend: Choice::Cpu, ..Args::default() };
    let mut cpu = Rig::offer(args, Some(&file), |_| {});
    let slots = load(&mut cpu, &asks);
    cpu.run(&slots);
    let expected: Vec<_> = slots.iter().map(|slot| answer(&cpu, *slot)).collect();
    for seed in ["0", "5"] {
        let mut rig = Rig::process_with("cuda", Some(&file), &[("FAKE_CUDA_SEED", seed)]);
        compare(&mut rig, &asks, &expected, seed);
        assert_eq!(signed(&rig, BULK).0, "cuda");
    }
}

/// Without registered memory everything goes by copies, and the answer says so.
#[test]
fn comp_without_pinning_the_answers_are_the_same() {
    let asks = asks();
    let expected = expected(&asks, None);
    for seed in ["0", "3"] {
        let variables = [("FAKE_CUDA_FAIL", "register"), ("FAKE_CUDA_SEED", seed)];
        let mut rig = Rig::process("cuda", None, &variables);
        let (_, text) = ready(&rig);
        assert!(text.contains("staged copies"), "{text}");
        compare(&mut rig, &asks, &expected, "unregistered");
    }
}

/// The order's own checks are made on the way to a device too.
#[test]
fn query_09_orders_for_the_device_are_checked() {
    let mut rig = Rig::process("cuda", None, &[]);
    let rows = vec![9; 6000];
    let request = Request::new(TensorWork::int8(Dtype::F16, 1, 3000), &rows);
    let len = request.payload().len();
    for slot in 0..4 {
        let work = rig.load(slot, &request);
        match slot {
            1 => rig.shard.request_mut(1)[4321] ^= 16,
            2 => rig.order(2, &work, len, 1),
            3 => rig.order(3, &work, 1 << 30, 0),
            _ => {}
        }
    }
    let lm_head = TensorWork::lm_head(Dtype::F16, 1, 4, 1, Dtype::F16);
    rig.load(5, &Request::new(lm_head, &[0; 8]));
    let head = tensor("logits.safetensors", "head.f32");
    let long = TensorWork::topk(Dtype::F32, 16, 300, 300, Dtype::F32);
    rig.load(6, &Request::new(TensorWork { rows: 1, cols: 1200, k: 1024, ..long }, &head[..4800]));
    rig.run_all(&[0, 1, 2, 3, 5, 6]);
    assert!(rig.reply(0).hidden_states.is_some());
    assert_eq!(rig.status(1), Some(ErrorCode::BadCheck));
    assert_eq!(rig.status(2), Some(ErrorCode::DeadlineExceeded));
    assert_eq!(rig.status(3), Some(ErrorCode::BadRequest));
    assert_eq!(rig.status(5), Some(ErrorCode::NoCapableWorker));
    assert_eq!(rig.status(6), Some(ErrorCode::ReplyTooLong));
}

/// `auto` sends each order where it is sooner, and says what it compared.
#[test]
fn comp_auto_chooses_by_what_it_measured() {
    let asks = asks();
    let expected = expected(&asks, None);
    let mut rig = Rig::process("auto", None, &[]);
    let (backend, text) = ready(&rig);
    assert_eq!(backend, "cuda");
    assert!(text.contains("each order where it is sooner"), "{text}");
    compare(&mut rig, &asks, &expected, "auto");
    let (backend, reason) = signed(&rig, BULK);
    // A device of fibers is never the faster one.
    assert_eq!(backend, "cpu");
    assert!(reason.contains("one core") && reason.contains("device"), "{reason}");
}
