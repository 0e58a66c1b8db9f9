//! Socket calls of a fiber, with the manners of a blocking socket: how long they wait is the socket's own business
//! (`O_NONBLOCK`, `SO_RCVTIMEO`, `SO_SNDTIMEO`), and a send that has begun goes on until everything is sent.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, c_void, iovec, msghdr, sockaddr, socklen_t, timeval};

use super::vectors::{self, MOST, Window};
use crate::net::op::{self, Stop};
use crate::reactor::{Interest, manner};
use crate::sync::Spin;
use crate::{sys, time};

/// Whether any socket of the process was ever given a timeout. While none was, no wait has to ask the kernel for it.
/// The kernel's own record is used rather than one of ours, because clones and accepted sockets inherit theirs.
static TIMEOUTS_IN_USE: AtomicBool = AtomicBool::new(false);

pub(super) fn timeouts_are_in_use() {
    // Relaxed: whoever sets a timeout on one thread and relies on it on another has ordered the two already.
    TIMEOUTS_IN_USE.store(true, Ordering::Relaxed);
}

/// One call's deadline, found out when it first has to wait and then kept, however many waits the call needs.
pub(super) struct CallDeadline {
    fd: RawFd,
    /// `SO_RCVTIMEO` or `SO_SNDTIMEO`.
    option: c_int,
    found: Option<Result<Option<Instant>, Stop>>,
}

impl CallDeadline {
    pub(super) fn new(fd: RawFd, option: c_int) -> Self {
        Self { fd, option, found: None }
    }

    pub(super) fn get(&mut self) -> Result<Option<Instant>, Stop> {
        let (fd, option) = (self.fd, self.option);
        let interest = if option == libc::SO_RCVTIMEO { Interest::Read } else { Interest::Write };
        *self.found.get_or_insert_with(|| {
            let timeout = manner::timeout(fd, interest, || {
                must_block(fd)?;
                Ok(if TIMEOUTS_IN_USE.load(Ordering::Relaxed) { timeout(fd, option) } else { None })
            })?;
            Ok(timeout.and_then(|timeout| time::now().checked_add(timeout)))
        })
    }
}

/// `EAGAIN` if the user set `O_NONBLOCK`.
pub(super) fn must_block(fd: RawFd) -> Result<(), Stop> {
    if is_nonblocking(fd)? { Err(Stop::Errno(libc::EAGAIN)) } else { Ok(()) }
}

/// Whether the user set `O_NONBLOCK`.
fn is_nonblocking(fd: RawFd) -> Result<bool, Stop> {
    // SAFETY: F_GETFL reads flags and has no argument.
    let flags = op::check(unsafe { sys::fcntl_raw(fd, libc::F_GETFL, 0) })?;
    Ok(flags as c_int & libc::O_NONBLOCK != 0)
}

/// A socket's own timeout; none for what is not a socket.
fn timeout(fd: RawFd, option: c_int) -> Option<Duration> {
    let mut value = timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = size_of::<timeval>() as socklen_t;
    // SAFETY: value and length live through the call, and the length is the value's.
    let asked = unsafe {
        sys::syscall6(
            libc::SYS_getsockopt,
            fd as usize,
            libc::SOL_SOCKET as usize,
            option as usize,
            &raw mut value as usize,
            &raw mut length as usize,
            0,
        )
    };
    op::check(asked).ok()?;
    let timeout = Duration::from_secs(value.tv_sec.try_into().ok()?)
        + Duration::from_micros(value.tv_usec.try_into().ok()?);
    (!timeout.is_zero()).then_some(timeout)
}

/// What does not listen is never ready to accept from, but the call has an error for it, at once.
fn must_listen(fd: RawFd) -> Result<(), Stop> {
    let ask = |option| sys::socket_option(fd, option).map_err(op::stop_of);
    if ask(libc::SO_ACCEPTCONN)? != 0 {
        return Ok(());
    }
    match (ask(libc::SO_DOMAIN)?, ask(libc::SO_TYPE)?) {
        (libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_SEQPACKET) => {
            Err(Stop::Errno(libc::EINVAL))
        }
        (libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX, _) => Err(Stop::Errno(libc::EOPNOTSUPP)),
        // Some families (Bluetooth) never say that they listen.
        _ => Ok(()),
    }
}

fn is_stream(fd: RawFd) -> bool {
    sys::socket_option(fd, libc::SO_TYPE).is_ok_and(|kind| kind == libc::SOCK_STREAM)
}

/// # Safety
/// As for libc's `recvfrom`.
pub(super) unsafe fn recvfrom(
    fd: RawFd,
    (buffer, length): (*mut c_void, usize),
    flags: c_int,
    address: (*mut sockaddr, *mut socklen_t),
) -> Result<usize, Stop> {
    if flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE) != 0 {
        // SAFETY: the caller's promise.
        return op::check(unsafe { sys::recvfrom_raw(fd, buffer, length, flags, address.0, address.1) });
    }
    // The kernel's own limit, lest the loop go beyond it.
    let length = length.min(MOST);
    let mut deadline = CallDeadline::new(fd, libc::SO_RCVTIMEO);
    let mut received = 0;
    loop {
        let rest = (buffer.wrapping_byte_add(received), length - received);
        // SAFETY: the caller's promise, for the part of the buffer that is not filled yet.
        match unsafe { op::recvfrom(fd, rest, flags, address, || deadline.get()) } {
            Ok(count) if count > 0 && received + count < length && flags & libc::MSG_WAITALL != 0 => {
                match goes_on(fd, flags, &mut deadline) {
                    GoesOn::After => received += count,
                    GoesOn::Anew => {}
                    GoesOn::No => return Ok(received + count),
                }
            }
            Ok(count) => return Ok(received + count),
            Err(_) if received > 0 => return Ok(received),
            Err(stop) => return Err(stop),
        }
    }
}

/// # Safety
/// As for libc's `recvmsg`.
pub(super) unsafe fn recvmsg(fd: RawFd, message: *mut msghdr, flags: c_int) -> Result<usize, Stop> {
    if flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE) != 0 {
        // SAFETY: the caller's promise.
        return op::check(unsafe { sys::recvmsg_raw(fd, message, flags) });
    }
    let mut deadline = CallDeadline::new(fd, libc::SO_RCVTIMEO);
    // SAFETY: the caller's promise. A message of zeros is valid, too.
    let asked = unsafe { message.as_ref().map_or_else(|| std::mem::zeroed(), |message| *message) };
    // SAFETY: the caller's promise.
    let mut received = unsafe { op::recvmsg(fd, message, flags, || deadline.get()) }?;
    if flags & libc::MSG_WAITALL == 0 || received == 0 {
        return Ok(received);
    }
    // SAFETY: the kernel has accepted the message, so its buffers can be read, and it can be written to.
    let (buffers, message) = unsafe { (vectors::buffers((asked.msg_iov, asked.msg_iovlen)), &mut *message) };
    let length = vectors::total(buffers);
    while received < length && message.msg_controllen == 0 {
        let part = match goes_on(fd, flags, &mut deadline) {
            GoesOn::After => Window::after(received, buffers, length - received),
            GoesOn::Anew => Window::after(0, buffers, length),
            GoesOn::No => break,
        };
        let (vectors, count) = part.as_raw();
        // Descriptors that come with the rest go where the caller wants them, and end the wait as they do in the kernel.
        let mut rest = msghdr { msg_iov: vectors.cast_mut(), msg_iovlen: count, ..asked };
        // SAFETY: parts of the caller's buffers, its buffer for control data, and its buffer for the address.
        match unsafe { op::recvmsg(fd, &raw mut rest, flags, || deadline.get()) } {
            Ok(0) | Err(_) => break,
            Ok(count) if flags & libc::MSG_PEEK != 0 => received = received.max(count),
            Ok(count) => received += count,
        }
        message.msg_controllen = rest.msg_controllen;
        message.msg_flags |= rest.msg_flags;
    }
    Ok(received)
}

/// How a receive that waits for all goes on when it has some.
enum GoesOn {
    /// With what comes after it.
    After,
    /// From the front: it only looks.
    Anew,
    /// Not: this is all.
    No,
}

/// A receive with `MSG_WAITALL` has some bytes, and less than it wants.
fn goes_on(fd: RawFd, flags: c_int, deadline: &mut CallDeadline) -> GoesOn {
    if flags & libc::MSG_PEEK == 0 {
        return if is_stream(fd) { GoesOn::After } else { GoesOn::No };
    }
    // Only TCP waits for all in order to look at it.
    if !sys::socket_option(fd, libc::SO_PROTOCOL).is_ok_and(|protocol| protocol == libc::IPPROTO_TCP) {
        return GoesOn::No;
    }
    // In this order: an end that comes in between is an edge, and ends the wait.
    match (op::is_ready(fd, libc::POLLRDHUP), deadline.get()) {
        (Ok(false), Ok(deadline)) if op::wait(fd, Interest::Read, deadline).is_ok() => GoesOn::Anew,
        _ => GoesOn::No,
    }
}

/// `readv` by way of `now`, which reads without waiting.
///
/// # Safety
/// As for libc's `readv`.
pub(super) unsafe fn readv(
    fd: RawFd,
    buffers: (*const iovec, usize),
    mut now: impl FnMut() -> isize,
) -> Result<usize, Stop> {
    let mut deadline = CallDeadline::new(fd, libc::SO_RCVTIMEO);
    // SAFETY: asked after the kernel has accepted them.
    let room = || vectors::total(unsafe { vectors::buffers(buffers) });
    op::receive(fd, 0, room, || deadline.get(), |_| now())
}

/// `writev` by way of `now`, which begins to write without waiting.
///
/// # Safety
/// As for libc's `writev`.
pub(super) unsafe fn writev(
    fd: RawFd,
    buffers: (*const iovec, usize),
    now: impl FnMut() -> isize,
) -> Result<usize, Stop> {
    let mut deadline = CallDeadline::new(fd, libc::SO_SNDTIMEO);
    let first = op::drive(fd, Interest::Write, || deadline.get(), now)?;
    // SAFETY: the kernel has accepted the buffers; the caller leaves them alone during the call.
    Ok(unsafe { send_rest(fd, vectors::buffers(buffers), first, 0, &mut deadline) })
}

/// # Safety
/// As for libc's `sendto`.
pub(super) unsafe fn sendto(
    fd: RawFd,
    (buffer, length): (*const c_void, usize),
    flags: c_int,
    address: (*const sockaddr, socklen_t),
) -> Result<usize, Stop> {
    if flags & libc::MSG_DONTWAIT != 0 {
        // SAFETY: the caller's promise.
        return op::check(unsafe { sys::sendto_raw(fd, buffer, length, flags, address.0, address.1) });
    }
    let length = length.min(MOST);
    let mut deadline = CallDeadline::new(fd, libc::SO_SNDTIMEO);
    let mut sent = 0;
    loop {
        let rest = (buffer.wrapping_byte_add(sent), length - sent);
        // SAFETY: the caller's promise, for the part of the buffer that is not sent yet.
        match unsafe { op::sendto(fd, rest, flags, address, || deadline.get()) } {
            // Only a stream is sent in parts.
            Ok(count) if count > 0 && sent + count < length => sent += count,
            Ok(count) => return Ok(sent + count),
            Err(_) if sent > 0 => return Ok(sent),
            Err(stop) => return Err(stop),
        }
    }
}

/// # Safety
/// As for libc's `sendmsg`.
pub(super) unsafe fn sendmsg(fd: RawFd, message: *const msghdr, flags: c_int) -> Result<usize, Stop> {
    if flags & libc::MSG_DONTWAIT != 0 {
        // SAFETY: the caller's promise.
        return op::check(unsafe { sys::sendmsg_raw(fd, message, flags) });
    }
    let mut deadline = CallDeadline::new(fd, libc::SO_SNDTIMEO);
    // SAFETY: the caller's promise.
    let first = unsafe { op::sendmsg(fd, message, flags, || deadline.get()) }?;
    // SAFETY: the kernel accepted the message, so its buffers can be read; the caller leaves them alone during the call.
    let buffers = unsafe { vectors::buffers(((*message).msg_iov, (*message).msg_iovlen)) };
    // SAFETY: the caller's promise.
    Ok(unsafe { send_rest(fd, buffers, first, flags, &mut deadline) })
}

/// Sends what is left of a stream's buffers after `sent` bytes of them, and returns how much was sent in all. Control
/// data and address went with the first part.
///
/// # Safety
/// The buffers can be read.
pub(super) unsafe fn send_rest(
    fd: RawFd,
    buffers: &[iovec],
    mut sent: usize,
    flags: c_int,
    deadline: &mut CallDeadline,
) -> usize {
    loop {
        let window = Window::after(sent, buffers, MOST.saturating_sub(sent));
        if window.is_empty() {
            return sent;
        }
        let (vectors, count) = window.as_raw();
        let message = op::plain_message(vectors.cast_mut(), count);
        // SAFETY: each of the window's vectors is a part of a buffer of the caller's.
        match unsafe { op::sendmsg(fd, &raw const message, flags, || deadline.get()) } {
            Ok(count) if count > 0 => sent += count,
            Ok(_) | Err(_) => return sent,
        }
    }
}

/// Those who accept take turns, so that none of them finds a connection gone that it has just seen. One lock for all
/// listeners, because duplicates of one have numbers of their own.
static ACCEPTING: Spin<()> = Spin::new(());

/// Whether a fiber has ever accepted through its hook: from then on threads take their turns as well.
static FIBERS_ACCEPT: AtomicBool = AtomicBool::new(false);

pub(super) fn do_fibers_accept() -> bool {
    // Relaxed: a thread that misses the first store accepts as it did before.
    FIBERS_ACCEPT.load(Ordering::Relaxed)
}

/// In a forked child: nobody accepts, whatever the parent's threads were about to do.
///
/// # Safety
/// There is no other thread yet.
pub(crate) unsafe fn forget() {
    // SAFETY: the caller's promise; the caller is not in the critical section, which does not fork.
    unsafe { ACCEPTING.renew(()) };
    FIBERS_ACCEPT.store(false, Ordering::Relaxed);
}

/// In a fiber, or in a thread that may share its listener with one.
///
/// # Safety
/// As for libc's `accept4`.
pub(super) unsafe fn accept(
    fd: RawFd,
    (address, address_length): (*mut sockaddr, *mut socklen_t),
    flags: c_int,
) -> Result<usize, Stop> {
    if !do_fibers_accept() {
        FIBERS_ACCEPT.store(true, Ordering::Relaxed);
    }
    let mut deadline = CallDeadline::new(fd, libc::SO_RCVTIMEO);
    let patience = || must_listen(fd).and_then(|()| deadline.get());
    op::accept(fd, patience, || {
        ACCEPTING.lock(|()| match op::is_ready(fd, libc::POLLIN) {
            Ok(false) => -(libc::EAGAIN as isize),
            // SAFETY: the caller's promise.
            Ok(true) => unsafe { sys::accept4_raw(fd, address, address_length, flags) },
            Err(Stop::Errno(errno)) => -(errno as isize),
            Err(Stop::TimedOut) => -(libc::EAGAIN as isize),
        })
    })
}

/// # Safety
/// As for libc's `connect`.
pub(super) unsafe fn connect(fd: RawFd, address: (*const sockaddr, socklen_t)) -> Result<usize, Stop> {
    // SAFETY: the caller's promise.
    let plain = || unsafe { sys::connect_raw(fd, address.0, address.1) };
    let deadline = match CallDeadline::new(fd, libc::SO_SNDTIMEO).get() {
        Err(Stop::Errno(libc::EAGAIN)) => return op::check(plain()),
        deadline => deadline?,
    };
    // No flag of the call says "without waiting", so the open file does for as long as the call takes. FIONBIO changes
    // O_NONBLOCK alone, whatever other flags another thread sets at that moment.
    let without_waiting = || {
        if let error @ ..0 = set_nonblocking(fd, true) {
            return error;
        }
        let outcome = plain();
        set_nonblocking(fd, false);
        outcome
    };
    // TCP is left as a blocking connect leaves it only by a call that collects the outcome: after a failure it can be
    // connected again, after a success it cannot.
    let outcome = || match sys::socket_option(fd, libc::SO_PROTOCOL) {
        Ok(libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => op::check(without_waiting()).map(drop),
        _ => op::take_error(fd),
    };
    op::connect(fd, || Ok(deadline), without_waiting, outcome).map(|()| 0)
}

fn set_nonblocking(fd: RawFd, nonblocking: bool) -> isize {
    let argument = c_int::from(nonblocking);
    // SAFETY: FIONBIO reads one int, which lives through the call.
    unsafe { sys::ioctl_raw(fd, libc::FIONBIO as usize, &raw const argument as usize) }
}
