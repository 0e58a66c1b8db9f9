//! Socket operations on raw descriptors: try the system call, and park where it would have blocked.
//!
//! One implementation, two doors: the types of [`super`] and the libc symbols of [`crate::hook`] both end here. They
//! differ in how long they are willing to wait, which they say through a closure that is asked only when the first try
//! found nothing: the way of a ready operation is one system call and no clock.

use std::os::fd::RawFd;
use std::ptr;
use std::time::{Duration, Instant};

use libc::{c_int, c_void, iovec, msghdr, pollfd, sockaddr, socklen_t};

use crate::fiber::{cancel, deadline as scope, park};
use crate::reactor::{self, Interest, drained};
use crate::waiter::{self, Woken};
use crate::{sys, time};

/// Why an operation ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The kernel's error number.
    Errno(c_int),
    /// The deadline passed.
    TimedOut,
}

/// What an operation asks before its first wait: until when, or why not at all.
pub(crate) trait Patience: FnOnce() -> Result<Option<Instant>, Stop> {}

impl<F: FnOnce() -> Result<Option<Instant>, Stop>> Patience for F {}

/// Turns a raw result (a value, or `-errno`) into a `Result`.
pub(crate) fn check(result: isize) -> Result<usize, Stop> {
    if (-4095..0).contains(&result) { Err(Stop::Errno(-result as c_int)) } else { Ok(result as usize) }
}

/// Repeats `attempt` until it does something other than "would block", waiting for `interest` in between.
#[inline]
pub(crate) fn drive(
    fd: RawFd,
    interest: Interest,
    patience: impl Patience,
    attempt: impl FnMut() -> isize,
) -> Result<usize, Stop> {
    drive_from(false, fd, interest, patience, attempt, |_| {})
}

/// As [`drive`] for a receive, which waits first where trying is known to be in vain. `room` is asked after success for
/// how many bytes there was room. `attempt` is given `MSG_DONTWAIT`, or nothing where the call does not wait in any case.
#[inline]
pub(crate) fn receive(
    fd: RawFd,
    flags: c_int,
    room: impl FnOnce() -> usize,
    patience: impl Patience,
    mut attempt: impl FnMut(c_int) -> isize,
) -> Result<usize, Stop> {
    const WOULD_BLOCK: isize = -(libc::EAGAIN as isize);

    let drained = drained::is_drained(fd, flags);
    let mut has_waited = drained;
    let attempt = || match attempt(libc::MSG_DONTWAIT) {
        WOULD_BLOCK if std::mem::replace(&mut has_waited, true) && is_shut_down(fd) => {
            // The event will not come again, and the next receive is to end as well.
            reactor::remember_edge(fd);
            match attempt(0) {
                WOULD_BLOCK => 0,
                result => result,
            }
        }
        result => result,
    };
    drive_from(drained, fd, Interest::Read, patience, attempt, |count| {
        if count > 0 {
            drained::received(fd, flags, count, room());
        }
    })
}

/// Whether nothing can arrive any more. A socket of datagrams that is shut down ends the receives that wait with nothing,
/// and says "would block" to those that do not: asked where a wait was in vain, for it is rarely so.
#[cold]
fn is_shut_down(fd: RawFd) -> bool {
    let mut asked = [pollfd { fd, events: libc::POLLRDHUP, revents: 0 }];
    poll(&mut asked, Some(Duration::ZERO)).is_ok() && asked[0].revents & libc::POLLRDHUP != 0
}

/// The loop behind [`drive`]. With `wait_first`, the first attempt comes after a wait; `done` is told of the result
/// before anybody else runs.
#[inline]
fn drive_from(
    wait_first: bool,
    fd: RawFd,
    interest: Interest,
    patience: impl Patience,
    mut attempt: impl FnMut() -> isize,
    done: impl FnOnce(usize),
) -> Result<usize, Stop> {
    let mut patience = Some(patience);
    let mut limit = None;
    if let Some(stop) = cancel::stop_of_call() {
        // A deadline is for what waits. A loop that polls would take its "would block" for the kernel's, and go on for ever. And
        // rule R3: what a signal handler writes, to a descriptor that does not block, is written in a cancelled fiber, too.
        let may_try = stop == Stop::TimedOut || interest == Interest::Write;
        let waits = !may_try || patience.take().is_none_or(|patience| limit.insert(patience()).is_ok());
        if waits {
            // Not without giving way: it may be a loop of nothing but libc calls, which cannot be unwound.
            park::yield_uncancelled();
            return Err(stop);
        }
    }
    if wait_first && let Some(patience) = patience.take() {
        // Who is not willing to wait has to try; and so has who waited in vain, for an event may be on its way.
        if let Ok(deadline) = *limit.insert(patience()) {
            match wait(fd, interest, deadline) {
                Ok(()) | Err(Stop::TimedOut) => {}
                Err(stop) => return Err(stop),
            }
        }
    }
    loop {
        match check(attempt()) {
            Err(Stop::Errno(libc::EINTR)) => {}
            Err(Stop::Errno(libc::EAGAIN)) => {
                if let Some(patience) = patience.take() {
                    limit = Some(patience());
                }
                wait(fd, interest, limit.unwrap_or(Ok(None))?)?;
            }
            Ok(result) => {
                done(result);
                park::courtesy(|| match patience.take() {
                    // Rule R3: a signal handler writes, to a descriptor that does not block.
                    Some(patience) if matches!(interest, Interest::Write) => patience().is_ok(),
                    Some(_) => true,
                    None => interest == Interest::Read || !matches!(limit, Some(Err(_))),
                });
                return Ok(result);
            }
            stop => return stop,
        }
    }
}

/// Waits until `fd` may be ready: parks the fiber; on a plain thread, or where a fiber must not switch away because it
/// unwinds from a panic, blocks the thread.
pub(crate) fn wait(fd: RawFd, interest: Interest, deadline: Option<Instant>) -> Result<(), Stop> {
    if !crate::in_fiber() || std::thread::panicking() {
        return wait_on_thread(fd, interest, deadline);
    }
    reactor::wait(fd, interest, deadline).map_err(stop_of)
}

/// Why a wait of the reactor's ended.
pub(crate) fn stop_of(error: std::io::Error) -> Stop {
    match error.raw_os_error() {
        Some(errno) => Stop::Errno(errno),
        None if error.kind() == std::io::ErrorKind::TimedOut => Stop::TimedOut,
        // A simulation has no descriptors.
        None => Stop::Errno(libc::EOPNOTSUPP),
    }
}

fn wait_on_thread(fd: RawFd, interest: Interest, deadline: Option<Instant>) -> Result<(), Stop> {
    let (deadline, _) = scope::bound(deadline);
    let events = match interest {
        Interest::Read => libc::POLLIN,
        Interest::Write => libc::POLLOUT,
    };
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(time::now()));
        let mut asked = [pollfd { fd, events, revents: 0 }];
        match poll(&mut asked, left) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Err(Stop::TimedOut),
            Ok(0) | Err(Stop::Errno(libc::EINTR)) => {}
            Ok(_) if asked[0].revents & libc::POLLNVAL != 0 => return Err(Stop::Errno(libc::EBADF)),
            Ok(_) => return Ok(()),
            Err(stop) => return Err(stop),
        }
    }
}

/// `poll(2)` on the thread. `None` waits for ever.
pub(crate) fn poll(fds: &mut [pollfd], timeout: Option<Duration>) -> Result<usize, Stop> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the slice is valid for its length, the timespec lives through the call.
    check(unsafe { sys::ppoll_raw(fds.as_mut_ptr(), fds.len(), timeout) })
}

/// Asks without waiting whether `fd` has one of `events` (or an error).
pub(crate) fn is_ready(fd: RawFd, events: libc::c_short) -> Result<bool, Stop> {
    poll(&mut [pollfd { fd, events, revents: 0 }], Some(Duration::ZERO)).map(|ready| ready > 0)
}

/// Waits until `poll(2)` says that `fd` is ready for `interest`, has failed or has ended. Asked each time, because
/// readiness may be reported early, and because what was left unread makes no new edge.
pub(crate) fn until_ready(fd: RawFd, interest: Interest, deadline: Option<Instant>) -> Result<(), Stop> {
    let events = match interest {
        Interest::Read => libc::POLLIN | libc::POLLPRI | libc::POLLRDHUP,
        Interest::Write => libc::POLLOUT,
    };
    if let Some(stop) = cancel::stop_of_call() {
        return Err(stop);
    }
    loop {
        let mut asked = [pollfd { fd, events, revents: 0 }];
        match poll(&mut asked, Some(Duration::ZERO)) {
            Ok(0) => wait(fd, interest, deadline)?,
            Ok(_) if asked[0].revents & libc::POLLNVAL != 0 => return Err(Stop::Errno(libc::EBADF)),
            Ok(_) => return Ok(()),
            Err(Stop::Errno(libc::EINTR)) => {}
            Err(stop) => return Err(stop),
        }
    }
}

/// `recvfrom(2)`.
///
/// # Safety
/// As for libc's `recvfrom`.
pub(crate) unsafe fn recvfrom(
    fd: RawFd,
    (buffer, length): (*mut c_void, usize),
    flags: c_int,
    (address, address_length): (*mut sockaddr, *mut socklen_t),
    patience: impl Patience,
) -> Result<usize, Stop> {
    receive(
        fd,
        flags,
        || length,
        patience,
        |waiting| {
            // SAFETY: the caller's promise.
            unsafe { sys::recvfrom_raw(fd, buffer, length, flags | waiting, address, address_length) }
        },
    )
}

/// `sendto(2)`, which may send less than everything.
///
/// # Safety
/// As for libc's `sendto`.
pub(crate) unsafe fn sendto(
    fd: RawFd,
    (buffer, length): (*const c_void, usize),
    flags: c_int,
    (address, address_length): (*const sockaddr, socklen_t),
    patience: impl Patience,
) -> Result<usize, Stop> {
    drive(fd, Interest::Write, patience, || {
        // SAFETY: the caller's promise.
        unsafe { sys::sendto_raw(fd, buffer, length, flags | libc::MSG_DONTWAIT, address, address_length) }
    })
}

/// `recvmsg(2)`.
///
/// # Safety
/// As for libc's `recvmsg`.
pub(crate) unsafe fn recvmsg(
    fd: RawFd,
    message: *mut msghdr,
    flags: c_int,
    patience: impl Patience,
) -> Result<usize, Stop> {
    let room = || {
        // SAFETY: the kernel has accepted the message, so its buffers can be read.
        let buffers = unsafe { std::slice::from_raw_parts((*message).msg_iov, (*message).msg_iovlen) };
        buffers.iter().fold(0, |total: usize, buffer| total.saturating_add(buffer.iov_len))
    };
    // SAFETY: the caller's promise.
    receive(fd, flags, room, patience, |waiting| unsafe { sys::recvmsg_raw(fd, message, flags | waiting) })
}

/// `sendmsg(2)`, which may send less than everything.
///
/// # Safety
/// As for libc's `sendmsg`.
pub(crate) unsafe fn sendmsg(
    fd: RawFd,
    message: *const msghdr,
    flags: c_int,
    patience: impl Patience,
) -> Result<usize, Stop> {
    // SAFETY: the caller's promise.
    drive(fd, Interest::Write, patience, || unsafe {
        sys::sendmsg_raw(fd, message, flags | libc::MSG_DONTWAIT)
    })
}

/// A message of nothing but buffers.
pub(crate) fn plain_message(buffers: *mut iovec, count: usize) -> msghdr {
    // SAFETY: a msghdr of zeros is valid: no address, no buffers, no control data.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers;
    message.msg_iovlen = count;
    message
}

/// Waits until an instant, without unwinding.
///
/// # Errors
/// `ECANCELED`, early, if the fiber is cancelled; `TimedOut` if the deadline of a scope passes first. Not without
/// giving way.
pub(crate) fn sleep_until(until: Instant) -> Result<(), Stop> {
    loop {
        match waiter::wait("sleep (libc)", Some(until)) {
            Woken::Signal => {}
            Woken::TimedOut => return Ok(()),
            Woken::Cancelled => {
                park::yield_uncancelled();
                return Err(cancel::stop_of_call().unwrap_or(Stop::TimedOut));
            }
        }
    }
}

/// Whether the process or the system has no more to give: descriptors, or memory for sockets.
pub(crate) fn is_shortage(errno: c_int) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}

/// Accepts by `attempt`, which must not block. A shortage is reported after a pause: it is over when somebody closes
/// something, and a loop that goes on accepting at once would keep the very fibers from running that may.
pub(crate) fn accept(
    fd: RawFd,
    patience: impl Patience,
    attempt: impl FnMut() -> isize,
) -> Result<usize, Stop> {
    const PAUSE: Duration = Duration::from_millis(1);

    let outcome = drive(fd, Interest::Read, patience, attempt);
    if let Err(Stop::Errno(errno)) = outcome
        && is_shortage(errno)
    {
        // A fiber that is cancelled meanwhile hears of it from its next call.
        let _ = sleep_until(time::now() + PAUSE);
    }
    outcome
}

/// Connects by `attempt`, a `connect(2)` that must not block. If it goes on in the background, `outcome` says how it ended:
/// asked when `poll(2)` says that it has.
pub(crate) fn connect(
    fd: RawFd,
    patience: impl Patience,
    mut attempt: impl FnMut() -> isize,
    mut outcome: impl FnMut() -> Result<(), Stop>,
) -> Result<(), Stop> {
    /// A Unix socket whose listener's queue is full says "try again", and no event says when.
    const FULL_QUEUE_NAP: Duration = Duration::from_millis(1);

    if let Some(stop) = cancel::stop_of_call() {
        return Err(stop);
    }
    let mut patience = Some(patience);
    let mut deadline = None;
    loop {
        match check(attempt()) {
            Ok(_) => return Ok(()),
            // EALREADY: an earlier call began it, and a blocking one waits for its end as well.
            Err(Stop::Errno(errno @ (libc::EINPROGRESS | libc::EALREADY | libc::EINTR | libc::EAGAIN))) => {
                if let Some(patience) = patience.take() {
                    deadline = patience()?;
                }
                if errno != libc::EAGAIN {
                    break;
                }
            }
            Err(stop) => return Err(stop),
        }
        if deadline.is_some_and(|deadline| deadline <= time::now()) {
            return Err(Stop::TimedOut);
        }
        sleep_until(time::now() + FULL_QUEUE_NAP)?;
    }
    loop {
        // Readiness may be reported early, so ask.
        while !is_ready(fd, libc::POLLOUT)? {
            wait(fd, Interest::Write, deadline)?;
        }
        match outcome() {
            // Something else is to be collected from the socket's error queue.
            Err(Stop::Errno(libc::EALREADY | libc::EINPROGRESS)) => wait(fd, Interest::Write, deadline)?,
            outcome => return outcome,
        }
    }
}

/// The error that a socket holds for whoever asks first (`SO_ERROR`), as a result.
pub(crate) fn take_error(fd: RawFd) -> Result<(), Stop> {
    match sys::socket_option(fd, libc::SO_ERROR) {
        Ok(0) => Ok(()),
        Ok(errno) => Err(Stop::Errno(errno)),
        Err(error) => Err(Stop::Errno(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

#[cfg(test)]
mod tests;
