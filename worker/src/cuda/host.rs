//! The shared segment as the device sees it.

use super::driver::{Context, Fault, Registered};
use core::ptr::NonNull;
use link::Segment;
use std::{rc::Rc, sync::Arc};

/// Rows up to this many bytes of an order are read by the kernels over the bus; more are copied
/// first, which uses the bus better and leaves the multiprocessors to other work meanwhile.
/// A guess from published bandwidths, to be measured on a device.
const DIRECT_MAX: usize = 64 << 10;

/// Both arenas registered, or neither: then rows and replies go through device memory, and every
/// copy through a buffer of the driver.
#[derive(Debug)]
pub(super) struct Host {
    arenas: Result<(Registered, Registered), Fault>,
}

impl Host {
    pub(super) fn register(context: &Rc<Context>, segment: &Arc<Segment>) -> Self {
        // The segment is mapped to be written too, so neither arena is registered as read-only.
        let both = || {
            let requests = Registered::new(context, segment, |arenas| arenas.requests)?;
            Ok((requests, Registered::new(context, segment, |arenas| arenas.replies)?))
        };
        Self { arenas: both() }
    }

    /// For people: how bytes come to the device.
    pub(super) fn describe(&self) -> String {
        match &self.arenas {
            Ok(_) => "segment pinned".to_owned(),
            Err(fault) => format!("staged copies ({fault})"),
        }
    }

    /// Where kernels read these rows in place, if they shall.
    pub(super) fn rows(&self, place: NonNull<[u8]>) -> Option<u64> {
        let (requests, _) = self.arenas.as_ref().ok()?;
        if place.len() > DIRECT_MAX { None } else { requests.address(place) }
    }

    /// Where kernels write a reply in place, if they can.
    pub(super) fn reply(&self, place: NonNull<[u8]>) -> Option<u64> {
        self.arenas.as_ref().ok()?.1.address(place)
    }
}
