//! Answers in a coding: what a reader decodes is what the plain answer says.

use crate::support::{BULK, Request, Rig, tensor};
use codec::{
    Basis, BasisId,
    fit::Fit,
    hidden::{self, Scratch},
    set::{self, SetBuf},
};
use half::f16;
use kernels::{Element, Row, fidelity::Reconstruction};
use link::SharedFile;
use std::sync::OnceLock;
use wire::{Coding, Dtype, ErrorCode, Operation, payload::TensorWork, response};
use worker::{Args, Choice, Poll, sandbox::Mode};

const CPU: Args =
    Args { backend: Choice::Cpu, poll: Poll::Balanced, device: 0, sandbox: Mode::Off };
const COLS: u32 = 30_522;

/// Largest error of a decoded value, in nats, by coding.
const TOLERANCE: [(Coding, f32); 5] = [
    (Coding::SetF16, 0.01),
    (Coding::SetBf16, 0.1),
    (Coding::SetU8, 0.1),
    (Coding::SetTiered, 3.0),
    (Coding::SetSteps, 0.2),
];

/// COMP-04: a coded set has the entries and the normaliser of the plain one, in fewer bytes.
#[test]
fn comp_coded_sets_are_the_plain_ones() {
    let mut rig = Rig::start(CPU, None);
    let rows = tensor("logits.safetensors", "head.f32");
    let work = TensorWork::topk(Dtype::F32, 16, COLS, 100, Dtype::F32);
    rig.load(BULK, &Request::new(work, &rows));
    rig.run(&[BULK]);
    for (coding, tolerance) in TOLERANCE {
        rig.load(BULK + 1, &Request::new(work.coded(coding, 0.0), &rows));
        rig.run(&[BULK + 1]);
        let plain = rig.reply(BULK).logits.expect("plain sets");
        let coded = rig.reply(BULK + 1).coded.expect("coded sets");
        assert_eq!((coded.rows, coded.k, coded.cols, coded.coding), (16, 100, COLS, coding));
        assert_eq!(coded.basis, &[0; 32]);
        assert!(coded.data.len() < 16 * 400, "{coding}: {}", coded.data.len());
        let mut decoded = SetBuf::new(100);
        for row in 0..16 {
            set::decode(coding, coded.row(row), COLS, 100, &mut decoded).expect("a set");
            assert_eq!((decoded.max, decoded.log_sum), (plain.max[row], plain.log_sum[row]));
            let mut pairs: Vec<_> = decoded.indices.iter().zip(&decoded.values).collect();
            let exact = plain.row_indices(row).iter().zip(plain.row_values_f32(row));
            let mut exact: Vec<_> = exact.collect();
            pairs.sort_by_key(|(index, _)| **index);
            exact.sort_by_key(|(index, _)| **index);
            assert_eq!(pairs.len(), 100);
            for ((index, value), (expected, exact)) in pairs.into_iter().zip(exact) {
                assert_eq!(index, expected, "{coding}, row {row}");
                assert!((value - exact).abs() < tolerance, "{coding}: {value} for {exact}");
            }
        }
    }
}

/// COMP-04: a set may end where its mass is reached; the mass of the rest is still known.
#[test]
fn comp_a_set_ends_where_its_mass_is_reached() {
    let mut rig = Rig::start(CPU, None);
    let rows = tensor("logits.safetensors", "head.f32");
    let work = TensorWork::topk(Dtype::F32, 16, COLS, 256, Dtype::F32);
    let slots = [BULK, BULK + 1];
    for (slot, mass) in slots.into_iter().zip([0.5, 0.99]) {
        rig.load(slot, &Request::new(work.coded(Coding::SetSteps, mass), &rows));
    }
    rig.run(&slots);
    let mut set = SetBuf::new(256);
    for (slot, mass) in slots.into_iter().zip([0.5_f64, 0.99]) {
        let coded = rig.reply(slot).coded.expect("coded sets");
        for row in 0..16 {
            set::decode(coded.coding, coded.row(row), COLS, 256, &mut set).expect("a set");
            let log_z = f64::from(set.max) + f64::from(set.log_sum);
            let kept: f64 = set.values.iter().map(|x| (f64::from(*x) - log_z).exp()).sum();
            let full = set.values.len() == 256;
            assert!(full || kept > mass - 0.01, "row {row}: {kept} of {mass}");
            let last = f64::from(*set.values.last().expect("an entry")) - log_z;
            assert!(kept - last.exp() < mass + 0.01, "row {row}: not the shortest");
        }
    }
}

/// QUERY: streamed answers are coded frame by frame.
#[test]
fn query_coded_answers_can_be_streamed() {
    let mut rig = Rig::start(CPU, None);
    let rows: Vec<f32> = (0..70 * 50).map(|x| (x * 37 % 101) as f32).collect();
    let work = TensorWork::topk(Dtype::F32, 70, 50, 5, Dtype::F32).coded(Coding::SetU8, 0.0);
    let request = Request::new(work, bytemuck::cast_slice(&rows));
    rig.load(BULK, &Request { streaming: true, ..request });
    rig.run(&[BULK]);
    let frames = rig.frames(BULK);
    let lens = frames.iter().map(|frame| {
        let coded = response::read(frame).expect("whole").coded.expect("coded");
        assert!((0..coded.rows as usize).all(|row| !coded.row(row).is_empty()));
        coded.rows
    });
    assert_eq!(lens.collect::<Vec<_>>(), [32, 32, 6]);
}

/// Without a basis, codings that need one are refused and the others are not.
#[test]
fn comp_no_basis_no_coding_that_needs_one() {
    let mut rig = Rig::start(CPU, None);
    let hidden = tensor("hidden.safetensors", "hidden.f16");
    for coding in Coding::ALL.iter().filter(|coding| coding.serves(Operation::Hidden)) {
        let quality = if *coding == Coding::Rotated { 0.125 } else { 0.0 };
        let work = TensorWork::hidden(Dtype::F16, 256, 384, *coding, quality);
        rig.load(BULK, &Request::new(work, &hidden));
        rig.run(&[BULK]);
        let expected = coding.needs_basis().then_some(ErrorCode::UnknownBasis);
        assert_eq!(rig.status(BULK), expected, "{coding}");
    }
    rig.load(BULK, &Request::new(TensorWork::fetch(0), &[]));
    rig.run(&[BULK]);
    assert_eq!(rig.status(BULK), Some(ErrorCode::UnknownBasis));
}

/// What the sample's hidden states teach, as workers are offered it.
pub(crate) fn learned() -> &'static (Basis, SharedFile) {
    static LEARNED: OnceLock<(Basis, SharedFile)> = OnceLock::new();
    LEARNED.get_or_init(|| {
        let rows = tensor("hidden.safetensors", "hidden.f16");
        let mut fit = Fit::new(384, "hidden.f16").expect("a width");
        for row in rows.chunks_exact(2 * 384) {
            assert!(fit.add(Row::from_bytes(Element::F16, row).expect("whole")));
        }
        let basis = fit.finish(true, 64, |_| {}).expect("rows to learn from");
        let path = std::env::temp_dir().join(format!("basis-{}.safetensors", std::process::id()));
        std::fs::write(&path, basis.as_bytes()).expect("written");
        let file = SharedFile::load(&path).expect("read");
        std::fs::remove_file(&path).expect("removed");
        (basis, file)
    })
}

fn with_basis() -> Rig {
    let (_, file) = learned();
    Rig::offer(CPU, None, |offer| offer.basis = Some(file.fd()))
}

/// COMP-05, COMP-06: hidden rows in every coding come back within the error that it is for, and the
/// answer names the basis.
#[test]
fn comp_hidden_rows_come_back_in_every_coding() {
    let mut rig = with_basis();
    let (basis, _) = learned();
    let bytes = tensor("hidden.safetensors", "hidden.f16");
    let original: Vec<f32> =
        bytes.chunks_exact(2).map(|x| f16::from_le_bytes([x[0], x[1]]).to_f32()).collect();
    for (coding, quality, error, row_len) in [
        (Coding::Int8Channel, 0.0, 0.02, 384),
        (Coding::Int8Group, 0.0, 0.008, 408),
        (Coding::Int8Centred, 0.0, 0.013, 400),
        (Coding::Rotated, 0.125, 0.04, 240),
        (Coding::Pca, 0.0, 0.7, 80),
    ] {
        let work = TensorWork::hidden(Dtype::F16, 256, 384, coding, quality);
        rig.load(BULK, &Request::new(work, &bytes));
        rig.run(&[BULK]);
        let coded = rig.reply(BULK).coded.expect("coded rows");
        assert_eq!((coded.rows, coded.cols, coded.k, coded.coding), (256, 384, 0, coding));
        let named = if coding.needs_basis() { basis.id() } else { BasisId([0; 32]) };
        assert_eq!(coded.basis, &named.0, "{coding}");
        assert!(coded.data.len() <= 256 * row_len, "{coding}: {}", coded.data.len() / 256);
        let (mut rebuilt, mut scratch) = (Reconstruction::new(), Scratch::new(384));
        let mut row = [0.0; 384];
        for (at, original) in original.chunks_exact(384).enumerate() {
            hidden::decode(coding, coded.row(at), Some(basis), &mut row, &mut scratch)
                .expect("a row");
            rebuilt.add(original, &row);
        }
        assert!(rebuilt.relative_error() < error, "{coding}: {}", rebuilt.relative_error());
    }
}

/// A request may name the basis; another one, or rows of another width, are refused.
#[test]
fn comp_the_basis_that_is_asked_for_is_the_one_that_is_used() {
    let mut rig = with_basis();
    let (basis, _) = learned();
    let right = *basis.id().0.first_chunk().expect("eight bytes");
    let row = [0_u8; 384 * 4];
    let work = TensorWork::hidden(Dtype::F32, 1, 384, Coding::Int8Channel, 0.0);
    let narrow = TensorWork::hidden(Dtype::F32, 1, 96, Coding::Int8Channel, 0.0);
    for (work, len, expected) in [
        (work, row.len(), None),
        (work.with_basis(right), row.len(), None),
        (work.with_basis([1; 8]), row.len(), Some(ErrorCode::UnknownBasis)),
        (narrow, 384, Some(ErrorCode::BadShape)),
        (TensorWork::fetch(0).with_basis([1; 8]), 0, Some(ErrorCode::UnknownBasis)),
    ] {
        rig.load(BULK, &Request::new(work, &row[..len]));
        rig.run(&[BULK]);
        assert_eq!(rig.status(BULK), expected, "{work:?}");
    }
}

/// Piece by piece a reader gets the basis that it lacks.
#[test]
fn comp_a_basis_can_be_fetched_from_a_worker() {
    let mut rig = with_basis();
    let (basis, _) = learned();
    let mut file = Vec::new();
    for piece in 0.. {
        rig.load(BULK, &Request::new(TensorWork::fetch(piece), &[]));
        rig.run(&[BULK]);
        let bytes = rig.reply(BULK).echo.expect("a piece").data;
        file.extend_from_slice(bytes);
        if bytes.len() < wire::work::FETCH_PIECE as usize {
            break;
        }
    }
    assert_eq!(BasisId::of(&file), basis.id());
    let behind = file.len() as u32 / wire::work::FETCH_PIECE + 1;
    rig.load(BULK, &Request::new(TensorWork::fetch(behind), &[]));
    rig.run(&[BULK]);
    assert_eq!(rig.status(BULK), Some(ErrorCode::BadRequest));
}
