//! CUDA devices: which there are, and the place of the backend that will compute on them.
//!
//! This build holds no CUDA kernels. [`open`] says so, and the CPU serves instead; that it does,
//! and why, is in the worker's answer to the handshake and in every reply.

use core::fmt;
use cudarc::driver::{
    result::{self, device},
    sys::{self, CUdevice_attribute, CUresult},
};

/// One device, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// For example `NVIDIA H200`.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub memory: u64,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        write!(f, "{} ({major}.{minor}, {} GiB)", self.name, self.memory >> 30)
    }
}

/// Why no CUDA device computes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// There is no driver library.
    #[error("no CUDA driver on this machine (libcuda.so.1 is not there)")]
    NoDriver,
    /// The driver refused. Its code only: naming it would call into the driver again.
    #[error("the CUDA driver refuses: {0:?}")]
    Driver(CUresult),
    /// The driver sees no device.
    #[error("the CUDA driver sees no device")]
    NoDevice,
    /// A device is there, but this program cannot use it.
    #[error("this build has no CUDA kernels; unused: {0}")]
    NoKernels(Device),
}

impl From<result::DriverError> for Closed {
    fn from(error: result::DriverError) -> Self {
        Self::Driver(error.0)
    }
}

/// A device that computes. None exists in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuda {}

/// Opens the first device for computing.
///
/// # Errors
/// [`Closed`], always: with the reason that is nearest to the machine.
pub fn open() -> Result<Cuda, Closed> {
    let first = devices()?.into_iter().next().ok_or(Closed::NoDevice)?;
    Err(Closed::NoKernels(first))
}

/// All devices of this machine. Creates no context on them.
///
/// # Errors
/// [`Closed::NoDriver`] or [`Closed::Driver`].
pub fn devices() -> Result<Vec<Device>, Closed> {
    // SAFETY: unsafe only because it loads a library, whose initialisers run. It is the machine's
    // CUDA driver, found by its name; that it may run here is what asking for devices means.
    let present = unsafe { sys::is_culib_present() };
    // Every other call panics without the library, so this comes first.
    if !present {
        return Err(Closed::NoDriver);
    }
    result::init()?;
    (0..device::get_count()?).map(describe).collect()
}

fn describe(ordinal: i32) -> Result<Device, Closed> {
    let handle = device::get(ordinal)?;
    let attribute = |which: CUdevice_attribute| {
        // SAFETY: `handle` comes from `device::get`, which is all that is asked for.
        unsafe { device::get_attribute(handle, which) }
    };
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: as above.
    let memory = unsafe { device::total_mem(handle) }?;
    let name = device::get_name(handle)?;
    Ok(Device { name, capability: (major, minor), memory: memory as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a machine without a driver this is `NoDriver`; with one, whatever it says. Never a panic.
    #[test]
    fn asking_is_always_answered() {
        match devices() {
            Ok(devices) => assert!(devices.iter().all(|device| device.memory > 0)),
            Err(closed) => assert!(!closed.to_string().is_empty()),
        }
        assert!(open().is_err(), "no kernels in this build");
    }

    #[test]
    fn a_device_is_described_in_one_line() {
        let device = Device { name: "NVIDIA H200".into(), capability: (9, 0), memory: 139 << 30 };
        let closed = Closed::NoKernels(device).to_string();
        assert_eq!(closed, "this build has no CUDA kernels; unused: NVIDIA H200 (9.0, 139 GiB)");
    }
}
