//! `epoll_wait` of a fiber: an event loop that knows nothing of fibers (mio's, tokio's, a C library's) parks its fiber.
//!
//! An epoll descriptor is readable while it has events to give, and can itself be registered with an epoll instance. So the
//! instance is asked without waiting, and if it has nothing, its descriptor is waited for in the worker's own. The kernel
//! passes an edge on for every event that arrives, whether earlier ones were taken or not, so nothing is lost, and several
//! fibers may wait for one instance: all are woken, and those that find nothing wait again.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, epoll_event, sigset_t, timespec};

use super::{mask, thread_locals};
use crate::fiber::{deadline as scope, park};
use crate::net::op::{self, Stop};
use crate::reactor::Interest;
use crate::{sys, time};

/// How long a fiber sleeps between two questions to an instance that cannot be waited for.
const NAP: Duration = Duration::from_millis(1);

/// `epoll_pwait` as a plain system call (aarch64 has no `epoll_wait`).
///
/// # Safety
/// As for libc's `epoll_pwait`.
pub(super) unsafe fn plain(
    epoll: RawFd,
    (events, most): (*mut epoll_event, c_int),
    timeout_ms: c_int,
    signals: *const sigset_t,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        sys::syscall6(
            libc::SYS_epoll_pwait,
            epoll as usize,
            events as usize,
            most as usize,
            timeout_ms as usize,
            signals as usize,
            mask::SIZE,
        )
    }
}

/// `epoll_pwait2` as a plain system call.
///
/// # Safety
/// As for libc's `epoll_pwait2`.
pub(super) unsafe fn plain_precise(
    epoll: RawFd,
    (events, most): (*mut epoll_event, c_int),
    timeout: *const timespec,
    signals: *const sigset_t,
) -> isize {
    /// The same on all machines.
    const EPOLL_PWAIT2: libc::c_long = 441;

    // SAFETY: the caller's promise.
    unsafe {
        sys::syscall6(
            EPOLL_PWAIT2,
            epoll as usize,
            events as usize,
            most as usize,
            timeout as usize,
            signals as usize,
            mask::SIZE,
        )
    }
}

/// Waits until `deadline`, or that of a scope; then there are no events.
///
/// # Safety
/// As for libc's `epoll_wait`.
pub(super) unsafe fn wait(
    epoll: RawFd,
    events: (*mut epoll_event, c_int),
    deadline: Option<Instant>,
) -> Result<usize, Stop> {
    let (deadline, _) = scope::bound(deadline);
    loop {
        // SAFETY: the caller's promise.
        let count = op::check(unsafe { plain(epoll, events, 0, std::ptr::null()) })?;
        let is_over = deadline.is_some_and(|deadline| deadline <= time::now());
        if count > 0 || is_over {
            // A loop that never runs dry gives way as well.
            park::courtesy(|| true);
            return Ok(count);
        }
        if !LOOKED.load(Ordering::Relaxed) {
            look_for_thread_locals();
        }
        match op::wait(epoll, Interest::Read, deadline) {
            Ok(()) | Err(Stop::TimedOut) => {}
            // It contains epoll instances five deep, or the worker's own, or the user has no more watches.
            Err(Stop::Errno(libc::ELOOP | libc::EINVAL | libc::ENOSPC | libc::ENOMEM)) => {
                let nap = time::now() + NAP;
                match op::sleep_until(deadline.map_or(nap, |deadline| deadline.min(nap))) {
                    Ok(()) | Err(Stop::TimedOut) => {}
                    Err(stop) => return Err(stop),
                }
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// Whether it is known that the first event loop has waited in a fiber.
static LOOKED: AtomicBool = AtomicBool::new(false);

/// An event loop waits in a fiber, so another may soon run on the same thread. Says so if what the first has noted in
/// thread-locals cannot be kept from the second.
#[cold]
fn look_for_thread_locals() {
    if LOOKED.swap(true, Ordering::Relaxed) {
        return;
    }
    let Err(error) = thread_locals::found() else { return };
    // Subscribers may do anything, and a hook must not.
    let say = move || {
        tracing::warn!(
            %error,
            "an event loop waits in a fiber: a second one of the same worker finds what this one has noted in thread-locals"
        );
    };
    drop(std::thread::Builder::new().name("moon-report".to_owned()).spawn(say));
}
