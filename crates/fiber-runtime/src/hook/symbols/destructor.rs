//! Destructors of thread-locals: those that a fiber has for itself are the fiber's.
//!
//! Not where libc is linked statically: its own definition could not be reached behind ours.
#![cfg_attr(target_feature = "crt-static", allow(dead_code, reason = "nothing is defined there"))]

use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr};

use libc::{c_int, c_void};

use super::Symbol;
use crate::hook::thread_locals;
use crate::sys::errno;

/// What is defined here.
#[cfg(not(target_feature = "crt-static"))]
pub(super) const SYMBOLS: &[Symbol] =
    &[Symbol::new("__cxa_thread_atexit_impl", __cxa_thread_atexit_impl as *const ())];

/// What is defined here.
#[cfg(target_feature = "crt-static")]
pub(super) const SYMBOLS: &[Symbol] = &[];

type Destroy = unsafe extern "C" fn(*mut u8);
type Register = unsafe extern "C" fn(Destroy, *mut u8, *mut c_void) -> c_int;

/// # Safety
/// As for libc's `__cxa_thread_atexit_impl`: `destroy` may be called with `object` at the end of the thread, or of the fiber.
#[cfg_attr(not(target_feature = "crt-static"), unsafe(no_mangle))]
unsafe extern "C" fn __cxa_thread_atexit_impl(destroy: Destroy, object: *mut u8, dso: *mut c_void) -> c_int {
    if thread_locals::keep(destroy, object) {
        return 0;
    }
    match libc_register() {
        // SAFETY: the caller's promise.
        Some(register) => unsafe { register(destroy, object, dso) },
        None => -1,
    }
}

/// libc's own definition. There is no system call behind it that could be made instead, so it is looked up, as the next
/// one after ours; it does not call back into a hook.
fn libc_register() -> Option<Register> {
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    // Relaxed: a function's address, which is the same for whoever looks it up.
    let mut found = FOUND.load(Ordering::Relaxed);
    if found.is_null() {
        let before = errno::get();
        // SAFETY: the name is a string; the call looks at loaded objects.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"__cxa_thread_atexit_impl".as_ptr()) };
        errno::set(before);
        FOUND.store(found, Ordering::Relaxed);
    }
    // SAFETY: libc's function of that name has this type, and null is `None`.
    unsafe { mem::transmute::<*mut c_void, Option<Register>>(found) }
}
