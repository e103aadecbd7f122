//! Coded answers from the device: the CPU's, byte for byte.

use super::{Ask, ask, bytes, compare, odd_rows, ready, signed, told};
use crate::{
    coded::learned,
    support::{BULK, Request, Rig, sample, tensor},
};
use link::{SharedFile, hello::Answer};
use std::sync::OnceLock;
use wire::{Coding, Dtype, ErrorCode, payload::TensorWork};
use worker::{Args, Choice};

/// Hidden rows of 384 entries that a coding meets seldom: not finite, all zero, one spike.
fn odd_hidden() -> Vec<u8> {
    let mut spike = vec![0.0; 384];
    spike[7] = 3e4;
    let tiny = vec![1e-42; 384];
    [odd_rows(384), bytes(&vec![0.0; 384]), bytes(&spike), bytes(&tiny)].concat()
}

/// Coded orders of every operation that a device codes, over many slots.
fn asks() -> Vec<Ask> {
    let head = tensor("logits.safetensors", "head.f32");
    let wide = tensor("logits.safetensors", "wide.bf16");
    let tied = tensor("logits.safetensors", "tied.f16");
    let hidden = tensor("hidden.safetensors", "hidden.f16");
    let outlier = tensor("hidden.safetensors", "outlier.f32");
    let features = tensor("lm_head_rows.safetensors", "features");
    let topk = TensorWork::topk;
    let mut asks = Vec::new();
    for (slot, coding) in (0..).zip(Coding::ALL.iter().filter(|coding| coding.is_set())) {
        let work = topk(Dtype::F32, 1, 1900, 100, Dtype::F16).coded(*coding, 0.0);
        asks.push(ask(slot, work, &head));
        let work = topk(Dtype::F32, 5, 257, 20, Dtype::F32).coded(*coding, 0.9);
        asks.push(ask(slot + 5, work, &odd_rows(257)));
    }
    let steps = |work: TensorWork| work.coded(Coding::SetSteps, 0.99);
    let large = topk(Dtype::Bf16, 1, 128_256, 1024, Dtype::Bf16);
    asks.push(ask(BULK, steps(large), &wide));
    let streamed = ask(BULK + 1, steps(topk(Dtype::F16, 70, 333, 9, Dtype::F16)), &tied);
    asks.push(Ask { streaming: true, ..streamed });
    for (slot, rows) in [(10, 1), (11, 3), (12, 2)] {
        let work = TensorWork::lm_head(Dtype::F16, rows, 384, 100, Dtype::F16);
        asks.push(ask(slot, steps(work), &features[slot as usize * 768..]));
    }
    // Plain sets of the same shape share launches with them.
    asks.push(ask(13, TensorWork::lm_head(Dtype::F16, 2, 384, 50, Dtype::F32), &features));

    let mut slot = 14;
    for (coding, quality) in [
        (Coding::Int8Channel, 0.0),
        (Coding::Int8Group, 0.0),
        (Coding::Int8Centred, 0.0),
        (Coding::Rotated, 0.125),
        (Coding::Pca, 0.0),
    ] {
        let of = |dtype, rows| TensorWork::hidden(dtype, rows, 384, coding, quality);
        asks.push(ask(slot, of(Dtype::F16, 2), &hidden));
        asks.push(ask(slot + 1, of(Dtype::Bf16, 2), &wide));
        asks.push(ask(slot + 2, of(Dtype::F32, 2), &odd_hidden()[5 * 1536..]));
        slot += 3;
    }
    // Rows of an odd number of bytes, and the shortest.
    for (cols, rows) in [(101, 7), (33, 5), (1, 4), (2, 3)] {
        let work = TensorWork::hidden(Dtype::Bf16, rows, cols, Coding::Int8Group, 0.0);
        asks.push(ask(slot, work, &wide));
        slot += 1;
    }
    // In several frames, and rows that are carried as they are among others.
    let of = |coding| {
        let quality = if coding == Coding::Rotated { 0.0625 } else { 0.0 };
        TensorWork::hidden(Dtype::F32, 40, 384, coding, quality)
    };
    let mixed = [&outlier[..20 * 1536], &odd_hidden(), &outlier[20 * 1536..]].concat();
    let codings = [Coding::Int8Channel, Coding::Int8Group, Coding::Rotated, Coding::Pca];
    for (slot, coding) in (BULK + 2..).zip(codings) {
        asks.push(Ask { streaming: true, ..ask(slot, of(coding), &mixed) });
    }
    let odd = TensorWork::hidden(Dtype::F16, 70, 3, Coding::Int8Group, 0.0);
    asks.push(Ask { streaming: true, ..ask(slot, odd, &hidden) });
    asks
}

fn basis() -> &'static SharedFile {
    &learned().1
}

fn weights() -> &'static SharedFile {
    static WEIGHTS: OnceLock<SharedFile> = OnceLock::new();
    WEIGHTS.get_or_init(|| SharedFile::load(&sample("lm_head.safetensors")).expect("weights"))
}

fn process(variables: &[(&str, &str)]) -> Rig {
    Rig::process_learned("cuda", Some(weights()), Some(basis()), variables)
}

/// What one core answers that has weights and a basis.
fn expected(asks: &[Ask]) -> Vec<Vec<String>> {
    let args = Args { backend: Choice::Cpu, ..Args::default() };
    told(Rig::offer(args, Some(weights()), |offer| offer.basis = Some(basis().fd())), asks)
}

/// COMP-04, COMP-05, COMP-06: whatever is coded, in whatever coding, type and number of frames, and
/// in whatever order the device works, with and without registered memory.
#[test]
fn comp_coded_answers_of_the_device_are_those_of_the_cpu() {
    let asks = asks();
    let expected = expected(&asks);
    for (seed, fail) in [("0", ""), ("5", "register")] {
        let variables = [("FAKE_CUDA_SEED", seed), ("FAKE_CUDA_FAIL", fail)];
        let mut rig = process(&variables);
        let (_, text) = ready(&rig);
        assert!(text.contains(", a basis of 1 MiB"), "{text}");
        // Again over what the first left in the slots and in the wave.
        for _ in 0..2 {
            compare(&mut rig, &asks, &expected, seed);
        }
        for ask in &asks {
            let centred = ask.work.coding == Coding::Int8Centred.code();
            let backend = if centred { "cpu" } else { "cuda" };
            assert_eq!(signed(&rig, ask.slot).0, backend, "slot {}", ask.slot);
        }
    }
}

/// A device that dies among coded orders costs none of them.
#[test]
fn card_a_lost_device_costs_no_coded_order() {
    let asks = asks();
    let expected = expected(&asks);
    for fail in ["launch:2", "launch:9", "lost:1", "lost:4", "lost:9", "lost:14"] {
        let variables = [("FAKE_CUDA_FAIL", fail)];
        let mut rig = process(&variables);
        compare(&mut rig, &asks, &expected, fail);
        let Answer::Changed { backend, .. } = rig.news() else { panic!("no change") };
        assert_eq!(backend, "cpu");
        compare(&mut rig, &asks, &expected, fail);
    }
}

/// The basis is checked on the way to a device too.
#[test]
fn comp_the_device_codes_with_the_basis_that_is_asked_for() {
    let mut rig = Rig::process_learned("cuda", None, Some(basis()), &[]);
    let row = bytes(&vec![0.0; 384]);
    let right = *learned().0.id().0.first_chunk().expect("eight bytes");
    let work = |coding, quality, cols| TensorWork::hidden(Dtype::F32, 1, cols, coding, quality);
    for (work, expected) in [
        (work(Coding::Int8Channel, 0.0, 384).with_basis(right), None),
        (work(Coding::Int8Channel, 0.0, 384).with_basis([1; 8]), Some(ErrorCode::UnknownBasis)),
        (work(Coding::Rotated, 0.125, 384).with_basis([1; 8]), Some(ErrorCode::UnknownBasis)),
        (work(Coding::Rotated, 0.125, 96), Some(ErrorCode::BadShape)),
        (work(Coding::Int8Channel, 0.0, 96), Some(ErrorCode::BadShape)),
        (work(Coding::Int8Group, 0.0, 96), None),
    ] {
        rig.load(BULK, &Request::new(work, &row[..work.cols as usize * 4]));
        rig.run(&[BULK]);
        assert_eq!(rig.status(BULK), expected, "{work:?}");
    }
    let mut bare = Rig::process("cuda", None, &[]);
    bare.load(BULK, &Request::new(work(Coding::Rotated, 0.125, 384), &row));
    bare.run(&[BULK]);
    assert_eq!(bare.status(BULK), Some(ErrorCode::UnknownBasis));
}
