//! Locks on files.

use libc::{c_int, off_t};

use super::{Symbol, in_fiber};
use crate::hook::lock;
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("flock", flock as *const ()),
    Symbol::new("lockf", lockf as *const ()),
    Symbol::new("lockf64", lockf64 as *const ()),
];

/// # Safety
/// As for libc's `flock`.
#[unsafe(no_mangle)]
unsafe extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    if !in_fiber(Probe::Other) {
        // SAFETY: plain numbers.
        return plain(unsafe { lock::flock_raw(fd, operation) }) as c_int;
    }
    let errno = Errno::save();
    errno.finish(lock::flock(fd, operation), libc::ETIMEDOUT)
}

/// # Safety
/// As for libc's `lockf`.
#[unsafe(no_mangle)]
unsafe extern "C" fn lockf(fd: c_int, command: c_int, length: off_t) -> c_int {
    let errno = Errno::save();
    let outcome = lock::lockf(fd, command, length, in_fiber(Probe::Other));
    errno.finish(outcome, libc::ETIMEDOUT)
}

/// # Safety
/// As for libc's `lockf64`.
#[unsafe(no_mangle)]
unsafe extern "C" fn lockf64(fd: c_int, command: c_int, length: off_t) -> c_int {
    // SAFETY: the caller's promise. Offsets have 64 bits either way.
    unsafe { lockf(fd, command, length) }
}
