//! Messages, connections.

use std::ptr;

use libc::{c_int, c_uint, c_void, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};

use super::{Symbol, in_fiber};
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::{fortify, several, socket};
use crate::sys;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("recv", recv as *const ()),
    Symbol::new("recvfrom", recvfrom as *const ()),
    Symbol::new("recvmsg", recvmsg as *const ()),
    Symbol::new("recvmmsg", recvmmsg as *const ()),
    Symbol::new("__recv_chk", __recv_chk as *const ()),
    Symbol::new("__recvfrom_chk", __recvfrom_chk as *const ()),
    Symbol::new("send", send as *const ()),
    Symbol::new("sendto", sendto as *const ()),
    Symbol::new("sendmsg", sendmsg as *const ()),
    Symbol::new("sendmmsg", sendmmsg as *const ()),
    Symbol::new("accept", accept as *const ()),
    Symbol::new("accept4", accept4 as *const ()),
    Symbol::new("connect", connect as *const ()),
];

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
/// As for libc's `recv`; the buffer has `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    fortify::check(length, room);
    // SAFETY: the caller's promise.
    unsafe { recv(fd, buffer, length, flags) }
}

/// # Safety
/// As for libc's `recvfrom`; the buffer has `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    fortify::check(length, room);
    // SAFETY: the caller's promise.
    unsafe { recvfrom(fd, buffer, length, flags, address, address_length) }
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
/// As for libc's `recvmmsg`.
#[unsafe(no_mangle)]
unsafe extern "C" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { several::recvmmsg_raw(fd, (messages, count), flags, timeout) }) as c_int;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { several::recvmmsg(fd, (messages, count), flags, timeout) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `sendmmsg`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { several::sendmmsg_raw(fd, (messages, count), flags) }) as c_int;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { several::sendmmsg(fd, (messages, count), flags) };
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
    let plainly = !in_fiber(Probe::Accept) && (!socket::do_fibers_accept() || !may_take_turns());
    if plainly {
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

/// Whether a caller whose call is not hooked takes turns with fibers all the same: a plain thread does, a fiber that has
/// switched its hooks off would block its worker in any case.
fn may_take_turns() -> bool {
    !crate::in_fiber() && !crate::hook::is_off_for_thread()
}
