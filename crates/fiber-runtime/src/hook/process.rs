//! Waiting for child processes: the kernel is asked without waiting (`WNOHANG`), and again when there may be news. Of the
//! end of one child its `pidfd` tells; of stops, of what a tracer is told, and of "any child" nobody does (a handler for
//! `SIGCHLD` would be the program's, not ours), so there the call is repeated after naps as well.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::{c_int, id_t, idtype_t, pid_t, rusage, siginfo_t};

use super::naps;
use super::socket;
use crate::net::op::{self, Stop};
use crate::{reactor, sys};

/// `wait4`, plainly.
///
/// # Safety
/// As for libc's `wait4`.
pub(super) unsafe fn wait4_raw(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        sys::syscall6(libc::SYS_wait4, pid as usize, status as usize, options as usize, usage as usize, 0, 0)
    }
}

/// `waitid`, plainly.
///
/// # Safety
/// As for libc's `waitid`.
pub(super) unsafe fn waitid_raw(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> isize {
    // SAFETY: the caller's promise; the usage of resources is not asked for.
    unsafe {
        sys::syscall6(libc::SYS_waitid, kind as usize, id as usize, info as usize, options as usize, 0, 0)
    }
}

/// # Safety
/// As for libc's `wait4`.
pub(super) unsafe fn wait4(
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> Result<usize, Stop> {
    // SAFETY: the caller's promise.
    let look = || unsafe { wait4_raw(pid, status, options | libc::WNOHANG, usage) };
    if options & libc::WNOHANG != 0 {
        return op::check(look());
    }
    if !naps::may_give_way() {
        // SAFETY: the caller's promise.
        return op::check(unsafe { wait4_raw(pid, status, options, usage) });
    }
    let news = || Some(op::check(look())).filter(|outcome| *outcome != Ok(0));
    wait_for(u32::try_from(pid).ok(), news)
}

/// # Safety
/// As for libc's `waitid`.
pub(super) unsafe fn waitid(
    kind: idtype_t,
    id: id_t,
    info: *mut siginfo_t,
    options: c_int,
) -> Result<usize, Stop> {
    let waits_by_itself = options & libc::WNOHANG != 0
        || !naps::may_give_way()
        // Its own O_NONBLOCK decides, and then nothing is waited for.
        || kind == libc::P_PIDFD && socket::must_block(id as RawFd).is_err();
    if waits_by_itself {
        // SAFETY: the caller's promise.
        return op::check(unsafe { waitid_raw(kind, id, info, options) });
    }
    let mut own = MaybeUninit::<siginfo_t>::zeroed();
    let told = if info.is_null() { own.as_mut_ptr() } else { info };
    let news = || {
        // SAFETY: the caller's promise, or our own.
        match op::check(unsafe { waitid_raw(kind, id, told, options | libc::WNOHANG) }) {
            // SAFETY: the kernel has filled it in, with a process's number if there is news.
            Ok(_) if unsafe { (*told).si_pid() } == 0 => None,
            outcome => Some(outcome),
        }
    };
    match kind {
        libc::P_PID => wait_for(Some(id), news),
        libc::P_PIDFD => naps::until_told(Some(id as RawFd), news)?,
        _ => wait_for(None, news),
    }
}

/// Waits for news of one child, or of any.
fn wait_for(pid: Option<u32>, mut news: impl FnMut() -> Option<Result<usize, Stop>>) -> Result<usize, Stop> {
    /// Fibers that wait for it hear of its end.
    struct Teller(OwnedFd);

    impl Drop for Teller {
        fn drop(&mut self) {
            reactor::closing(self.0.as_raw_fd());
        }
    }

    // Before a descriptor is made for it: it may have ended, or be nobody's child.
    if let Some(outcome) = news() {
        return outcome;
    }
    let teller = pid.filter(|&pid| pid != 0).and_then(|pid| sys::pidfd(pid).ok()).map(Teller);
    naps::until_told(teller.as_ref().map(|teller| teller.0.as_raw_fd()), news)?
}
