//! Waiting for the end of a thread. The kernel tells only the thread that waits in `pthread_join`, so a fiber asks and
//! takes naps ([`super::naps`]).
//!
//! This is the one call here that has no system call of its own: it ends in glibc's or musl's `pthread_timedjoin_np`, which
//! is `pthread_join` when it is given no time, and looks without waiting, with all of its checks, when it is given one that
//! has passed.

use std::ptr;

use libc::{c_int, c_void, pthread_t, timespec};

use super::naps;
use crate::fiber::cancel::Shield;

unsafe extern "C" {
    fn pthread_timedjoin_np(thread: pthread_t, result: *mut *mut c_void, until: *const timespec) -> c_int;
}

/// `pthread_join`, plainly.
///
/// # Safety
/// As for libc's `pthread_join`.
pub(super) unsafe fn join_plainly(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    // SAFETY: the caller's promise; without a time it waits for ever.
    unsafe { pthread_timedjoin_np(thread, result, ptr::null()) }
}

/// Not ended by a cancellation, for nobody expects that: the thread may use what the caller owns.
///
/// # Safety
/// As for libc's `pthread_join`.
pub(super) unsafe fn join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    static PAST: timespec = timespec { tv_sec: 1, tv_nsec: 0 };

    if !naps::may_give_way() {
        // SAFETY: the caller's promise.
        return unsafe { join_plainly(thread, result) };
    }
    let _shield = Shield::raise();
    let ended = naps::until(|| {
        // SAFETY: the caller's promise. The worker's own thread is an error (`EDEADLK`) at once.
        match unsafe { pthread_timedjoin_np(thread, result, &raw const PAST) } {
            libc::ETIMEDOUT => None,
            outcome => Some(outcome),
        }
    });
    // SAFETY: the caller's promise. Nothing ends the naps early behind the shield.
    ended.unwrap_or_else(|_| unsafe { join_plainly(thread, result) })
}
