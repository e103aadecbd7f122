//! A row as it is: what `rotated` falls back to.

use crate::{Fault, Full};
use half::{bf16, f16};
use kernels::{Element, Row, cast};

/// The first byte of a row that is carried as it is.
pub(super) const fn first_byte(element: Element) -> u8 {
    match element {
        Element::F32 => 1,
        Element::F16 => 2,
        Element::Bf16 => 3,
    }
}

const fn element_of(first: u8) -> Option<Element> {
    match first {
        1 => Some(Element::F32),
        2 => Some(Element::F16),
        3 => Some(Element::Bf16),
        _ => None,
    }
}

/// Writes the row in its own format; `wide` is scratch of its length.
pub(super) fn encode(row: Row<'_>, wide: &mut [f32], out: &mut [u8]) -> Result<usize, Full> {
    let (element, size) = (row.element(), row.element().size());
    let len = 1 + row.len() * size;
    let (first, rest) = out.get_mut(..len).and_then(<[u8]>::split_first_mut).ok_or(Full)?;
    *first = first_byte(element);
    // Sixteen-bit entries widen and narrow again without loss, but for what NaN carries.
    row.widen(wide);
    for (x, to) in wide.iter().zip(rest.chunks_exact_mut(size)) {
        match element {
            Element::F32 => to.copy_from_slice(&x.to_le_bytes()),
            Element::F16 => {
                let mut half = [f16::ZERO];
                cast::to_f16(&[*x], &mut half);
                to.copy_from_slice(&half[0].to_le_bytes());
            }
            Element::Bf16 => {
                let mut half = [bf16::ZERO];
                cast::to_bf16(&[*x], &mut half);
                to.copy_from_slice(&half[0].to_le_bytes());
            }
        }
    }
    Ok(len)
}

pub(super) fn decode(first: u8, rest: &[u8], out: &mut [f32]) -> Result<(), Fault> {
    let element = element_of(first).ok_or(Fault::Invalid)?;
    let row = Row::from_bytes(element, rest).ok_or(Fault::Length)?;
    if row.len() != out.len() {
        return Err(Fault::Length);
    }
    row.widen(out);
    Ok(())
}
