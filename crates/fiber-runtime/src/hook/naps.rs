//! Waiting for what nobody tells of: the call is tried without blocking, and again after a nap.
//!
//! A file lock, the end of a thread, a child that one of many may be: the kernel wakes the thread that blocks in the call
//! and nothing else. A thread of the blocking pool could block instead of the worker; but its threads are few, and if all
//! of them waited for what a fiber has to do that itself needs the pool, nothing would ever go on. Naps have no such end.
//! What they cost is time: one is an eighth of the wait so far, 50 microseconds at first and ten milliseconds at most, so
//! that a wait is at most that much longer than it had to be, and a hundred tries a second make no load.

use std::os::fd::RawFd;
use std::time::Duration;

use libc::c_int;

use crate::fiber::cancel;
use crate::net::op::{self, Stop};
use crate::reactor::Interest;
use crate::scheduler::worker::Worker;
use crate::time;

const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(10);
/// The longest between two looks at what has a descriptor that tells as well.
const LONGEST_TOLD: Duration = Duration::from_millis(100);

/// Whether the calling fiber may give way in the middle of a call. In a simulation, whose time is not that of files and
/// processes, it had better block.
pub(super) fn may_give_way() -> bool {
    let free = |worker: &Worker, held: bool| worker.sim().is_none() && !held;
    Worker::with_current_fiber(|worker, fiber| free(worker, fiber.attention.is_held())) == Some(true)
        && !std::thread::panicking()
}

/// Repeats `attempt` until it gives something.
///
/// # Errors
/// `ECANCELED` if the fiber is cancelled, `ETIMEDOUT` past the deadline of a scope.
pub(super) fn until<T>(attempt: impl FnMut() -> Option<T>) -> Result<T, Stop> {
    until_told(None, attempt)
}

/// As [`until`], looking sooner when `teller` becomes readable.
pub(super) fn until_told<T>(
    teller: Option<RawFd>,
    mut attempt: impl FnMut() -> Option<T>,
) -> Result<T, Stop> {
    if let Some(stop) = cancel::stop_of_call() {
        return Err(in_time(stop));
    }
    let began = time::now();
    let mut teller = teller;
    loop {
        if let Some(outcome) = attempt() {
            return Ok(outcome);
        }
        let now = time::now();
        let longest = if teller.is_some() { LONGEST_TOLD } else { LONGEST };
        let until = now + (now.saturating_duration_since(began) / 8).clamp(SHORTEST, longest);
        let waited = match teller {
            Some(fd) => match op::wait(fd, Interest::Read, Some(until)) {
                Err(Stop::TimedOut) => cancel::stop_of_call().map_or(Ok(()), Err),
                Err(Stop::Errno(errno)) if errno != libc::ECANCELED => {
                    // It cannot be waited for after all.
                    teller = None;
                    Ok(())
                }
                waited => waited,
            },
            None => op::sleep_until(until),
        };
        waited.map_err(in_time)?;
    }
}

/// There is no time-out in these calls that a scope's deadline could be taken for.
fn in_time(stop: Stop) -> Stop {
    match stop {
        Stop::TimedOut => Stop::Errno(libc::ETIMEDOUT),
        stop => stop,
    }
}

/// The result of a raw call that is to be tried again if it says `again`.
pub(super) fn unless(again: c_int, result: isize) -> Option<Result<usize, Stop>> {
    match op::check(result) {
        Err(Stop::Errno(errno)) if errno == again => None,
        outcome => Some(outcome),
    }
}
