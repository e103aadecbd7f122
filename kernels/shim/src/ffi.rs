//! The C face of the shim, `cpp/shim.h`, and the one call to it.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};

use crate::{Args, Fault};
use kernels::cuda::Launch;

unsafe extern "C" {
    fn shim_arguments(kernel: *const c_char) -> c_int;
    fn shim_launch(
        kernel: *const c_char,
        grid: *const c_uint,
        block: *const c_uint,
        shared: c_uint,
        args: *mut *mut c_void,
        seed: c_ulonglong,
        error: *mut c_char,
        error_len: usize,
    ) -> c_int;
    fn shim_watch(start: *const c_void, len: usize, guard: usize);
    fn shim_unwatch(start: *const c_void);
}

/// Reports accesses of kernels to the `guard` bytes before and behind `bytes`.
pub(crate) fn watch(bytes: &[u8], guard: usize) {
    // SAFETY: the shim keeps the address as a number and never follows it.
    unsafe { shim_watch(bytes.as_ptr().cast(), bytes.len(), guard) }
}

/// Ends [`watch`].
pub(crate) fn unwatch(bytes: &[u8]) {
    // SAFETY: as in `watch`.
    unsafe { shim_unwatch(bytes.as_ptr().cast()) }
}

/// Number of arguments of a kernel.
pub(crate) fn arguments(kernel: &CStr) -> Option<usize> {
    // SAFETY: a string that ends with a zero byte and outlives the call.
    let count = unsafe { shim_arguments(kernel.as_ptr()) };
    usize::try_from(count).ok()
}

pub(crate) fn launch(kernel: &str, launch: Launch, args: &Args, seed: u64) -> Result<(), Fault> {
    let name = CString::new(kernel).map_err(|_| Fault::new(kernel, "a zero in the name"))?;
    match arguments(&name) {
        None => return Err(Fault::new(kernel, "no such kernel")),
        Some(count) if count != args.values.len() => {
            return Err(Fault::new(kernel, "another number of arguments"));
        }
        Some(_) => {}
    }
    let mut values = args.values.clone();
    let mut pointers: Vec<*mut c_void> =
        values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
    let mut message = [0 as c_char; 512];
    // SAFETY: the name ends with a zero byte; grid and block have three entries each; there is a
    // pointer for every argument, to 8 bytes aligned to 8, which every argument fits; the message
    // has the length given. All outlive the call. What the kernel does with the addresses among
    // its arguments is on the caller of this crate: see `launch` there.
    let code = unsafe {
        shim_launch(
            name.as_ptr(),
            launch.grid.as_ptr(),
            launch.block.as_ptr(),
            launch.shared,
            pointers.as_mut_ptr(),
            seed,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the shim wrote a string with its zero byte into the message, which is not changed
    // while this borrows it.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) };
    Err(Fault { message: text.to_string_lossy().into_owned() })
}
