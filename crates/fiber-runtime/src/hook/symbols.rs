//! The definitions of the libc symbols: whose call it is, and the return value. Everything else is elsewhere.
//!
//! Each begins with the question whether the caller is in a fiber; if not, it is one raw system call.

use std::os::fd::RawFd;
use std::ptr;

use libc::{
    c_int, c_uint, c_void, clockid_t, iovec, msghdr, nfds_t, pollfd, size_t, sockaddr, socklen_t, ssize_t,
    timespec, useconds_t,
};

use super::outcome::{Errno, plain};
use super::self_test::Probe;
use super::{anonymous, poll as polling, sleep as sleeping, socket};
use crate::fiber::park;
use crate::net::op;
use crate::{reactor, sys};

/// Every symbol that is defined here, so that one reference takes them all into the program.
pub(super) static TABLE: Table = Table([
    recv as *const (),
    recvfrom as *const (),
    recvmsg as *const (),
    send as *const (),
    sendto as *const (),
    sendmsg as *const (),
    read as *const (),
    readv as *const (),
    write as *const (),
    writev as *const (),
    accept as *const (),
    accept4 as *const (),
    connect as *const (),
    poll as *const (),
    close as *const (),
    dup2 as *const (),
    dup3 as *const (),
    setsockopt as *const (),
    clock_nanosleep as *const (),
    nanosleep as *const (),
    usleep as *const (),
    sleep as *const (),
    sched_yield as *const (),
]);

/// Addresses of functions.
pub(super) struct Table([*const (); 23]);

// SAFETY: the addresses are of functions, which every thread may call.
unsafe impl Sync for Table {}

impl Table {
    pub(super) fn addresses(&self) -> &[*const ()] {
        &self.0
    }
}

/// Whether the call is a fiber's. If not, a self test that is running learns that the call arrived here.
#[inline]
fn in_fiber(probe: Probe) -> bool {
    super::is_cooperative() || {
        probe.arrived();
        false
    }
}

/// # Safety
/// As for libc's `recv`.
#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the caller's promise; no address is asked for.
    unsafe { recvfrom(fd, buffer, length, flags, ptr::null_mut(), ptr::null_mut()) }
}

/// # Safety
/// As for libc's `recvfrom`.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    if !in_fiber(Probe::Recv) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::recvfrom_raw(fd, buffer, length, flags, address, address_length) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { socket::recvfrom(fd, (buffer, length), flags, (address, address_length)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `recvmsg`.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::recvmsg_raw(fd, message, flags) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { socket::recvmsg(fd, message, flags) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `send`.
#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the caller's promise; no address is given.
    unsafe { sendto(fd, buffer, length, flags, ptr::null(), 0) }
}

/// # Safety
/// As for libc's `sendto`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_length: socklen_t,
) -> ssize_t {
    if !in_fiber(Probe::Send) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::sendto_raw(fd, buffer, length, flags, address, address_length) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { socket::sendto(fd, (buffer, length), flags, (address, address_length)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `sendmsg`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::sendmsg_raw(fd, message, flags) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { socket::sendmsg(fd, message, flags) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `read`.
#[unsafe(no_mangle)]
unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    if !anonymous::is_candidate(fd) || length == 0 || !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::read_raw(fd, buffer, length) });
    }
    let errno = Errno::save();
    let vector = iovec { iov_base: buffer, iov_len: length };
    // SAFETY: the caller's promise, written down as one vector.
    let outcome = unsafe { anonymous::read(fd, (&raw const vector, 1)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `readv`.
#[unsafe(no_mangle)]
unsafe extern "C" fn readv(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t {
    let Some(suitable) = usize::try_from(count).ok().filter(|&count| anonymous::is_suitable_count(fd, count))
    else {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::readv_raw(fd, vectors, count) });
    };
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::readv_raw(fd, vectors, count) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { anonymous::read(fd, (vectors, suitable)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `write`.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if !anonymous::is_candidate(fd) || length == 0 || !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::write_raw(fd, buffer, length) });
    }
    let errno = Errno::save();
    let vector = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: the caller's promise, written down as one vector.
    let outcome = unsafe { anonymous::write(fd, (&raw const vector, 1)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `writev`.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t {
    let Some(suitable) = usize::try_from(count).ok().filter(|&count| anonymous::is_suitable_count(fd, count))
    else {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::writev_raw(fd, vectors, count) });
    };
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::writev_raw(fd, vectors, count) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { anonymous::write(fd, (vectors, suitable)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `accept`.
#[unsafe(no_mangle)]
unsafe extern "C" fn accept(fd: c_int, address: *mut sockaddr, address_length: *mut socklen_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { accept4(fd, address, address_length, 0) }
}

/// # Safety
/// As for libc's `accept4`.
#[unsafe(no_mangle)]
unsafe extern "C" fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    if !in_fiber(Probe::Accept) && !socket::do_fibers_accept() {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::accept4_raw(fd, address, address_length, flags) }) as c_int;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { socket::accept(fd, (address, address_length), flags) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `connect`.
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, address_length: socklen_t) -> c_int {
    if !in_fiber(Probe::Connect) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::connect_raw(fd, address, address_length) }) as c_int;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { socket::connect(fd, (address, address_length)) };
    // The kernel's answer to a connect that outlasts SO_SNDTIMEO.
    errno.finish(outcome, libc::EINPROGRESS)
}

/// # Safety
/// As for libc's `poll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int {
    if timeout_ms == 0 || !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { polling::plain(fds, count as usize, timeout_ms) }) as c_int;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { polling::poll(fds, count as usize, timeout_ms) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `close`: the caller owns the descriptor.
#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if fd >= 0 {
        // In threads too: fibers may wait for what a thread closes.
        reactor::closing(fd as RawFd);
    }
    Probe::Close.arrived();
    // SAFETY: the caller's promise.
    plain(unsafe { sys::close_raw(fd) }) as c_int
}

/// # Safety
/// As for libc's `dup2`: the caller owns `new`, whose file is closed.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    if old == new {
        // Nothing is closed; the call only says whether the descriptor is open.
        // SAFETY: F_GETFD reads flags and has no argument.
        let open = plain(unsafe { sys::fcntl_raw(old, libc::F_GETFD, 0) });
        return if open < 0 { -1 } else { new };
    }
    // SAFETY: the caller's promise.
    unsafe { dup3(old, new, 0) }
}

/// # Safety
/// As for libc's `dup3`: the caller owns `new`, whose file is closed.
#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    if new >= 0 {
        // As for `close`: fibers may wait for the file that goes away.
        reactor::closing(new as RawFd);
    }
    // SAFETY: the caller's promise.
    plain(unsafe { sys::dup3_raw(old, new, flags) }) as c_int
}

/// # Safety
/// As for libc's `setsockopt`.
#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if level == libc::SOL_SOCKET && matches!(option, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) {
        socket::timeouts_are_in_use();
    }
    if level == libc::SOL_TCP && option == libc::TCP_ULP {
        reactor::drained::layered();
    }
    // SAFETY: the caller's promise.
    plain(unsafe { sys::setsockopt_raw(fd, level, option, value, length) }) as c_int
}

/// # Safety
/// As for libc's `clock_nanosleep`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    remain: *mut timespec,
) -> c_int {
    if in_fiber(Probe::Sleep) {
        // SAFETY: the caller's promise.
        if let Some(deadline) = unsafe { sleeping::deadline(clock, flags, request) } {
            let errno = Errno::save();
            // The sleep of a cancelled fiber, or past the deadline of a scope, is short, and no caller expects an error other than a signal's.
            let _ = op::sleep_until(deadline);
            return errno.finish(Ok(0), 0);
        }
    }
    // SAFETY: the caller's promise. This call alone reports its error as the value.
    -(unsafe { sys::clock_nanosleep_raw(clock, flags, request, remain) }) as c_int
}

/// # Safety
/// As for libc's `nanosleep`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nanosleep(request: *const timespec, remain: *mut timespec) -> c_int {
    // SAFETY: the caller's promise. Linux measures nanosleep by the monotonic clock.
    match unsafe { clock_nanosleep(libc::CLOCK_MONOTONIC, 0, request, remain) } {
        0 => 0,
        error => plain(-(error as isize)) as c_int,
    }
}

#[unsafe(no_mangle)]
extern "C" fn usleep(micros: useconds_t) -> c_int {
    let request =
        timespec { tv_sec: (micros / 1_000_000).into(), tv_nsec: (micros % 1_000_000 * 1_000).into() };
    // SAFETY: the request lives through the call, and what remains is not asked for.
    unsafe { nanosleep(&raw const request, ptr::null_mut()) }
}

#[unsafe(no_mangle)]
extern "C" fn sleep(seconds: c_uint) -> c_uint {
    let request = timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    let mut remain = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both live through the call.
    match unsafe { clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const request, &raw mut remain) } {
        0 => 0,
        // Interrupted by a signal: what is left, in whole seconds.
        _ => (remain.tv_sec + libc::time_t::from(remain.tv_nsec >= 500_000_000)) as c_uint,
    }
}

#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> c_int {
    if in_fiber(Probe::Other) {
        let errno = Errno::save();
        park::yield_uncancelled();
        return errno.finish(Ok(0), 0);
    }
    sys::sched_yield();
    0
}
