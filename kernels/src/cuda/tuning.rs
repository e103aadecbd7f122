//! Numbers that depend on the GPU: speed only, never bits.

/// The tuning numbers of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Name of the table's line, such as `sm_90`.
    pub architecture: &'static str,
    /// Multiprocessors of the device, at least 1.
    pub multiprocessors: u32,
    /// Thread blocks of a scan to aim for, per multiprocessor.
    pub blocks: u32,
    /// Largest number of parts of a row while rows are many; a power of two up to 8.
    pub split: u32,
    /// The row is spread as widely as it can be while there are at most this many multiprocessors
    /// for each row.
    pub spread: u32,
    /// Largest thread block of an int8 row.
    pub threads: u32,
}

/// Reasoned from the size of the machines (resident threads, bytes in flight that their memory
/// asks for), not yet measured on a GPU.
///
/// Capability; name; blocks; split; spread; threads.
const TABLE: [(i32, i32, &str, [u32; 4]); 6] = [
    (8, 0, "sm_80", [8, 8, 4, 512]),
    (8, 6, "sm_86", [6, 8, 4, 256]),
    (8, 9, "sm_89", [6, 8, 4, 256]),
    (9, 0, "sm_90", [12, 8, 4, 512]),
    (10, 0, "sm_100", [12, 8, 4, 512]),
    (12, 0, "sm_120", [8, 8, 4, 256]),
];

/// For architectures that the table does not know.
const DEFAULT: (&str, [u32; 4]) = ("default", [8, 8, 4, 256]);

impl Tuning {
    /// The numbers for a device by its compute capability and its number of multiprocessors.
    ///
    /// A minor version that is not in the table has the numbers of the nearest lower one of the
    /// same major version.
    #[must_use]
    pub fn for_capability(major: i32, minor: i32, multiprocessors: u32) -> Self {
        let line = TABLE.iter().rev().find(|(a, b, ..)| *a == major && *b <= minor);
        let (architecture, [blocks, split, spread, threads]) =
            line.map_or(DEFAULT, |(_, _, name, numbers)| (name, *numbers));
        let multiprocessors = multiprocessors.max(1);
        Self { architecture, multiprocessors, blocks, split, spread, threads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_lower_minor_version_answers() {
        let name = |major, minor| Tuning::for_capability(major, minor, 1).architecture;
        assert_eq!(name(9, 0), "sm_90");
        assert_eq!(name(8, 7), "sm_86");
        assert_eq!(name(10, 3), "sm_100");
        assert_eq!(name(12, 1), "sm_120");
        assert_eq!(name(7, 5), "default");
        assert_eq!(name(i32::MAX, 0), "default");
    }

    #[test]
    fn numbers_are_what_the_kernels_accept() {
        for (major, minor, name, _) in TABLE {
            let tuning = Tuning::for_capability(major, minor, 0);
            assert_eq!((tuning.architecture, tuning.multiprocessors), (name, 1));
            assert!(tuning.split.is_power_of_two() && tuning.split <= 8);
            assert!(tuning.threads.is_power_of_two() && tuning.threads <= 512);
            assert!(tuning.blocks > 0 && tuning.spread > 0);
        }
    }
}
