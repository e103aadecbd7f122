//! Changes to inputs, for where no fuzzer guides them.

/// `SplitMix64`: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`, or 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One to four changes: bits, bytes, words, lengths, pieces of its own and of `other`.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(4) {
            let len = bytes.len();
            let at = self.below(len);
            match self.below(8) {
                0 | 1 if len > 0 => bytes[at] ^= 1 << self.below(8),
                2 if len > 0 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][self.below(5)],
                3 if len > 0 => {
                    let words = [0, 1, 16, u32::MAX, 1 << 31, self.next() as u32];
                    let word = words[self.below(words.len())].to_le_bytes();
                    let end = len.min(at + 4);
                    bytes[at..end].copy_from_slice(&word[..end - at]);
                }
                4 => bytes.truncate(at),
                5 => {
                    let from = self.below(other.len());
                    let piece = &other[from..other.len().min(from + self.below(256))];
                    bytes.splice(at..at, piece.iter().copied());
                }
                6 => {
                    let piece = bytes[at..len.min(at + self.below(64))].to_vec();
                    bytes.extend(piece);
                }
                _ => bytes.push(self.next() as u8),
            }
        }
        bytes.truncate(crate::INPUT_MAX);
    }
}
