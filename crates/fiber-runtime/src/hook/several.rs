//! Several messages in one call: `recvmmsg`, `sendmmsg`. What is ready goes in one system call; what is left is waited for
//! as the kernel does, message by message: each of them has the socket's timeout for itself.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use libc::{c_int, c_uint, mmsghdr, pollfd, timespec};

use super::socket::{self, CallDeadline};
use super::vectors;
use crate::net::op::{self, Stop};
use crate::reactor::Interest;
use crate::{sys, time};

/// The kernel sends no more messages than this in one call (`UIO_MAXIOV`).
const MOST_MESSAGES: usize = 1024;

/// `recvmmsg`, plainly.
///
/// # Safety
/// As for libc's `recvmmsg`.
pub(super) unsafe fn recvmmsg_raw(
    fd: RawFd,
    (messages, count): (*mut mmsghdr, c_uint),
    flags: c_int,
    timeout: *mut timespec,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        sys::syscall6(
            libc::SYS_recvmmsg,
            fd as usize,
            messages as usize,
            count as usize,
            flags as usize,
            timeout as usize,
            0,
        )
    }
}

/// `sendmmsg`, plainly.
///
/// # Safety
/// As for libc's `sendmmsg`.
pub(super) unsafe fn sendmmsg_raw(
    fd: RawFd,
    (messages, count): (*mut mmsghdr, c_uint),
    flags: c_int,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        sys::syscall6(
            libc::SYS_sendmmsg,
            fd as usize,
            messages as usize,
            count as usize,
            flags as usize,
            0,
            0,
        )
    }
}

/// The time limit of `recvmmsg` is not one for waiting: it is looked at after each message, and only then. A call that
/// waits for a message in vain waits for ever, whatever the limit.
struct Limit {
    timeout: *mut timespec,
    ends: Option<Instant>,
}

impl Limit {
    /// `None`: the time is not one.
    ///
    /// # Safety
    /// `timeout` is null, or can be read and written to.
    unsafe fn new(timeout: *mut timespec) -> Option<Limit> {
        // SAFETY: the caller's promise.
        let Some(wanted) = (unsafe { timeout.as_ref() }) else {
            return Some(Limit { timeout, ends: None });
        };
        let nanos = u32::try_from(wanted.tv_nsec).ok().filter(|&nanos| nanos < 1_000_000_000)?;
        let length = Duration::new(u64::try_from(wanted.tv_sec).ok()?, nanos);
        Some(Limit { timeout, ends: time::now().checked_add(length) })
    }

    /// A message has come: writes down how much time is left, and says whether it is none.
    fn has_passed(&self) -> bool {
        let Some(ends) = self.ends else { return false };
        let left = ends.saturating_duration_since(time::now());
        let value =
            timespec { tv_sec: left.as_secs() as _, tv_nsec: libc::c_long::from(left.subsec_nanos()) };
        // SAFETY: there is an end, so there is a timeout, which can be written to.
        unsafe { *self.timeout = value };
        left.is_zero()
    }
}

/// # Safety
/// As for libc's `recvmmsg`.
pub(super) unsafe fn recvmmsg(
    fd: RawFd,
    (messages, count): (*mut mmsghdr, c_uint),
    flags: c_int,
    timeout: *mut timespec,
) -> Result<usize, Stop> {
    // SAFETY: the caller's promise.
    let limit = unsafe { Limit::new(timeout) };
    let (Some(limit), 0, 1..) = (limit, flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE), count) else {
        // SAFETY: the caller's promise.
        return op::check(unsafe { recvmmsg_raw(fd, (messages, count), flags, timeout) });
    };
    let for_one = flags & libc::MSG_WAITFORONE != 0;
    let flags = flags & !libc::MSG_WAITFORONE;
    let count = count as usize;
    let mut received = 0;
    while received < count {
        if received > 0 && has_failed(fd) {
            // The failure is for the next call, as in the kernel.
            break;
        }
        let next = messages.wrapping_add(received);
        // With a limit, one at a time; and one that waits for all of its bytes is a call of its own.
        let together = timeout.is_null() && flags & libc::MSG_WAITALL == 0;
        let at_most = if together { count - received } else { 1 };
        let outcome = if flags & libc::MSG_WAITALL != 0 && !(for_one && received > 0) {
            // SAFETY: the caller's promise, for a message that is there.
            unsafe {
                socket::recvmsg(fd, &raw mut (*next).msg_hdr, flags).map(|length| {
                    (*next).msg_len = length as c_uint;
                    1
                })
            }
        } else {
            let mut deadline = CallDeadline::new(fd, libc::SO_RCVTIMEO);
            let patience = || match for_one && received > 0 {
                true => Err(Stop::Errno(libc::EAGAIN)),
                false => deadline.get(),
            };
            op::drive(fd, Interest::Read, patience, || {
                let flags = flags | libc::MSG_DONTWAIT;
                // SAFETY: the caller's promise, for those that are not filled yet.
                unsafe { recvmmsg_raw(fd, (next, at_most as c_uint), flags, std::ptr::null_mut()) }
            })
        };
        match outcome {
            Ok(more) => received += more,
            Err(stop) if received == 0 => return Err(stop),
            Err(_) => break,
        }
        if limit.has_passed() || for_one && together {
            break;
        }
    }
    Ok(received)
}

/// Whether the socket has an error to report.
fn has_failed(fd: RawFd) -> bool {
    let mut asked = [pollfd { fd, events: 0, revents: 0 }];
    op::poll(&mut asked, Some(Duration::ZERO)).is_ok() && asked[0].revents & libc::POLLERR != 0
}

/// # Safety
/// As for libc's `sendmmsg`.
pub(super) unsafe fn sendmmsg(
    fd: RawFd,
    (messages, count): (*mut mmsghdr, c_uint),
    flags: c_int,
) -> Result<usize, Stop> {
    if flags & libc::MSG_DONTWAIT != 0 || count == 0 {
        // SAFETY: the caller's promise.
        return op::check(unsafe { sendmmsg_raw(fd, (messages, count), flags) });
    }
    let count = (count as usize).min(MOST_MESSAGES);
    let mut sent = 0;
    while sent < count {
        let next = messages.wrapping_add(sent);
        let mut deadline = CallDeadline::new(fd, libc::SO_SNDTIMEO);
        let outcome = op::drive(
            fd,
            Interest::Write,
            || deadline.get(),
            || {
                // SAFETY: the caller's promise, for those that are not sent yet.
                unsafe { sendmmsg_raw(fd, (next, (count - sent) as c_uint), flags | libc::MSG_DONTWAIT) }
            },
        );
        match outcome {
            Ok(0) => break,
            Ok(more) => sent += more,
            Err(stop) if sent == 0 => return Err(stop),
            Err(_) => break,
        }
        // SAFETY: the kernel has accepted it and written its length.
        let last = unsafe { &mut *messages.wrapping_add(sent - 1) };
        // SAFETY: the kernel has accepted them, and the caller leaves them together.
        let buffers = unsafe { vectors::buffers((last.msg_hdr.msg_iov, last.msg_hdr.msg_iovlen)) };
        let length = vectors::total(buffers);
        if (last.msg_len as usize) < length {
            // A stream took a part of it: the next one comes after the rest.
            // SAFETY: as above.
            let done = unsafe { socket::send_rest(fd, buffers, last.msg_len as usize, flags, &mut deadline) };
            last.msg_len = done as c_uint;
            if done < length {
                break;
            }
        }
    }
    Ok(sent)
}
