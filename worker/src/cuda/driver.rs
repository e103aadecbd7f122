//! The CUDA driver as owned things: context, memory, streams, events, modules.
//!
//! Everything holds its context and gives itself back when it is dropped. Errors keep the driver's
//! code alone: naming it would call into the driver again.

use core::{ffi::c_void, fmt, ptr::NonNull};
use cudarc::driver::{
    result::{self, DriverError, ctx, device, event, module, primary_ctx, stream},
    sys::{self, CUdevice_attribute, CUresult},
};
use kernels::cuda::Launch;
use link::{Segment, door::Door};
use std::{
    ffi::{CString, c_char, c_uint},
    rc::Rc,
    sync::Arc,
};

/// What the driver refused, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    what: &'static str,
    code: CUresult,
}

impl Fault {
    /// More than a wave has room for: a mistake in counting.
    pub(crate) const fn no_room() -> Self {
        Self { what: "laying out a wave", code: CUresult::CUDA_ERROR_INVALID_VALUE }
    }

    /// A product by the library failed.
    pub(crate) const fn product() -> Self {
        Self { what: "the product by cuBLASLt", code: CUresult::CUDA_ERROR_UNKNOWN }
    }

    /// This program was built without kernels.
    pub(crate) const fn no_kernels() -> Self {
        Self { what: "finding a kernel", code: CUresult::CUDA_ERROR_NOT_FOUND }
    }

    /// True where there is not enough memory: less may do.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self.code, CUresult::CUDA_ERROR_OUT_OF_MEMORY)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {:?}", self.what, self.code)
    }
}

impl core::error::Error for Fault {}

/// Says what was tried.
fn at<T>(what: &'static str, result: Result<T, DriverError>) -> Result<T, Fault> {
    result.map_err(|error| Fault { what, code: error.0 })
}

/// The primary context of a device, current on the thread that opened it.
///
/// It is not `Send`, nor is anything that holds it: every driver call comes from that thread.
#[derive(Debug)]
pub(crate) struct Context {
    device: sys::CUdevice,
    alone: core::marker::PhantomData<*const ()>,
}

impl Context {
    /// Opens the device of this number, which [`super::devices`] has shown to be there.
    pub(crate) fn open(ordinal: i32) -> Result<Rc<Self>, Fault> {
        let device = at("choosing the device", device::get(ordinal))?;
        // SAFETY: `device` comes from `device::get`.
        let raw = at("opening the device", unsafe { primary_ctx::retain(device) })?;
        let context = Self { device, alone: core::marker::PhantomData };
        // SAFETY: retained above, and released only when `context` is dropped.
        at("opening the device", unsafe { ctx::set_current(raw) })?;
        Ok(Rc::new(context))
    }

    /// Waits until the device has done all that it was given.
    pub(crate) fn synchronize(&self) -> Result<(), Fault> {
        at("waiting for the device", ctx::synchronize())
    }

    /// Multiprocessors of the device.
    pub(crate) fn multiprocessors(&self) -> Result<u32, Fault> {
        let which = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        // SAFETY: `device` comes from `device::get`.
        let count = unsafe { device::get_attribute(self.device, which) };
        at("asking the device", count).map(|count| count.unsigned_abs())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained in `open`; all that lived in it holds an `Rc` of it and is gone.
        let _ = unsafe { primary_ctx::release(self.device) };
    }
}

/// Memory of the device.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    at: u64,
    len: usize,
    _context: Rc<Context>,
}

impl DeviceMemory {
    /// At least one byte of it, not initialised.
    pub(crate) fn new(context: &Rc<Context>, len: usize) -> Result<Self, Fault> {
        let len = len.max(1);
        // SAFETY: the bytes are not initialised, and nothing reads them before a copy or a kernel
        // has written them.
        let at = at("taking device memory", unsafe { result::malloc_sync(len) })?;
        Ok(Self { at, len, _context: Rc::clone(context) })
    }

    /// Its address on the device.
    pub(crate) const fn address(&self) -> u64 {
        self.at
    }

    /// Bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The CUDA IPC handle by which another process can map it.
    pub(crate) fn handle(&self) -> Result<[u8; 64], Fault> {
        let mut handle = sys::CUipcMemHandle { reserved: [0; 64] };
        // SAFETY: writes one handle; the address is an allocation's start.
        let done = unsafe { sys::cuIpcGetMemHandle(&raw mut handle, self.at) };
        at("lending memory", done.result())?;
        Ok(handle.reserved.map(|byte| byte as u8))
    }

    /// Waits until all of `bytes` is there, from `offset` on.
    pub(crate) fn fill(&self, offset: usize, bytes: &[u8]) -> Result<(), Fault> {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.len), "{} bytes into {}", bytes.len(), self.len);
        let to = self.at + offset as u64;
        // SAFETY: the target is ours and long enough; the call returns when the copy is done.
        at("copying to the device", unsafe { result::memcpy_htod_sync(to, bytes) })
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: from `malloc_sync`, given back once. Waves wait for their work before they drop.
        let _ = unsafe { result::free_sync(self.at) };
    }
}

/// Memory of the host that the device reads without a detour.
#[derive(Debug)]
pub(crate) struct PinnedMemory {
    at: NonNull<u8>,
    len: usize,
    _context: Rc<Context>,
}

impl PinnedMemory {
    /// At least one byte of it, zeroed.
    pub(crate) fn new(context: &Rc<Context>, len: usize) -> Result<Self, Fault> {
        let len = len.max(1);
        // Write-combined memory would be slow to read back, so the plain kind.
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: the memory is written below before anything reads it.
        let raw = at("pinning memory", unsafe { result::malloc_host(len, flags) })?;
        let failed = Fault { what: "pinning memory", code: CUresult::CUDA_ERROR_UNKNOWN };
        let at = NonNull::new(raw.cast::<u8>()).ok_or(failed)?;
        // SAFETY: `len` fresh bytes that only we know.
        unsafe { at.write_bytes(0, len) };
        Ok(Self { at, len, _context: Rc::clone(context) })
    }

    /// All of it. The device may be reading or writing it for copies under way: whoever asks for it
    /// has waited for those that reach the bytes in question.
    pub(crate) const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: ours, initialised, and borrowed mutably. A wave takes this slice only while none
        // of its copies is under way: before it is launched, and once it is done.
        unsafe { core::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }

    /// Where it lies.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.at
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: from `malloc_host`, given back once.
        let _ = unsafe { result::free_host(self.at.as_ptr().cast()) };
    }
}

/// A stretch of the shared segment that the device may address.
#[derive(Debug)]
pub(crate) struct Registered {
    host: NonNull<[u8]>,
    device: u64,
    _segment: Arc<Segment>,
    _context: Rc<Context>,
}

impl Registered {
    /// Registers one of the segment's [`link::Arenas`].
    pub(crate) fn new(
        context: &Rc<Context>,
        segment: &Arc<Segment>,
        arena: fn(&link::Arenas) -> NonNull<[u8]>,
    ) -> Result<Self, Fault> {
        let host = arena(&segment.arenas());
        let flags = sys::CU_MEMHOSTREGISTER_DEVICEMAP | sys::CU_MEMHOSTREGISTER_PORTABLE;
        let start = host.as_ptr().cast::<c_void>();
        // SAFETY: the arena is mapped for as long as the segment lives, which `_segment` keeps, and
        // it is unregistered before that is dropped.
        let done = unsafe { sys::cuMemHostRegister_v2(start, host.len(), flags) };
        at("registering the segment", done.result())?;
        // From here on a failure unregisters it again.
        let mut registered =
            Self { host, device: 0, _segment: Arc::clone(segment), _context: Rc::clone(context) };
        // SAFETY: writes one address; `start` was registered above with DEVICEMAP.
        let done =
            unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut registered.device, start, 0) };
        at("registering the segment", done.result())?;
        Ok(registered)
    }

    /// The device's address for a stretch within.
    pub(crate) fn address(&self, place: NonNull<[u8]>) -> Option<u64> {
        let offset = place.as_ptr().addr().checked_sub(self.host.as_ptr().addr())?;
        let end = offset.checked_add(place.len())?;
        (end <= self.host.len()).then_some(self.device + offset as u64)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: registered in `new`, once; waves have waited for their work before.
        let _ = unsafe { sys::cuMemHostUnregister(self.host.as_ptr().cast()) };
    }
}

/// Memory of the device that another process owns.
#[derive(Debug)]
pub(crate) struct Imported {
    at: u64,
    len: u64,
    _context: Rc<Context>,
}

impl Imported {
    /// Maps the allocation of a CUDA IPC handle. Any 64 bytes may be tried.
    pub(crate) fn open(context: &Rc<Context>, handle: &[u8; 64]) -> Result<Self, Fault> {
        let handle = sys::CUipcMemHandle { reserved: handle.map(|byte| byte as c_char) };
        let flags = sys::CUipcMem_flags::CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS as c_uint;
        let mut address = 0;
        // SAFETY: writes one address; the driver judges the handle.
        let done = unsafe { sys::cuIpcOpenMemHandle_v2(&raw mut address, handle, flags) };
        at("opening lent memory", done.result())?;
        let mut imported = Self { at: address, len: 0, _context: Rc::clone(context) };
        let (mut base, mut len) = (0, 0);
        // SAFETY: writes two numbers; the address is what the driver has just mapped.
        let done =
            unsafe { sys::cuMemGetAddressRange_v2(&raw mut base, &raw mut len, imported.at) };
        at("measuring lent memory", done.result())?;
        // What lies before the address is not lent.
        imported.len = (base + len as u64).saturating_sub(imported.at);
        Ok(imported)
    }

    /// Its address in this process.
    pub(crate) const fn address(&self) -> u64 {
        self.at
    }

    /// Bytes from there to its end.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }
}

impl Drop for Imported {
    fn drop(&mut self) {
        // SAFETY: opened in `open`, closed once; what computes on it holds a share of it.
        let _ = unsafe { sys::cuIpcCloseMemHandle(self.at) };
    }
}

/// A kernel of a loaded module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function(sys::CUfunction);

/// A loaded module.
#[derive(Debug)]
pub(crate) struct Module {
    raw: sys::CUmodule,
    _context: Rc<Context>,
}

impl Module {
    /// Compiles a text of PTX for the device.
    pub(crate) fn load(context: &Rc<Context>, ptx: &str) -> Result<Self, Fault> {
        let malformed = Fault { what: "loading kernels", code: CUresult::CUDA_ERROR_INVALID_PTX };
        let text = CString::new(ptx).map_err(|_| malformed)?;
        // SAFETY: a text that ends with a zero, which is a form that the call takes; the driver
        // reads it during the call only.
        let raw = unsafe { module::load_data(text.as_ptr().cast()) };
        Ok(Self { raw: at("loading kernels", raw)?, _context: Rc::clone(context) })
    }

    /// A kernel by its name. It is the caller's to use it no longer than the module.
    pub(crate) fn function(&self, name: &str) -> Result<Function, Fault> {
        let missing = Fault { what: "finding a kernel", code: CUresult::CUDA_ERROR_NOT_FOUND };
        let name = CString::new(name).map_err(|_| missing)?;
        // SAFETY: the module is loaded for as long as `self` lives.
        let raw = unsafe { module::get_function(self.raw, name) };
        at("finding a kernel", raw).map(Function)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded in `load`, unloaded once; launches are over when the backend is dropped.
        let _ = unsafe { module::unload(self.raw) };
    }
}

/// One parameter of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// A 32-bit number.
    U32(u32),
    /// An address, or a 64-bit number.
    U64(u64),
}

/// Most parameters of a kernel.
const ARGS_MAX: usize = 12;

/// A queue of work on the device.
#[derive(Debug)]
pub(crate) struct Stream {
    raw: sys::CUstream,
    _context: Rc<Context>,
}

impl Stream {
    /// One that waits for no other.
    pub(crate) fn new(context: &Rc<Context>) -> Result<Self, Fault> {
        let raw = at("making a stream", stream::create(stream::StreamKind::NonBlocking))?;
        Ok(Self { raw, _context: Rc::clone(context) })
    }

    /// Queues a copy to the device.
    ///
    /// # Safety
    /// `from` is readable for `len` bytes and unchanged until the copy is done; `to` is device
    /// memory of that length that nothing else uses meanwhile.
    pub(crate) unsafe fn copy_in(
        &self,
        to: u64,
        from: NonNull<u8>,
        len: usize,
    ) -> Result<(), Fault> {
        // SAFETY: by the contract of this function.
        let done =
            unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast::<c_void>(), len, self.raw) };
        at("copying to the device", done.result())
    }

    /// Queues a copy from the device.
    ///
    /// # Safety
    /// `to` is writable for `len` bytes, and nothing else uses it until the copy is done; `from` is
    /// device memory of that length.
    pub(crate) unsafe fn copy_out(
        &self,
        to: NonNull<u8>,
        from: u64,
        len: usize,
    ) -> Result<(), Fault> {
        // SAFETY: by the contract of this function.
        let done =
            unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_ptr().cast::<c_void>(), from, len, self.raw) };
        at("copying from the device", done.result())
    }

    /// Copies from the device, behind everything that is queued, and waits for it.
    ///
    /// # Safety
    /// `from` is memory that the device may read, as long as `to`.
    pub(crate) unsafe fn read(&self, from: u64, to: &mut [u8]) -> Result<(), Fault> {
        let start = NonNull::from(&mut *to).cast();
        // SAFETY: by the contract of this function; `to` is borrowed until the wait is over, and a
        // driver that refuses to wait has nothing under way any more.
        unsafe { self.copy_out(start, from, to.len()) }?;
        self.synchronize()
    }

    /// Queues a copy on the device.
    ///
    /// # Safety
    /// Both are device memory of `len` bytes that nothing else writes until the copy is done.
    pub(crate) unsafe fn copy_within(&self, to: u64, from: u64, len: usize) -> Result<(), Fault> {
        // SAFETY: by the contract of this function.
        at("copying on the device", unsafe { result::memcpy_dtod_async(to, from, len, self.raw) })
    }

    /// Queues a kernel.
    ///
    /// # Safety
    /// `args` are what the kernel takes, in number, order and width, and every address that it
    /// reaches through them is valid, and used by nothing else, until it is done.
    pub(crate) unsafe fn launch(
        &self,
        function: Function,
        launch: &Launch,
        args: &[Arg],
    ) -> Result<(), Fault> {
        let mut values = [0_u64; ARGS_MAX];
        let mut places = [core::ptr::null_mut::<c_void>(); ARGS_MAX];
        assert!(args.len() <= ARGS_MAX, "{} parameters", args.len());
        for ((value, place), arg) in values.iter_mut().zip(&mut places).zip(args) {
            // Little-endian: the first four bytes of a 64-bit number are its low half.
            *value = match *arg {
                Arg::U32(number) => u64::from(number),
                Arg::U64(number) => number,
            };
            *place = core::ptr::from_mut(value).cast();
        }
        let [grid_x, grid_y, grid_z] = launch.grid;
        let [block_x, block_y, block_z] = launch.block;
        // SAFETY: by the contract of this function; the parameters are copied during the call, and
        // the function's module lives as long as the backend.
        let done = unsafe {
            result::launch_kernel(
                function.0,
                (grid_x, grid_y, grid_z),
                (block_x, block_y, block_z),
                launch.shared,
                self.raw,
                &mut places[..args.len()],
            )
        };
        at("launching a kernel", done)
    }

    /// Queues a ring of `door` behind everything that is queued.
    pub(crate) fn ring_when_done(&self, door: &'static Door) -> Result<(), Fault> {
        let door = core::ptr::from_ref(door).cast_mut().cast::<c_void>();
        // SAFETY: `ring` takes what it is given here, a door that is never dropped.
        at("asking for a call", unsafe { stream::launch_host_function(self.raw, ring, door) })
    }

    /// For libraries that queue work themselves.
    pub(crate) const fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// Waits until all that is queued is done.
    pub(crate) fn synchronize(&self) -> Result<(), Fault> {
        // SAFETY: created in `new`, destroyed when dropped.
        at("waiting for a stream", unsafe { stream::synchronize(self.raw) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What the queued work uses is dropped next. Where the device is lost there is none.
        let _ = self.synchronize();
        // SAFETY: created in `new`, destroyed once.
        let _ = unsafe { stream::destroy(self.raw) };
    }
}

/// Called by the driver's own thread; it may not call the driver, and does not.
unsafe extern "C" fn ring(door: *mut c_void) {
    // SAFETY: `ring_when_done` is the only one who passes this function on, with a `&'static Door`;
    // a door may be rung by any thread.
    let door = unsafe { &*door.cast::<Door>().cast_const() };
    door.ring();
}

/// A point in a stream.
#[derive(Debug)]
pub(crate) struct Event {
    raw: sys::CUevent,
    _context: Rc<Context>,
}

impl Event {
    /// One that is not recorded yet, with time or without (which is cheaper).
    pub(crate) fn new(context: &Rc<Context>, timed: bool) -> Result<Self, Fault> {
        let flags = if timed {
            sys::CUevent_flags::CU_EVENT_DEFAULT
        } else {
            sys::CUevent_flags::CU_EVENT_DISABLE_TIMING
        };
        let raw = at("making an event", event::create(flags))?;
        Ok(Self { raw, _context: Rc::clone(context) })
    }

    /// Puts it behind everything that is queued.
    pub(crate) fn record(&self, stream: &Stream) -> Result<(), Fault> {
        // SAFETY: both exist.
        at("recording an event", unsafe { event::record(self.raw, stream.raw) })
    }

    /// True once everything before it is done.
    pub(crate) fn is_done(&self) -> Result<bool, Fault> {
        // SAFETY: it exists.
        match unsafe { event::query(self.raw) } {
            Ok(()) => Ok(true),
            Err(DriverError(CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => at("computing", Err(error)),
        }
    }

    /// Seconds from `start` to this one; both timed, recorded and done.
    pub(crate) fn seconds_since(&self, start: &Self) -> Result<f64, Fault> {
        // SAFETY: both exist.
        let ms = unsafe { event::elapsed(start.raw, self.raw) };
        at("reading the time", ms).map(|ms| f64::from(ms) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed once.
        let _ = unsafe { event::destroy(self.raw) };
    }
}

const _: () = assert!(size_of::<c_uint>() == 4);
