//! Runs the CUDA kernels without a GPU: the very `.cu` files, compiled as C++, one stackful fiber
//! for each CUDA thread.
//!
//! A launch runs to its end under a schedule drawn from a seed. Reported are: a divergent barrier,
//! a deadlock, a warp operation whose lanes do not match, a misaligned or null address, a race
//! between two barriers in shared memory, a read of shared memory that was not written, a race on
//! what a launch writes to a [`Memory`], and accesses outside of shared memory or of a [`Memory`].
//! What this cannot show: weak memory order, speed.
//!
//! For tests: [`launch`] trusts the addresses it is given, as a GPU does. `cpp/shim.h` is the same
//! for C and C++.

mod ffi;

pub use kernels::cuda::Launch;

/// What went wrong with a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    message: String,
}

impl Fault {
    fn new(kernel: &str, what: &str) -> Self {
        Self { message: format!("{kernel}: {what}") }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The arguments of a kernel, in order.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Little-endian in 8 bytes each: a 4-byte argument is the first four.
    values: Vec<u64>,
}

impl Args {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// An address; 0 for none.
    #[must_use]
    pub fn address(mut self, value: u64) -> Self {
        self.values.push(value);
        self
    }

    /// A 32-bit number.
    #[must_use]
    pub fn number(mut self, value: u32) -> Self {
        self.values.push(u64::from(value));
        self
    }

    /// A float.
    #[must_use]
    pub fn float(self, value: f32) -> Self {
        self.number(value.to_bits())
    }
}

/// Whether there is a kernel of that name.
#[must_use]
pub fn has(kernel: &str) -> bool {
    std::ffi::CString::new(kernel).is_ok_and(|name| ffi::arguments(&name).is_some())
}

/// Runs a grid to its end.
///
/// The addresses among the arguments, and in the tables they point to, must be those of
/// [`Memory`]s that are alive, as on a GPU: nothing checks them.
///
/// # Errors
/// No such kernel, another number of arguments, a shape that no device takes, or a mistake that the
/// shim saw in the kernel.
pub fn launch(kernel: &str, launch: Launch, args: &Args, seed: u64) -> Result<(), Fault> {
    ffi::launch(kernel, launch, args, seed)
}

/// Memory that kernels see, between two canaries. An access to those is reported.
#[derive(Debug)]
pub struct Memory {
    words: Vec<u128>,
    start: usize,
    len: usize,
}

impl Memory {
    /// Bytes on each side that must not change.
    const CANARY: usize = 256;
    const CANARY_BYTE: u8 = 0xa5;
    /// What fresh memory holds.
    pub const POISON: u8 = 0xcd;

    /// `len` bytes of [`Memory::POISON`], `shift` bytes behind an address that is a multiple of 16.
    #[must_use]
    pub fn shifted(len: usize, shift: usize) -> Self {
        let start = Self::CANARY + shift;
        let words = (start + len + Self::CANARY).div_ceil(16);
        let mut memory = Self { words: vec![0; words], start, len };
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory.words);
        bytes.fill(Self::CANARY_BYTE);
        bytes[start..start + len].fill(Self::POISON);
        ffi::watch(memory.bytes(), Self::CANARY);
        memory
    }

    /// `len` bytes of [`Memory::POISON`], aligned to 16.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self::shifted(len, 0)
    }

    /// Those bytes, aligned to 16.
    #[must_use]
    pub fn of<T: bytemuck::NoUninit>(content: &[T]) -> Self {
        let bytes: &[u8] = bytemuck::cast_slice(content);
        let mut memory = Self::new(bytes.len());
        memory.bytes_mut().copy_from_slice(bytes);
        memory
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.words.as_ptr().addr() as u64 + self.start as u64
    }

    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // The kernels write behind the compiler's back: this hides where the bytes come from.
        let words = std::hint::black_box(self.words.as_slice());
        &bytemuck::cast_slice(words)[self.start..self.start + self.len]
    }

    /// The same, to be changed between launches.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.start..self.start + self.len;
        let words = std::hint::black_box(self.words.as_mut_slice());
        &mut bytemuck::cast_slice_mut(words)[range]
    }

    /// The content as a vector of `T`.
    #[must_use]
    pub fn read<T: bytemuck::AnyBitPattern>(&self) -> Vec<T> {
        let size = size_of::<T>();
        self.bytes().chunks_exact(size).map(bytemuck::pod_read_unaligned).collect()
    }

    /// Whether nothing was written before or behind it.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let words = std::hint::black_box(self.words.as_slice());
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let outside = bytes[..self.start].iter().chain(&bytes[self.start + self.len..]);
        outside.copied().all(|byte| byte == Self::CANARY_BYTE)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        ffi::unwatch(self.bytes());
    }
}
