//! How the rows of an answer are coded: a closed registry. The bytes of each are described in
//! `wire/codec/FORMAT-CODINGS.md`.

use crate::kind::registry;

registry! {
    /// How a row of an answer is written.
    pub enum Coding: u8 {
        /// Fixed-width elements, as the payload types say.
        Plain = 0, "plain";
        /// A top-k set, values as f16 below the maximum.
        SetF16 = 1, "set-f16";
        /// A top-k set, values as bf16 below the maximum.
        SetBf16 = 2, "set-bf16";
        /// A top-k set, values as u8 over the row's range.
        SetU8 = 3, "set-u8";
        /// A top-k set, the best values by u8, the others by two bits.
        SetTiered = 4, "set-tiered";
        /// A top-k set, values by steps that suit the row.
        SetSteps = 5, "set-steps";
        /// int8 with learned scales, one per channel.
        Int8Channel = 16, "int8-channel";
        /// int8 with an f16 scale per 32 channels.
        Int8Group = 17, "int8-group";
        /// int8 around a learned mean, outlier channels in f16.
        Int8Centred = 18, "int8-centred";
        /// Rotated, by steps of the row's size, entropy-coded.
        Rotated = 19, "rotated";
        /// The first components of a rotation, int8. Loses what the others held.
        Pca = 20, "pca";
    }
}
