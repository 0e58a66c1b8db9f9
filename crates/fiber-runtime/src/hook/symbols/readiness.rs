//! Waiting for one of several descriptors.

use std::time::Duration;

use libc::{c_int, epoll_event, nfds_t, pollfd, sigset_t, timespec};

use super::{Symbol, in_fiber};
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::{epoll, mask, poll as polling, sleep};
use crate::time;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("poll", poll as *const ()),
    Symbol::new("epoll_wait", epoll_wait as *const ()),
    Symbol::new("epoll_pwait", epoll_pwait as *const ()),
    Symbol::new("epoll_pwait2", epoll_pwait2 as *const ()),
];

/// # Safety
/// As for libc's `poll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int {
    if timeout_ms == 0 || !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { polling::plain(fds, count as usize, timeout_ms) }) as c_int;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { polling::poll(fds, count as usize, timeout_ms) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `epoll_wait`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the caller's promise; there is no mask.
    unsafe { epoll_pwait(epoll, events, most, timeout_ms, std::ptr::null()) }
}

/// # Safety
/// As for libc's `epoll_pwait`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout_ms: c_int,
    signals: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    if timeout_ms == 0 || !in_fiber(Probe::Other) || unsafe { mask::lets_in(signals) } {
        // SAFETY: the caller's promise.
        return plain(unsafe { epoll::plain(epoll, (events, most), timeout_ms, signals) }) as c_int;
    }
    let errno = Errno::save();
    // Negative is for ever.
    let deadline = u64::try_from(timeout_ms).ok().map(|millis| time::now() + Duration::from_millis(millis));
    // SAFETY: the caller's promise.
    let outcome = unsafe { epoll::wait(epoll, (events, most), deadline) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `epoll_pwait2`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: *const timespec,
    signals: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    let wanted = unsafe { timeout.as_ref() }.map(sleep::duration);
    // At once; or the kernel refuses the time.
    let is_plain = matches!(wanted, Some(None | Some(Duration::ZERO)));
    // SAFETY: the caller's promise.
    if is_plain || !in_fiber(Probe::Other) || unsafe { mask::lets_in(signals) } {
        // SAFETY: the caller's promise.
        return plain(unsafe { epoll::plain_precise(epoll, (events, most), timeout, signals) }) as c_int;
    }
    let errno = Errno::save();
    // What the clock cannot express is as good as for ever.
    let deadline = wanted.flatten().and_then(|wanted| time::now().checked_add(wanted));
    // SAFETY: the caller's promise.
    let outcome = unsafe { epoll::wait(epoll, (events, most), deadline) };
    errno.finish(outcome, libc::EAGAIN)
}
