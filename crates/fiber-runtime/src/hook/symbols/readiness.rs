//! Waiting for one of several descriptors.

use std::ptr;
use std::time::{Duration, Instant};

use libc::{c_int, epoll_event, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec, timeval};

use super::{Symbol, in_fiber};
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::{epoll, fortify, mask, poll as polling, select as selecting, sleep};
use crate::time;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("poll", poll as *const ()),
    Symbol::new("ppoll", ppoll as *const ()),
    Symbol::new("__poll_chk", __poll_chk as *const ()),
    Symbol::new("__ppoll_chk", __ppoll_chk as *const ()),
    Symbol::new("select", select as *const ()),
    Symbol::new("pselect", pselect as *const ()),
    Symbol::new("epoll_wait", epoll_wait as *const ()),
    Symbol::new("epoll_pwait", epoll_pwait as *const ()),
    Symbol::new("epoll_pwait2", epoll_pwait2 as *const ()),
];

/// # Safety
/// As for libc's `poll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int {
    // Negative is for ever.
    let mut timeout = u32::try_from(timeout_ms).ok().map(|millis| timespec {
        tv_sec: (millis / 1_000).into(),
        tv_nsec: (millis % 1_000 * 1_000_000).into(),
    });
    // SAFETY: the caller's promise; there is no mask.
    unsafe { poll_for((fds, count), timeout.as_mut(), ptr::null()) }
}

/// # Safety
/// As for libc's `ppoll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    signals: *const sigset_t,
) -> c_int {
    // A copy, for libc's callers keep theirs.
    // SAFETY: the caller's promise.
    let mut timeout = unsafe { timeout.as_ref() }.copied();
    // SAFETY: the caller's promise.
    unsafe { poll_for((fds, count), timeout.as_mut(), signals) }
}

/// `poll` of programs built with `_FORTIFY_SOURCE`: `size` is how many bytes there are at `fds`.
///
/// # Safety
/// As for libc's `poll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout_ms: c_int, size: size_t) -> c_int {
    fortify::check(count as usize, size / size_of::<pollfd>());
    // SAFETY: the caller's promise.
    unsafe { poll(fds, count, timeout_ms) }
}

/// `ppoll` of programs built with `_FORTIFY_SOURCE`: `size` is how many bytes there are at `fds`.
///
/// # Safety
/// As for libc's `ppoll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    signals: *const sigset_t,
    size: size_t,
) -> c_int {
    fortify::check(count as usize, size / size_of::<pollfd>());
    // SAFETY: the caller's promise.
    unsafe { ppoll(fds, count, timeout, signals) }
}

/// What the forms of `poll` have in common.
///
/// # Safety
/// As for libc's `ppoll`.
#[inline(always)]
unsafe fn poll_for(
    (fds, count): (*mut pollfd, nfds_t),
    timeout: Option<&mut timespec>,
    signals: *const sigset_t,
) -> c_int {
    let fds = (fds, count as usize);
    // SAFETY: the caller's promise.
    let Some(deadline) = (unsafe { fiber_deadline(timeout.as_deref(), signals) }) else {
        // SAFETY: the caller's promise.
        return plain(unsafe { polling::plain(fds, timeout, signals) }) as c_int;
    };
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { polling::poll(fds, deadline) };
    errno.finish(outcome, libc::EAGAIN)
}

/// Until when the calling fiber waits, if it is a fiber's wait; the inner `None` is for ever. A plain call is made outside
/// fibers, with a timeout of zero or one that the kernel refuses, and with a mask that lets blocked signals in.
///
/// # Safety
/// `signals` is null or points to a set.
#[inline(always)]
unsafe fn fiber_deadline(timeout: Option<&timespec>, signals: *const sigset_t) -> Option<Option<Instant>> {
    let wanted = match timeout.map(sleep::duration) {
        Some(None | Some(Duration::ZERO)) => return None,
        wanted => wanted.flatten(),
    };
    // SAFETY: the caller's promise.
    if !in_fiber(Probe::Other) || unsafe { mask::lets_in(signals) } {
        return None;
    }
    // What the clock cannot express is as good as for ever.
    Some(wanted.and_then(|wanted| time::now().checked_add(wanted)))
}

/// # Safety
/// As for libc's `select`.
#[unsafe(no_mangle)]
unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the caller's promise.
    let Some(timeout) = (unsafe { timeout.as_mut() }) else {
        // SAFETY: the caller's promise.
        return unsafe { select_for(count, [read, write, except], None, ptr::null()) };
    };
    if timeout.tv_sec < 0 || timeout.tv_usec < 0 {
        return plain(-(libc::EINVAL as isize)) as c_int;
    }
    // As the kernel's select does, and libc's: any number of microseconds is a time.
    let mut left = timespec {
        tv_sec: timeout.tv_sec.saturating_add(timeout.tv_usec / 1_000_000),
        tv_nsec: timeout.tv_usec % 1_000_000 * 1_000,
    };
    // SAFETY: the caller's promise.
    let ready = unsafe { select_for(count, [read, write, except], Some(&mut left), ptr::null()) };
    *timeout = timeval { tv_sec: left.tv_sec, tv_usec: left.tv_nsec / 1_000 };
    ready
}

/// # Safety
/// As for libc's `pselect`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    signals: *const sigset_t,
) -> c_int {
    // A copy, for libc's callers keep theirs.
    // SAFETY: the caller's promise.
    let mut timeout = unsafe { timeout.as_ref() }.copied();
    // SAFETY: the caller's promise.
    unsafe { select_for(count, [read, write, except], timeout.as_mut(), signals) }
}

/// What the forms of `select` have in common. Leaves in `timeout` what is left of it, as Linux does.
///
/// # Safety
/// As for libc's `pselect`.
#[inline(always)]
unsafe fn select_for(
    count: c_int,
    sets: selecting::Sets,
    mut timeout: Option<&mut timespec>,
    signals: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    if let Some(deadline) = unsafe { fiber_deadline(timeout.as_deref(), signals) } {
        let errno = Errno::save();
        // SAFETY: the caller's promise.
        let outcome = unsafe { selecting::select(count, sets, deadline) };
        if let (Some(timeout), Some(deadline)) = (timeout.as_deref_mut(), deadline) {
            let left = deadline.saturating_duration_since(time::now());
            *timeout = timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        }
        if let Some(outcome) = outcome.transpose() {
            return errno.finish(outcome, libc::EAGAIN);
        }
    }
    // SAFETY: the caller's promise.
    plain(unsafe { selecting::plain(count, sets, timeout, signals) }) as c_int
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
    unsafe { epoll_pwait(epoll, events, most, timeout_ms, ptr::null()) }
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
    let Some(deadline) = (unsafe { fiber_deadline(timeout.as_ref(), signals) }) else {
        // SAFETY: the caller's promise.
        return plain(unsafe { epoll::plain_precise(epoll, (events, most), timeout, signals) }) as c_int;
    };
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { epoll::wait(epoll, (events, most), deadline) };
    errno.finish(outcome, libc::EAGAIN)
}
