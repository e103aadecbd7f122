//! Rows to fewer bytes and back: what the codings of [`wire::Coding`] mean.
//!
//! - [`set`]: top-k sets.
//! - [`hidden`]: rows of hidden states.
//! - [`basis`]: what was learned about a tensor's channels; [`fit`] learns it.
//!
//! A coded row stands alone: it can be read without its neighbours. A block of rows is rows back to
//! back, with the end of each kept outside. `FORMAT-CODINGS.md` beside this crate says what every
//! byte means, in numbered rules that the code cites.
//!
//! **Total.** Decoding takes bytes from anywhere: it ends with a row or a [`Fault`], never panics,
//! and never writes more than the caller allows. Memory is taken by scratch objects when they are
//! made, not per row.
#![forbid(unsafe_code)]

pub mod basis;
pub mod fit;
pub mod hidden;
pub mod set;

mod bits;
mod models;
mod numbers;
mod range;

pub use basis::{Basis, BasisId};

pub use wire::{Coding, Full};

/// Why bytes are not a coded row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The bytes end too early or go on too long.
    Length,
    /// A number outside its range, a kind that the coding does not have, filling that is not zero.
    Invalid,
    /// More entries, or entries further out, than the caller allows.
    Bounds,
    /// The coding is not one of this kind of row.
    Coding,
    /// The coding needs a basis, or a part of one, that is not there or is for other rows.
    Basis,
    /// The output is too short.
    Room,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Length => "the coded row is too short or too long",
            Self::Invalid => "the coded row holds an invalid number",
            Self::Bounds => "the coded row has more entries than allowed",
            Self::Coding => "the coding does not suit this kind of row",
            Self::Basis => "the coding needs a basis that is not there",
            Self::Room => "the output has no room for the row",
        })
    }
}

impl core::error::Error for Fault {}

impl From<Full> for Fault {
    fn from(_: Full) -> Self {
        Self::Room
    }
}
