//! Waiting for several descriptors at once. One descriptor in one direction waits as always; anything more is gathered in
//! an epoll descriptor of its own, which is readable when one of them is ready and can be waited for like a socket.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use libc::{c_int, c_short, pollfd};

use super::Interest;
use crate::fiber::{cancel, deadline as scope};
use crate::net::op::{self, Stop};
use crate::{sys, time};

/// Several descriptors, named once and then waited for as often as needed. They stay open meanwhile.
pub(crate) enum Gathered {
    /// One, in one direction.
    One(RawFd, Interest),
    /// An epoll descriptor with all of them.
    Several(Several),
}

/// See [`Gathered::Several`].
pub(crate) struct Several(OwnedFd);

impl Gathered {
    /// Those of `fds` that are not negative; `None` if there are none.
    pub(crate) fn new(fds: &[pollfd]) -> Result<Option<Self>, Stop> {
        let mut wanted = fds.iter().filter(|entry| entry.fd >= 0);
        match (wanted.next(), wanted.next()) {
            (None, _) => Ok(None),
            (Some(only), None) if let Some(interest) = interest(only.events) => {
                Ok(Some(Gathered::One(only.fd, interest)))
            }
            _ => Several::new(fds).map(|several| Some(Gathered::Several(several))),
        }
    }

    /// Waits until one of them may be ready.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<(), Stop> {
        match self {
            Gathered::One(fd, interest) => match op::wait(*fd, *interest, deadline) {
                // A regular file: what it is not ready for now, it never will be.
                Err(Stop::Errno(libc::EPERM)) => {
                    op::sleep_until(deadline.unwrap_or_else(|| time::now() + Duration::from_secs(3600)))
                }
                waited => waited,
            },
            Gathered::Several(several) => op::wait(several.0.as_raw_fd(), Interest::Read, deadline),
        }
    }
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
        let ready = op::poll(fds, Some(Duration::ZERO))?;
        if ready > 0 || passed() {
            return Ok(ready);
        }
        if gathered.is_none() {
            gathered = Gathered::new(fds)?;
        }
        let waited = match &gathered {
            Some(gathered) => gathered.wait(deadline),
            // Nothing but time.
            None => op::sleep_until(deadline.unwrap_or_else(|| time::now() + Duration::from_secs(3600))),
        };
        match waited {
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

/// The one direction of interest, if it is one.
fn interest(events: c_short) -> Option<Interest> {
    const READ: c_short = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDHUP;
    const WRITE: c_short = libc::POLLOUT | libc::POLLWRNORM;
    match (events & READ != 0, events & WRITE != 0) {
        (true, false) if events & !READ == 0 => Some(Interest::Read),
        (false, true) if events & !WRITE == 0 => Some(Interest::Write),
        _ => None,
    }
}

impl Several {
    fn new(fds: &[pollfd]) -> Result<Self, Stop> {
        let several =
            Self(sys::epoll().map_err(|error| Stop::Errno(error.raw_os_error().unwrap_or(libc::EIO)))?);
        for (position, entry) in fds.iter().enumerate().filter(|(_, entry)| entry.fd >= 0) {
            let before = &fds[..position];
            let added = if before.iter().any(|earlier| earlier.fd == entry.fd) {
                // Named twice: what it was added with grows.
                let events =
                    fds.iter().filter(|same| same.fd == entry.fd).fold(0, |all, same| all | same.events);
                several.control(libc::EPOLL_CTL_MOD, entry.fd, events)
            } else {
                several.control(libc::EPOLL_CTL_ADD, entry.fd, entry.events)
            };
            match added {
                // As in `wait`; one that is named again was not added before.
                Ok(()) | Err(Stop::Errno(libc::EPERM | libc::ENOENT)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(several)
    }

    fn control(&self, operation: c_int, fd: RawFd, events: c_short) -> Result<(), Stop> {
        // The values of poll's and epoll's event bits are the same.
        op::check(sys::epoll_control(self.0.as_raw_fd(), operation, fd, u32::from(events.cast_unsigned())))
            .map(drop)
    }
}

impl Drop for Several {
    fn drop(&mut self) {
        super::closing(self.0.as_raw_fd());
    }
}
