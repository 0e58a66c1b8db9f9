//! What changes a descriptor: in threads, too, because fibers may be waiting for it.

use std::os::fd::RawFd;
use std::ptr;

use libc::{c_int, c_void, socklen_t};

use super::{Symbol, in_fiber};
use crate::hook::lock;
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::socket;
use crate::reactor::{self, manner};
use crate::sys;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("close", close as *const ()),
    Symbol::new("dup2", dup2 as *const ()),
    Symbol::new("dup3", dup3 as *const ()),
    Symbol::new("setsockopt", setsockopt as *const ()),
    Symbol::new("fcntl", fcntl as *const ()),
    Symbol::new("fcntl64", fcntl64 as *const ()),
    Symbol::new("ioctl", ioctl as *const ()),
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
    // As for `close`: fibers may wait for the file that goes away. It stays where the call fails.
    if new >= 0 && is_replaced(old, new, flags) {
        reactor::closing(new as RawFd);
    }
    // SAFETY: the caller's promise.
    plain(unsafe { sys::dup3_raw(old, new, flags) }) as c_int
}

/// Whether `dup3` gets as far as closing `new`.
fn is_replaced(old: c_int, new: c_int, flags: c_int) -> bool {
    // SAFETY: F_GETFD reads flags and has no argument.
    old != new && flags & !libc::O_CLOEXEC == 0 && unsafe { sys::fcntl_raw(old, libc::F_GETFD, 0) } >= 0
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
    let outcome = unsafe { sys::setsockopt_raw(fd, level, option, value, length) };
    if level == libc::SOL_SOCKET && matches!(option, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) {
        manner::changed();
    }
    plain(outcome) as c_int
}

/// libc's is variadic. This one is called by the same instructions: on x86-64 and aarch64 Linux a variadic call passes
/// its integers and pointers in the registers of a call with fixed arguments. Like libc's, it hands the register on,
/// whether the command has an argument or not.
///
/// # Safety
/// As for libc's `fcntl`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    match command {
        libc::F_SETFL => {
            // SAFETY: the caller's promise.
            let outcome = unsafe { sys::fcntl_raw(fd, command, argument) };
            if outcome >= 0 && argument as c_int & libc::O_NONBLOCK != 0 {
                manner::changed();
            }
            plain(outcome) as c_int
        }
        libc::F_GETOWN => owner(fd),
        libc::F_SETLKW | libc::F_OFD_SETLKW if in_fiber(Probe::Other) => {
            let errno = Errno::save();
            // SAFETY: the caller's promise.
            errno.finish(unsafe { lock::set_and_wait(fd, command, argument) }, libc::ETIMEDOUT)
        }
        // SAFETY: the caller's promise.
        _ => plain(unsafe { sys::fcntl_raw(fd, command, argument) }) as c_int,
    }
}

/// The same: files are 64 bits long on these machines in any case.
///
/// # Safety
/// As for libc's `fcntl64`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { fcntl(fd, command, argument) }
}

/// Who gets the signals of a descriptor. The result of the kernel's F_GETOWN is negative both for a process group and for
/// an error, which is why libc asks in another way, too.
fn owner(fd: c_int) -> c_int {
    const F_GETOWN_EX: c_int = 16;
    const F_OWNER_PGRP: c_int = 2;

    let mut owner: [c_int; 2] = [0; 2];
    // SAFETY: the kernel writes a kind and a number, for which there is room.
    match plain(unsafe { sys::fcntl_raw(fd, F_GETOWN_EX, &raw mut owner as usize) }) {
        0.. if owner[0] == F_OWNER_PGRP => -owner[1],
        0.. => owner[1],
        _ => -1,
    }
}

/// libc's is variadic: see [`fcntl`].
///
/// # Safety
/// As for libc's `ioctl`.
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, request: libc::c_ulong, argument: usize) -> c_int {
    // SAFETY: the caller's promise.
    let outcome = unsafe { sys::ioctl_raw(fd, request as usize, argument) };
    // The kernel looks at 32 bits of the request.
    if request as u32 == libc::FIONBIO as u32 && outcome >= 0 {
        // SAFETY: the kernel has just read this number.
        let nonblocking = unsafe { *ptr::with_exposed_provenance::<c_int>(argument) };
        if nonblocking != 0 {
            manner::changed();
        }
    }
    plain(outcome) as c_int
}
