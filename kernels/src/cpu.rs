//! Which instructions this machine has.

/// A set of vector instructions. Later levels include earlier ones.
///
/// A level is a wish: operations given one run at the lower of it and [`Level::detect`], so a
/// level that the machine lacks is harmless. Every level computes the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What the compiler's target offers. On x86-64 without FMA at compile time the fused
    /// operations are library calls, which is slow but exact; on AArch64 this is NEON.
    Scalar,
    /// AVX2 with FMA, F16C, POPCNT and BMI1.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The highest level of this machine. The answer is cached, a call costs a few loads.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("bmi1");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match (avx2, avx512) {
                (true, true) => Self::Avx512,
                (true, false) => Self::Avx2,
                _ => Self::Scalar,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::Scalar
    }

    /// The level as it is named in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn levels_are_ordered_and_named_apart() {
        assert!(Level::ALL.is_sorted_by(|a, b| a < b && a.name() != b.name()));
        assert!(Level::ALL.contains(&Level::detect()));
    }
}
