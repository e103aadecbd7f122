//! What GPUs say of themselves, by NVIDIA's management library, which is loaded at run time where
//! there is a driver. Looked at from a thread of its own: the library may take its time.

use super::Board;
use crate::say;
use nvml_wrapper::{Nvml, enum_wrappers::device::TemperatureSensor};
use overview::Gpu;
use std::{
    env,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

/// Looks at the GPUs until it is dropped.
#[derive(Debug)]
pub(crate) struct Look {
    /// Nothing is ever sent: its end is the word.
    _stop: Sender<()>,
}

impl Look {
    /// Has the board told of the GPUs from time to time. `None` for a node without one, or without
    /// the library, which is said.
    pub(crate) fn begin(devices: u16, every: Duration, board: Arc<Board>) -> Option<Self> {
        if devices == 0 {
            return None;
        }
        let (stop, stopped) = channel();
        let look = move || {
            let nvml = match Nvml::init() {
                Ok(nvml) => nvml,
                Err(error) => {
                    say::note(format!("no figures of GPUs: {error}; install libnvidia-ml"));
                    return;
                }
            };
            let order = order(env::var("CUDA_VISIBLE_DEVICES").ok().as_deref());
            loop {
                board.set_gpus(look_at(devices, |device| ask(&nvml, &order, device)));
                if !matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
        };
        // Where no thread can be had, figures are missing and nothing else.
        thread::Builder::new().name("gpus".to_owned()).spawn(look).ok()?;
        Some(Self { _stop: stop })
    }
}

/// How a device is named to the library.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Handle {
    Index(u32),
    Uuid(String),
}

/// The devices in the order of `CUDA_VISIBLE_DEVICES`; empty for all of them as they are.
fn order(visible: Option<&str>) -> Vec<Handle> {
    let parts = visible.unwrap_or_default().split(',').map(str::trim).filter(|it| !it.is_empty());
    let handle = |it: &str| it.parse().map_or_else(|_| Handle::Uuid(it.to_owned()), Handle::Index);
    parts.map(handle).collect()
}

/// What each device says. One that does not answer keeps its number.
fn look_at(devices: u16, ask: impl Fn(u16) -> Option<Gpu>) -> Vec<Option<Gpu>> {
    (0..devices).map(ask).collect()
}

/// The figures of the device that CUDA calls so.
fn ask(nvml: &Nvml, order: &[Handle], device: u16) -> Option<Gpu> {
    let own = Handle::Index(device.into());
    let device = match order.get(usize::from(device)).unwrap_or(&own) {
        Handle::Index(index) => nvml.device_by_index(*index),
        Handle::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str()),
    };
    let device = device.ok()?;
    let memory = device.memory_info().ok()?;
    Some(Gpu {
        name: device.name().ok()?,
        busy: f64::from(device.utilization_rates().ok()?.gpu) / 100.0,
        memory_used: memory.used,
        memory_total: memory.total,
        celsius: device.temperature(TemperatureSensor::Gpu).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_04_devices_are_asked_in_the_order_that_cuda_sees() {
        assert_eq!(order(None), []);
        assert_eq!(order(Some("")), []);
        let uuid = Handle::Uuid("GPU-1a".to_owned());
        assert_eq!(order(Some("2, GPU-1a,0")), [Handle::Index(2), uuid, Handle::Index(0)]);
    }

    #[test]
    fn health_04_a_device_that_says_nothing_does_not_lend_its_number_to_the_next() {
        let said = look_at(3, |device| {
            (device != 1).then(|| Gpu { celsius: device.into(), ..Gpu::default() })
        });
        let of = |at: usize| said[at].as_ref().map(|gpu| gpu.celsius);
        assert_eq!([of(0), of(1), of(2)], [Some(0), None, Some(2)]);
    }

    #[test]
    fn health_04_without_a_device_nothing_is_loaded() {
        let board = Arc::new(Board::new(1));
        assert!(Look::begin(0, Duration::from_secs(1), Arc::clone(&board)).is_none());
        assert_eq!(board.gpu(0), None);
    }
}
