//! How the rows of an answer are coded, and how long a coded row can get.

use crate::{Dtype, Operation, kind::registry};

registry! {
    /// Codings of answer rows. A code stands for one exact byte layout: a changed layout is another
    /// code, so a frame says by itself which version it carries.
    pub enum Coding: u8 {
        /// The arrays of a top-k set or of an int8 block.
        Plain = 0, "plain";
        /// A top-k set in bits, values as f16 of (max - value).
        SetF16 = 1, "set-f16";
        /// A top-k set in bits, values as bf16 of (max - value).
        SetBf16 = 2, "set-bf16";
        /// A top-k set in bits, values in 256 steps between the row's ends.
        SetU8 = 3, "set-u8";
        /// A top-k set in bits, the best values in 256 steps and the rest in 4.
        SetTiered = 4, "set-tiered";
        /// A top-k set in bits, values in steps that are fine where probability is.
        SetSteps = 5, "set-steps";
        /// Hidden rows in int8, a learned mean and scale for each channel.
        Int8Channel = 16, "int8-channel";
        /// Hidden rows in int8, a scale for every 32 channels of a row.
        Int8Group = 17, "int8-group";
        /// Hidden rows in int8, a learned mean, a scale per row, outlier channels in f16.
        Int8Centred = 18, "int8-centred";
        /// Hidden rows, rotated by a learned basis, in steps relative to the row's size, entropy
        /// coded.
        Rotated = 19, "rotated";
        /// Hidden rows, projected to fewer dimensions, in int8. Loses what the basis leaves out.
        Pca = 20, "pca";
    }
}

/// Most bytes of a coded set besides its entries.
const SET_HEAD: usize = 40;
/// Most bytes of a set's entry: its index in 18 bits, its value in 16, rounded up.
const SET_ENTRY: usize = 5;
/// Most bytes of a coded hidden row besides its entries.
const ROW_HEAD: usize = 16;
/// Channels that share a scale in [`Coding::Int8Group`].
pub const GROUP: usize = 32;

impl Coding {
    /// True for codings of top-k sets.
    #[must_use]
    pub const fn is_set(self) -> bool {
        self.code() >= Self::SetF16.code() && self.code() <= Self::SetSteps.code()
    }

    /// True for codings of hidden rows.
    #[must_use]
    pub const fn is_hidden(self) -> bool {
        self.code() >= Self::Int8Channel.code()
    }

    /// True where neither side can do without a learned basis.
    #[must_use]
    pub const fn needs_basis(self) -> bool {
        matches!(self, Self::Int8Channel | Self::Int8Centred | Self::Rotated | Self::Pca)
    }

    /// True where an answer to `operation` can be coded so.
    #[must_use]
    pub const fn serves(self, operation: Operation) -> bool {
        match operation {
            Operation::TopK | Operation::LmHead => self.is_set() || matches!(self, Self::Plain),
            Operation::Hidden => self.is_hidden(),
            _ => matches!(self, Self::Plain),
        }
    }

    /// Most bytes of one coded row: of a set of `k` entries, or of a hidden row of `cols` columns.
    /// 0 for [`Coding::Plain`].
    #[must_use]
    pub const fn row_max(self, k: usize, cols: usize) -> usize {
        match self {
            Self::Plain => 0,
            Self::Int8Channel => cols,
            Self::Int8Group => cols + 2 * cols.div_ceil(GROUP),
            // Where coding does not pay, the row is carried as f32.
            Self::Int8Centred | Self::Rotated | Self::Pca => {
                ROW_HEAD.saturating_add(cols.saturating_mul(Dtype::F32.size()))
            }
            _ => SET_HEAD.saturating_add(k.saturating_mul(SET_ENTRY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coding_serves_the_operations_it_is_for() {
        for coding in Coding::ALL {
            assert_eq!(Coding::from_code(coding.code()), Some(*coding));
            let set = coding.serves(Operation::TopK) && coding.serves(Operation::LmHead);
            assert_eq!(set, coding.is_set() || *coding == Coding::Plain, "{coding}");
            assert_eq!(coding.serves(Operation::Hidden), coding.is_hidden(), "{coding}");
            assert_eq!(coding.serves(Operation::Echo), *coding == Coding::Plain, "{coding}");
            assert!(!(coding.is_set() && (coding.is_hidden() || coding.needs_basis())), "{coding}");
        }
    }

    #[test]
    fn a_coded_row_has_a_bound() {
        assert_eq!(Coding::SetSteps.row_max(100, 0), 540);
        assert_eq!(Coding::Int8Group.row_max(0, 384), 408);
        assert_eq!(Coding::Int8Group.row_max(0, 33), 37);
        assert_eq!(Coding::Rotated.row_max(0, 384), 1552);
        assert_eq!(Coding::Plain.row_max(100, 100), 0);
        assert_eq!(Coding::Rotated.row_max(0, usize::MAX), usize::MAX);
    }
}
