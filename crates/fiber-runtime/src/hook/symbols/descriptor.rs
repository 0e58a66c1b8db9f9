//! What changes a descriptor: in threads, too, because fibers may be waiting for it.

use std::os::fd::RawFd;

use libc::{c_int, c_void, socklen_t};

use super::Symbol;
use crate::hook::outcome::plain;
use crate::hook::self_test::Probe;
use crate::hook::socket;
use crate::{reactor, sys};

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("close", close as *const ()),
    Symbol::new("dup2", dup2 as *const ()),
    Symbol::new("dup3", dup3 as *const ()),
    Symbol::new("setsockopt", setsockopt as *const ()),
];

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
