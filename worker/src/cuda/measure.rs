//! The short measurement at the start of a worker: both sides, every operation, two sizes.

use super::{
    driver::Fault,
    engine::Engine,
    route::{Costs, Line, Table},
    trial::{Case, Travel},
};
use crate::cpu::Cpu;
use kernels::{Row, int8, lmhead, topk::TopK};
use std::time::Instant;
use wire::{Dtype, Operation};

/// Columns of the two f32 rows that are measured.
const COLS: [u32; 2] = [4096, 65_536];
/// Entries of a set.
const K: u32 = 100;
/// Hidden rows that are projected.
const HIDDEN: [u32; 2] = [1, 8];
/// Vocabulary entries of which the core's time is measured; the rest is in proportion.
const PART: usize = 1024;

/// Seconds of the quickest of a few runs.
fn quickest(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Both sides of one operation, from the seconds at both sizes.
fn costs(bytes: [f64; 2], cpu: [f64; 2], device: [f64; 2]) -> Costs {
    let line = |seconds: [f64; 2]| {
        Line::through((bytes[0], seconds[0] * 1e9), (bytes[1], seconds[1] * 1e9))
    };
    Costs { cpu: line(cpu), device: line(device) }
}

/// Measures. Takes some milliseconds on a device.
pub(super) fn table(engine: &Engine<'_>, cpu: &Cpu<'_>) -> Result<Table, Fault> {
    let device = |operation, rows, cols| {
        let case = Case { operation, dtype: Dtype::F32, rows, cols, k: K };
        engine.trial(&case)?.alone(Travel::FromHost)
    };
    let row: Vec<f32> =
        (0..COLS[1]).map(|at| (at.wrapping_mul(2_654_435_761) >> 8) as f32).collect();
    let rows = COLS.map(|cols| &row[..cols as usize]);
    let bytes = COLS.map(|cols| f64::from(cols) * 4.0);

    let mut topk = TopK::new();
    let (mut indices, mut values) = ([0; K as usize], [0.0; K as usize]);
    let chosen = rows.map(|row| {
        quickest(|| {
            topk.run(Row::F32(row), K as usize, &mut indices, &mut values);
        })
    });
    let on_device = [device(Operation::TopK, 1, COLS[0])?, device(Operation::TopK, 1, COLS[1])?];
    let topk = costs(bytes, chosen, on_device);

    let mut codes = vec![0; COLS[1] as usize];
    let coded = rows.map(|row| {
        quickest(|| {
            int8::quantize(Row::F32(row), &mut codes[..row.len()]);
        })
    });
    let on_device = [device(Operation::Int8, 1, COLS[0])?, device(Operation::Int8, 1, COLS[1])?];
    let int8 = costs(bytes, coded, on_device);
    let lm_head = lm_head(engine, cpu)?.unwrap_or_default();
    Ok(Table { topk, int8, lm_head, product: product(cpu) })
}

/// One core's nanoseconds for a multiplication of a row by the basis, over its first components.
fn product(cpu: &Cpu<'_>) -> f64 {
    let Some(basis) = cpu.basis().filter(|basis| basis.has_rotation()) else { return 0.0 };
    let width = basis.width();
    let part = width.min(PART);
    let matrix = Row::F32(basis.parts().rotation.get(..part * width).unwrap_or_default());
    let Some(weights) = lmhead::Weights::new(matrix, width, None) else { return 0.0 };
    let (row, mut out) = (vec![0.5; width], vec![0.0; part]);
    let seconds = quickest(|| {
        let _ = lmhead::logits(&row, &weights, &mut out);
    });
    seconds * 1e9 / (part * width) as f64
}

/// Hidden rows are counted as the 16-bit numbers that they mostly are.
fn lm_head(engine: &Engine<'_>, cpu: &Cpu<'_>) -> Result<Option<Costs>, Fault> {
    let Some(projection) = cpu.projection() else { return Ok(None) };
    let (vocabulary, width) = (projection.vocabulary(), projection.width());
    let part = vocabulary.min(PART);
    let Some(weights) = projection.weights().and_then(|all| all.part(0..part)) else {
        return Ok(None);
    };
    let hidden = vec![0.5; HIDDEN[1] as usize * width];
    let mut logits = vec![0.0; HIDDEN[1] as usize * part];
    let projected = HIDDEN.map(|rows| {
        let rows = rows as usize;
        let seconds = quickest(|| {
            let _ = lmhead::logits(&hidden[..rows * width], &weights, &mut logits[..rows * part]);
        });
        seconds * vocabulary as f64 / part as f64
    });
    // As most orders come: in the weights' own type where a library takes that.
    let dtype = projection.bytes().0;
    let mut on_device = [0.0; 2];
    for (seconds, rows) in on_device.iter_mut().zip(HIDDEN) {
        let operation = Operation::LmHead;
        let case = Case { operation, dtype, rows, cols: vocabulary as u32, k: K };
        *seconds = engine.trial(&case)?.alone(Travel::FromHost)?;
    }
    let bytes = HIDDEN.map(|rows| f64::from(rows) * width as f64 * 2.0);
    Ok(Some(costs(bytes, projected, on_device)))
}
