//! `poll` of a fiber: asks the kernel, and waits in the reactor in between.

use std::ptr;
use std::time::Instant;

use libc::{pollfd, sigset_t, timespec};

use super::mask;
use crate::fiber::{deadline as scope, park};
use crate::net::op::{self, Stop};
use crate::reactor::gathered;
use crate::{sys, time};

/// `ppoll` as a plain system call (aarch64 has no `poll`). The kernel writes what is left of the time to `timeout`.
///
/// # Safety
/// As for libc's `ppoll`.
pub(super) unsafe fn plain(
    (fds, count): (*mut pollfd, usize),
    timeout: Option<&mut timespec>,
    signals: *const sigset_t,
) -> isize {
    let timeout = timeout.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: the caller's promise; the timespec lives through the call.
    unsafe {
        sys::syscall6(libc::SYS_ppoll, fds as usize, count, timeout as usize, signals as usize, mask::SIZE, 0)
    }
}

/// Waits until `deadline`, or that of a scope; then nothing is ready.
///
/// # Safety
/// As for libc's `poll`.
pub(super) unsafe fn poll(fds: (*mut pollfd, usize), deadline: Option<Instant>) -> Result<usize, Stop> {
    let (deadline, _) = scope::bound(deadline);
    let mut wanted = None;
    loop {
        let mut at_once = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the caller's promise.
        match op::check(unsafe { plain(fds, Some(&mut at_once), ptr::null()) }) {
            Ok(0) if deadline.is_none_or(|deadline| deadline > time::now()) => {}
            Ok(ready) => {
                park::courtesy(|| true);
                return Ok(ready);
            }
            // A signal came to the thread just then: its handler has run.
            Err(Stop::Errno(libc::EINTR)) => continue,
            stop => return stop,
        }
        let wanted = wanted.get_or_insert_with(|| match fds {
            (_, 0) => Vec::new(),
            // SAFETY: the kernel has just accepted the array.
            (fds, count) => gathered::wanted(unsafe { std::slice::from_raw_parts(fds, count) }),
        });
        match gathered::wait(wanted, deadline) {
            Ok(()) | Err(Stop::TimedOut) => {}
            Err(stop) => return Err(stop),
        }
    }
}
