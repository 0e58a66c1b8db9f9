//! `poll` of a fiber. One descriptor in one direction waits in the reactor; anything more is gathered in an epoll
//! descriptor of its own, which is readable when one of them is ready and can be waited for like a socket.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use libc::{c_int, c_short, epoll_event, pollfd, timespec};

use crate::fiber::deadline as limit;
use crate::net::op::{self, Stop};
use crate::reactor::{self, Interest};
use crate::{sys, time};

/// `poll` as a plain system call.
///
/// # Safety
/// As for libc's `poll`.
pub(super) unsafe fn plain(fds: *mut pollfd, count: usize, timeout_ms: c_int) -> isize {
    let timeout = u32::try_from(timeout_ms).ok().map(|millis| timespec {
        tv_sec: (millis / 1_000).into(),
        tv_nsec: (millis % 1_000 * 1_000_000).into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the caller's promise; the timespec lives through the call.
    unsafe { sys::ppoll_raw(fds, count, timeout) }
}

/// # Safety
/// As for libc's `poll`.
pub(super) unsafe fn poll(fds: *mut pollfd, count: usize, timeout_ms: c_int) -> Result<usize, Stop> {
    // Negative is for ever.
    let deadline = u64::try_from(timeout_ms).ok().map(|millis| time::now() + Duration::from_millis(millis));
    // What a scope's deadline ends reports nothing ready, too.
    let (deadline, _) = limit::bound(deadline);
    let mut gathered = None;
    loop {
        // SAFETY: the caller's promise.
        let ready = op::check(unsafe { plain(fds, count, 0) })?;
        if ready > 0 || deadline.is_some_and(|deadline| deadline <= time::now()) {
            return Ok(ready);
        }
        let fds = match count {
            0 => &[],
            // SAFETY: the kernel has just accepted the array.
            _ => unsafe { std::slice::from_raw_parts(fds, count) },
        };
        match wait(fds, deadline, &mut gathered) {
            Ok(()) | Err(Stop::TimedOut) => {}
            Err(stop) => return Err(stop),
        }
    }
}

/// Waits until one of them may be ready.
fn wait(fds: &[pollfd], deadline: Option<Instant>, gathered: &mut Option<Gathered>) -> Result<(), Stop> {
    let mut wanted = fds.iter().filter(|entry| entry.fd >= 0);
    match (wanted.next(), wanted.next()) {
        (None, _) => {
            // Nothing but time.
            op::sleep_until(deadline.unwrap_or_else(|| time::now() + Duration::from_secs(3600)))
        }
        (Some(only), None) if interest(only.events).is_some() => {
            op::wait(only.fd, interest(only.events).unwrap_or(Interest::Read), deadline)
        }
        _ => {
            let gathered = match gathered {
                Some(gathered) => gathered,
                None => gathered.insert(Gathered::new(fds)?),
            };
            op::wait(gathered.0.as_raw_fd(), Interest::Read, deadline)
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

/// An epoll descriptor that is readable when one of several others is ready.
struct Gathered(OwnedFd);

impl Gathered {
    fn new(fds: &[pollfd]) -> Result<Self, Stop> {
        // SAFETY: a plain number; the descriptor returned is new and owned by nobody else.
        let epoll = unsafe {
            let fd = op::check(sys::syscall6(
                libc::SYS_epoll_create1,
                libc::EPOLL_CLOEXEC as usize,
                0,
                0,
                0,
                0,
                0,
            ))?;
            OwnedFd::from_raw_fd(fd as RawFd)
        };
        let gathered = Self(epoll);
        for (position, entry) in fds.iter().enumerate().filter(|(_, entry)| entry.fd >= 0) {
            let before = &fds[..position];
            if before.iter().any(|earlier| earlier.fd == entry.fd) {
                // Named twice: what it was added with grows.
                let events =
                    fds.iter().filter(|same| same.fd == entry.fd).fold(0, |all, same| all | same.events);
                gathered.control(libc::EPOLL_CTL_MOD, entry.fd, events)?;
            } else {
                gathered.control(libc::EPOLL_CTL_ADD, entry.fd, entry.events)?;
            }
        }
        Ok(gathered)
    }

    fn control(&self, operation: c_int, fd: RawFd, events: c_short) -> Result<(), Stop> {
        // The values of poll's and epoll's event bits are the same.
        let mut event = epoll_event { events: u32::from(events.cast_unsigned()), u64: 0 };
        // SAFETY: the event lives through the call.
        op::check(unsafe {
            sys::syscall6(
                libc::SYS_epoll_ctl,
                self.0.as_raw_fd() as usize,
                operation as usize,
                fd as usize,
                &raw mut event as usize,
                0,
                0,
            )
        })
        .map(drop)
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        reactor::closing(self.0.as_raw_fd());
    }
}
