//! What is remarkable about a row of an answer: one byte per row, bits below.

/// The row holds a NaN. NaN is never selected; int8 codes it as 0.
pub const NAN: u8 = 1 << 0;
/// Fewer than k entries of the row are valid; its count says how many.
pub const SHORT: u8 = 1 << 1;
/// top-k: the row's maximum is infinite. int8: the row holds an infinity.
pub const NON_FINITE: u8 = 1 << 2;
/// int8: no finite entry differs from zero; the scale is 0.
pub const ZERO: u8 = 1 << 3;
/// int8: the scale is subnormal, or became 0 for entries that are not; codes are coarser than
/// elsewhere.
pub const SUBNORMAL: u8 = 1 << 4;

/// Every bit that has a meaning.
pub const ALL: u8 = NAN | SHORT | NON_FINITE | ZERO | SUBNORMAL;
