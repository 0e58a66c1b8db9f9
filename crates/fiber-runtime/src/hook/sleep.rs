//! How long a libc call that sleeps is to sleep. The sleeping is [`crate::net::op::sleep_until`]'s: like
//! [`crate::time::sleep`], but without unwinding.

use std::time::{Duration, Instant};

use libc::{c_int, clockid_t, timespec};

use crate::time;

/// Until when a fiber sleeps. `None` if the kernel had better answer: invalid times, clocks that do not run steadily.
///
/// # Safety
/// `request` is null or points to a timespec.
pub(super) unsafe fn deadline(clock: clockid_t, flags: c_int, request: *const timespec) -> Option<Instant> {
    // SAFETY: the caller's promise.
    let request = unsafe { request.as_ref() }?;
    let wanted = duration(request)?;
    if !matches!(clock, libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME | libc::CLOCK_BOOTTIME) {
        return None;
    }
    let from_now = match flags {
        0 => wanted,
        libc::TIMER_ABSTIME => wanted.saturating_sub(clock_now(clock)?),
        _ => return None,
    };
    // What the clock cannot express is as good as for ever.
    let for_ever = Duration::from_secs(u32::MAX.into());
    time::now().checked_add(from_now).or_else(|| time::now().checked_add(for_ever))
}

/// `None` if the kernel would not take it for one.
pub(super) fn duration(time: &timespec) -> Option<Duration> {
    let nanos = u32::try_from(time.tv_nsec).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, nanos))
}

/// The time of an absolute sleep's clock, in a simulation too: there the caller computed its request from the real
/// clock as well.
fn clock_now(clock: clockid_t) -> Option<Duration> {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec lives through the call; this symbol is not hooked and does not block.
    match unsafe { libc::clock_gettime(clock, &raw mut now) } {
        0 => duration(&now),
        _ => None,
    }
}
