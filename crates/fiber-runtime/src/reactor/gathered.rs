//! Waiting for several descriptors at once: the fiber stands in the lists of all of them, each registered with the worker's
//! epoll instance once, as for a wait for one. Readiness is then asked of the kernel again, so that an edge that belongs
//! to something else costs a question and no more.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use libc::{c_short, pollfd};

use super::Interest;
use crate::fiber::{cancel, deadline as scope};
use crate::net::op::{self, Stop};
use crate::scheduler::worker::Worker;
use crate::time;

/// How long a fiber sleeps before it asks again what the reactor cannot wait for.
const NAP: Duration = Duration::from_millis(1);

/// One of the descriptors.
pub(crate) type Wanted = (RawFd, Interest);

/// What `fds` wait for: those that are not negative.
pub(crate) fn wanted(fds: &[pollfd]) -> Vec<Wanted> {
    const WRITE: c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

    let open = fds.iter().filter(|entry| entry.fd >= 0);
    open.flat_map(|entry| {
        let write = entry.events & WRITE != 0;
        // Errors and hang-ups, of which poll always tells, end the waits for either direction.
        let read = entry.events & !WRITE != 0 || !write;
        let read = read.then_some((entry.fd, Interest::Read));
        read.into_iter().chain(write.then_some((entry.fd, Interest::Write)))
    })
    .collect()
}

/// Waits until one of `wanted` may be ready, or perhaps less. Called in a fiber.
///
/// # Errors
/// `TimedOut`, and `ECANCELED` as of [`super::wait`].
pub(crate) fn wait(wanted: &[Wanted], deadline: Option<Instant>) -> Result<(), Stop> {
    let until = |instant: Instant| op::sleep_until(deadline.map_or(instant, |limit| limit.min(instant)));
    let long = || time::now() + Duration::from_secs(3600);
    let outcome = match *wanted {
        // Nothing but time.
        [] => return until(long()),
        [(fd, interest)] => op::wait(fd, interest, deadline),
        _ => wait_for_any(wanted, deadline).map_err(op::stop_of),
    };
    match outcome {
        // What cannot be registered at all (a regular file) is always as ready as it is now.
        Err(Stop::Errno(libc::EPERM)) => until(long()),
        // It has just been closed; or it is an epoll instance around several others, or the worker's own; or the user has
        // no more watches.
        Err(Stop::Errno(libc::EBADF | libc::ELOOP | libc::EINVAL | libc::ENOSPC | libc::ENOMEM)) => {
            until(time::now() + NAP)
        }
        outcome => outcome,
    }
}

fn wait_for_any(wanted: &[Wanted], deadline: Option<Instant>) -> io::Result<()> {
    Worker::with_current_fiber(|worker, fiber| worker.wait_for_any(fiber, wanted, deadline)).unwrap_or_else(
        || Err(io::Error::new(io::ErrorKind::Unsupported, "a readiness wait outside a fiber")),
    )
}

/// Waits until `poll(2)` says that one of `fds` is ready and marks which; none when `deadline` has passed.
///
/// # Errors
/// Those of [`op::wait`]; `TimedOut` for the deadline of a scope only.
pub(crate) fn poll_until(fds: &mut [pollfd], deadline: Option<Instant>) -> Result<usize, Stop> {
    if let Some(stop) = cancel::stop_of_call() {
        return Err(stop);
    }
    let passed = || deadline.is_some_and(|deadline| deadline <= time::now());
    if !crate::in_fiber() || std::thread::panicking() {
        let (earliest, _) = scope::bound(deadline);
        return match poll_on_thread(fds, earliest)? {
            0 if !passed() => Err(Stop::TimedOut),
            ready => Ok(ready),
        };
    }
    let mut gathered = None;
    loop {
        match op::poll(fds, Some(Duration::ZERO)) {
            Ok(0) if !passed() => {}
            Err(Stop::Errno(libc::EINTR)) => continue,
            outcome => return outcome,
        }
        match wait(gathered.get_or_insert_with(|| wanted(fds)), deadline) {
            Err(Stop::TimedOut) if passed() => {}
            waited => waited?,
        }
    }
}

fn poll_on_thread(fds: &mut [pollfd], deadline: Option<Instant>) -> Result<usize, Stop> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(time::now()));
        match op::poll(fds, left) {
            Ok(0) if left.is_none_or(|left| !left.is_zero()) => {}
            Err(Stop::Errno(libc::EINTR)) => {}
            outcome => return outcome,
        }
    }
}
