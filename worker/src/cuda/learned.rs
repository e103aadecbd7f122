//! The basis of the codings for hidden rows, resident on the device.

use super::driver::{Arg, Context, DeviceMemory, Fault};
use codec::Basis;
use std::rc::Rc;
use wire::Coding;

/// What kernels read of a basis: `mean` and `scale` `[width]`, `rotation` `[width, width]`, f32.
#[derive(Debug)]
pub(super) struct Learned {
    mean: DeviceMemory,
    scale: DeviceMemory,
    rotation: Option<DeviceMemory>,
    width: u32,
    rank: u32,
}

impl Learned {
    pub(super) fn new(context: &Rc<Context>, basis: &Basis) -> Result<Self, Fault> {
        let parts = basis.parts();
        let upload = |numbers: &[f32]| {
            let memory = DeviceMemory::new(context, size_of_val(numbers))?;
            memory.fill(0, bytemuck::cast_slice(numbers))?;
            Ok(memory)
        };
        let rotation = basis.has_rotation().then(|| upload(&parts.rotation)).transpose()?;
        let (mean, scale) = (upload(&parts.mean)?, upload(&parts.scale)?);
        Ok(Self { mean, scale, rotation, width: basis.width() as u32, rank: parts.rank })
    }

    /// Device memory it takes.
    pub(super) fn len(&self) -> usize {
        let rotation = self.rotation.as_ref().map_or(0, DeviceMemory::len);
        self.mean.len() + self.scale.len() + rotation
    }

    /// Components that rows of `cols` entries have in a coding, 0 where they are not projected;
    /// `None` where the coding needs a basis and this one does not serve, or not for such rows.
    pub(super) const fn components(&self, coding: Coding, cols: u32) -> Option<u32> {
        let fits = self.width == cols;
        match coding {
            Coding::Rotated if fits && self.rotation.is_some() => Some(self.width),
            Coding::Pca if fits && self.rotation.is_some() && self.rank > 0 => Some(self.rank),
            Coding::Int8Channel if fits => Some(0),
            _ => None,
        }
    }

    /// Entries of the rows it is for.
    pub(super) const fn width(&self) -> u32 {
        self.width
    }

    /// Address of the means.
    pub(super) const fn mean(&self) -> Arg {
        Arg::U64(self.mean.address())
    }

    /// Address of the scales.
    pub(super) const fn scale(&self) -> Arg {
        Arg::U64(self.scale.address())
    }

    /// What `project` takes: tables of centred rows and of their places, and the first components.
    pub(super) fn args(&self, centred: u64, rows: u32, components: u32, outs: u64) -> [Arg; 7] {
        [
            Arg::U64(centred),
            Arg::U32(rows),
            Arg::U64(self.rotation.as_ref().map_or(0, DeviceMemory::address)),
            Arg::U32(self.width),
            Arg::U32(components),
            Arg::U64(0),
            Arg::U64(outs),
        ]
    }
}
