//! Time as fibers see it: the system's monotonic clock, or a simulation's virtual one.
//!
//! Deadlines are [`Instant`]s of [`now`]. In a simulation `now` starts at a fixed base and jumps to the next timer when
//! nothing is ready, so code that asks this clock runs years in milliseconds and the same way each time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::fiber::wake::Signals;
use crate::fiber::{cancel, deadline as limit, park};
use crate::scheduler::worker::Worker;
use crate::waiter::Woken;

/// The instant from which workers count nanoseconds: the first time the process asked.
pub(crate) fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

/// Nanoseconds of a duration; the 584 years that a u64 holds are for ever.
#[inline]
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Translates between [`Instant`] and a worker's nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock { base: base() }
    }

    /// Nanoseconds from the base to `instant`; zero for all before.
    #[inline]
    pub(crate) fn nanos(&self, instant: Instant) -> u64 {
        saturating_nanos(instant.saturating_duration_since(self.base))
    }

    /// The instant `nanos` after the base.
    #[inline]
    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        self.base + Duration::from_nanos(nanos)
    }

    /// The system's time.
    #[inline]
    pub(crate) fn system_nanos(&self) -> u64 {
        self.nanos(Instant::now())
    }
}

/// The current time: virtual in a simulation, `Instant::now()` elsewhere.
#[inline]
pub fn now() -> Instant {
    Worker::with_current(|worker| worker.now()).unwrap_or_else(Instant::now)
}

/// Waits for `duration`. In a plain thread the thread sleeps.
pub fn sleep(duration: Duration) {
    // A duration that no instant can express is for ever.
    match now().checked_add(duration) {
        Some(deadline) => sleep_until(deadline),
        None => sleep_for_ever(),
    }
}

/// Waits until `deadline` of [`now`]'s clock; a deadline in the past gives way once. In a plain thread the thread sleeps.
pub fn sleep_until(deadline: Instant) {
    let slept = Worker::with_current_fiber(|worker, fiber| {
        let deadline = worker.clock().nanos(deadline);
        if deadline <= worker.now_nanos() {
            return park::yield_now();
        }
        loop {
            match park::wait_nanos(worker, fiber, Signals::NONE, "sleep", Some(deadline)) {
                Woken::TimedOut => break,
                Woken::Signal => {}
                Woken::Cancelled => cancel::unwind(),
            }
        }
    });
    if slept.is_none() {
        sleep_thread_until(Some(deadline));
    }
}

fn sleep_for_ever() {
    Worker::with_current_fiber(|worker, fiber| {
        loop {
            if park::wait_nanos(worker, fiber, Signals::NONE, "sleep", None) == Woken::Cancelled {
                cancel::unwind();
            }
        }
    });
    loop {
        sleep_thread_until(None);
    }
}

/// Lets a plain thread sleep, at most until the deadline of the scope it is in.
fn sleep_thread_until(deadline: Option<Instant>) {
    /// No sleep of std's can be for ever.
    const LONG: Duration = Duration::from_secs(1 << 30);

    let (deadline, is_limit) = limit::bound(deadline);
    let left = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()));
    std::thread::sleep(left);
    if is_limit {
        cancel::unwind();
    }
}

#[cfg(test)]
mod tests;
