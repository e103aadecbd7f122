//! Which CUDA devices there are. Nothing is opened, and nothing panics where there is no driver.

use super::driver::Fault;
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

impl Device {
    /// True where the kernels run on it.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.capability.0 >= 8
    }
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
    /// Fewer devices than the number asked for.
    #[error("there is no CUDA device {asked}; the driver sees {found}")]
    Number {
        /// From 0.
        asked: u16,
        /// How many there are.
        found: usize,
    },
    /// The device is older than what the kernels are compiled for.
    #[error("the kernels need compute capability 8.0; unused: {0}")]
    TooOld(Device),
    /// The device is there and could not be made ready.
    #[error("{device} cannot be used: {fault}")]
    Device {
        /// Which.
        device: Device,
        /// Why.
        fault: Fault,
    },
}

impl From<result::DriverError> for Closed {
    fn from(error: result::DriverError) -> Self {
        Self::Driver(error.0)
    }
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

/// The device of this number.
///
/// # Errors
/// [`Closed`], with the reason that is nearest to the machine.
pub(super) fn device(asked: u16) -> Result<Device, Closed> {
    let mut devices = devices()?;
    if devices.is_empty() {
        return Err(Closed::NoDevice);
    }
    if usize::from(asked) >= devices.len() {
        return Err(Closed::Number { asked, found: devices.len() });
    }
    let device = devices.swap_remove(usize::from(asked));
    if device.is_usable() { Ok(device) } else { Err(Closed::TooOld(device)) }
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
        assert!(device(u16::MAX).is_err(), "so many devices are nowhere");
    }

    #[test]
    fn a_device_is_described_in_one_line() {
        let device = Device { name: "Tesla V100".into(), capability: (7, 0), memory: 16 << 30 };
        let closed = Closed::TooOld(device).to_string();
        assert_eq!(
            closed,
            "the kernels need compute capability 8.0; unused: Tesla V100 (7.0, 16 GiB)"
        );
    }
}
