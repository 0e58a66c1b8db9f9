//! Sleeping and giving way.

use std::ptr;

use libc::{c_int, c_uint, clockid_t, timespec, useconds_t};

use super::{Symbol, in_fiber};
use crate::fiber::park;
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::sleep as sleeping;
use crate::net::op;
use crate::sys;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("clock_nanosleep", clock_nanosleep as *const ()),
    Symbol::new("nanosleep", nanosleep as *const ()),
    Symbol::new("usleep", usleep as *const ()),
    Symbol::new("sleep", sleep as *const ()),
    Symbol::new("sched_yield", sched_yield as *const ()),
];

/// # Safety
/// As for libc's `clock_nanosleep`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    remain: *mut timespec,
) -> c_int {
    if in_fiber(Probe::Sleep) {
        // SAFETY: the caller's promise.
        if let Some(deadline) = unsafe { sleeping::deadline(clock, flags, request) } {
            let errno = Errno::save();
            // The sleep of a cancelled fiber, or past the deadline of a scope, is short, and no caller expects an error other than a signal's.
            let _ = op::sleep_until(deadline);
            return errno.finish(Ok(0), 0);
        }
    }
    // SAFETY: the caller's promise. This call alone reports its error as the value.
    -(unsafe { sys::clock_nanosleep_raw(clock, flags, request, remain) }) as c_int
}

/// # Safety
/// As for libc's `nanosleep`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nanosleep(request: *const timespec, remain: *mut timespec) -> c_int {
    // SAFETY: the caller's promise. Linux measures nanosleep by the monotonic clock.
    match unsafe { clock_nanosleep(libc::CLOCK_MONOTONIC, 0, request, remain) } {
        0 => 0,
        error => plain(-(error as isize)) as c_int,
    }
}

#[unsafe(no_mangle)]
extern "C" fn usleep(micros: useconds_t) -> c_int {
    let request =
        timespec { tv_sec: (micros / 1_000_000).into(), tv_nsec: (micros % 1_000_000 * 1_000).into() };
    // SAFETY: the request lives through the call, and what remains is not asked for.
    unsafe { nanosleep(&raw const request, ptr::null_mut()) }
}

#[unsafe(no_mangle)]
extern "C" fn sleep(seconds: c_uint) -> c_uint {
    let request = timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    let mut remain = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both live through the call.
    match unsafe { clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const request, &raw mut remain) } {
        0 => 0,
        // Interrupted by a signal: what is left, in whole seconds.
        _ => (remain.tv_sec + libc::time_t::from(remain.tv_nsec >= 500_000_000)) as c_uint,
    }
}

#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> c_int {
    if in_fiber(Probe::Yield) {
        let errno = Errno::save();
        park::yield_uncancelled();
        return errno.finish(Ok(0), 0);
    }
    sys::sched_yield();
    0
}
