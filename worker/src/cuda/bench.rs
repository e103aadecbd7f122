//! A device for benches: the worker's kernels and launches, without a node around them.

use super::{
    Closed, Device,
    devices::device,
    driver::{Context, DeviceMemory, Event, Fault, Stream},
    kernels::Kernels,
    lm_head::Head,
    trial::{Case, Travel, Trial},
};
use kernels::cuda::Tuning;
use std::rc::Rc;
use wire::Dtype;

/// Bytes that are copied to find the device's bandwidth: far more than its caches hold.
const COPIED: usize = 1 << 30;

/// An opened device.
#[derive(Debug)]
pub struct Bench {
    head: Option<Head>,
    kernels: Kernels,
    tuning: Tuning,
    context: Rc<Context>,
    device: Device,
}

impl Bench {
    /// Opens a device and loads the kernels.
    ///
    /// # Errors
    /// Why there is none, or why it cannot be used.
    pub fn open(ordinal: u16) -> Result<Self, Closed> {
        let device = device(ordinal)?;
        let open = || {
            let context = Context::open(i32::from(ordinal))?;
            let kernels = Kernels::load(&context)?;
            let multiprocessors = context.multiprocessors()?;
            Ok((context, kernels, multiprocessors))
        };
        let (context, kernels, multiprocessors) =
            open().map_err(|fault| Closed::Device { device: device.clone(), fault })?;
        let (major, minor) = device.capability;
        let tuning = Tuning::for_capability(major, minor, multiprocessors);
        Ok(Self { head: None, kernels, tuning, context, device })
    }

    /// Which device.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The tuning numbers in use.
    #[must_use]
    pub const fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Bytes per second of a copy on the device, read and written bytes counted.
    ///
    /// # Errors
    /// The driver's.
    pub fn copy_bandwidth(&self) -> Result<f64, Fault> {
        const TIMES: u32 = 20;
        let from = DeviceMemory::new(&self.context, COPIED)?;
        let to = DeviceMemory::new(&self.context, COPIED)?;
        let stream = Stream::new(&self.context)?;
        let (start, end) = (Event::new(&self.context, true)?, Event::new(&self.context, true)?);
        for time in 0..=TIMES {
            if time == 1 {
                start.record(&stream)?;
            }
            // SAFETY: both stretches are ours and as long; their content is nobody's.
            unsafe { stream.copy_within(to.address(), from.address(), COPIED) }?;
        }
        end.record(&stream)?;
        stream.synchronize()?;
        Ok(2.0 * COPIED as f64 * f64::from(TIMES) / end.seconds_since(&start)?)
    }

    /// Puts made-up bf16 weights `[vocabulary, width]` on the device, for cases of lm-head.
    ///
    /// # Errors
    /// The driver's: the memory may not be there.
    pub fn weigh(&mut self, vocabulary: u32, width: u32) -> Result<(), Fault> {
        self.head = None;
        self.head = Some(Head::made_up(&self.context, Dtype::Bf16, vocabulary, width)?);
        Ok(())
    }

    /// True where cuBLASLt multiplies hidden rows of the weights' own type.
    #[must_use]
    pub fn has_library(&self) -> bool {
        self.head.as_ref().is_some_and(Head::has_library)
    }

    /// Seconds of one run of a case among `count` in a row, by the device's clock.
    ///
    /// # Errors
    /// The driver's.
    pub fn steady(&self, case: &Case, travel: Travel, count: u32) -> Result<f64, Fault> {
        self.trial(case)?.steady(travel, count)
    }

    /// Seconds of one run alone, as the host sees it.
    ///
    /// # Errors
    /// The driver's.
    pub fn alone(&self, case: &Case, travel: Travel) -> Result<f64, Fault> {
        self.trial(case)?.alone(travel)
    }

    fn trial(&self, case: &Case) -> Result<Trial<'_>, Fault> {
        Trial::new(&self.context, &self.kernels, self.tuning, self.head.as_ref(), case)
    }
}
