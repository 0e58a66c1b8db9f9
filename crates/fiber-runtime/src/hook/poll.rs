//! `poll` of a fiber: asks the kernel, and waits in the reactor in between.

use std::time::Duration;

use libc::{c_int, pollfd, timespec};

use crate::fiber::deadline as limit;
use crate::net::op::{self, Stop};
use crate::reactor::gathered::Gathered;
use crate::{sys, time};

/// `poll` as a plain system call.
///
/// # Safety
/// As for libc's `poll`.
pub(super) unsafe fn plain(fds: *mut pollfd, count: usize, timeout_ms: c_int) -> isize {
    let timeout = u32::try_from(timeout_ms).ok().map(|millis| timespec {
        tv_sec: (millis / 1_000).into(),
        tv_nsec: (millis % 1_000 * 1_000_000).into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the caller's promise; the timespec lives through the call.
    unsafe { sys::ppoll_raw(fds, count, timeout) }
}

/// # Safety
/// As for libc's `poll`.
pub(super) unsafe fn poll(fds: *mut pollfd, count: usize, timeout_ms: c_int) -> Result<usize, Stop> {
    // Negative is for ever.
    let deadline = u64::try_from(timeout_ms).ok().map(|millis| time::now() + Duration::from_millis(millis));
    // What a scope's deadline ends reports nothing ready, too.
    let (deadline, _) = limit::bound(deadline);
    let mut gathered = None;
    loop {
        // SAFETY: the caller's promise.
        let ready = op::check(unsafe { plain(fds, count, 0) })?;
        if ready > 0 || deadline.is_some_and(|deadline| deadline <= time::now()) {
            return Ok(ready);
        }
        let fds = match count {
            0 => &[],
            // SAFETY: the kernel has just accepted the array.
            _ => unsafe { std::slice::from_raw_parts(fds, count) },
        };
        if gathered.is_none() {
            gathered = Gathered::new(fds)?;
        }
        let waited = match &gathered {
            Some(gathered) => gathered.wait(deadline),
            // Nothing but time.
            None => op::sleep_until(deadline.unwrap_or_else(|| time::now() + Duration::from_secs(3600))),
        };
        match waited {
            Ok(()) | Err(Stop::TimedOut) => {}
            Err(stop) => return Err(stop),
        }
    }
}
