//! Locks on files, of `flock`, `lockf` and `fcntl`: tried, and tried again after naps ([`super::naps`]), because nobody tells
//! when one is released. Fibers are not given it in their order.
//!
//! Locks of `lockf` and `F_SETLK` belong to the process: two fibers of one process never exclude each other by them, just
//! as two threads do not.

use std::os::fd::RawFd;

use libc::{c_int, off_t};

use super::naps;
use crate::net::op::{self, Stop};
use crate::sys;

/// `flock`, plainly.
///
/// # Safety
/// None beyond what the file's users expect of its locks.
pub(super) unsafe fn flock_raw(fd: RawFd, operation: c_int) -> isize {
    // SAFETY: plain numbers.
    unsafe { sys::syscall6(libc::SYS_flock, fd as usize, operation as usize, 0, 0, 0, 0) }
}

pub(super) fn flock(fd: RawFd, operation: c_int) -> Result<usize, Stop> {
    // SAFETY: plain numbers.
    let now = |operation| unsafe { flock_raw(fd, operation) };
    let waits = matches!(operation, libc::LOCK_SH | libc::LOCK_EX) && naps::may_give_way();
    if !waits {
        return op::check(now(operation));
    }
    naps::until(|| naps::unless(libc::EWOULDBLOCK, now(operation | libc::LOCK_NB)))?
}

/// `fcntl` with `F_SETLKW` or `F_OFD_SETLKW`, in a fiber.
///
/// # Safety
/// `lock` is what the kernel expects of these commands.
pub(super) unsafe fn set_and_wait(fd: RawFd, command: c_int, lock: usize) -> Result<usize, Stop> {
    // SAFETY: the caller's promise.
    let call = |command| unsafe { sys::fcntl_raw(fd, command, lock) };
    if !naps::may_give_way() {
        return op::check(call(command));
    }
    let at_once = if command == libc::F_SETLKW { libc::F_SETLK } else { libc::F_OFD_SETLK };
    naps::until(|| match op::check(call(at_once)) {
        // One or the other, says POSIX.
        Err(Stop::Errno(libc::EAGAIN | libc::EACCES)) => None,
        outcome => Some(outcome),
    })?
}

/// `lockf`, which libc makes of `fcntl`.
pub(super) fn lockf(fd: RawFd, command: c_int, length: off_t, in_fiber: bool) -> Result<usize, Stop> {
    // SAFETY: a flock of zeros is valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_whence = libc::SEEK_CUR as _;
    lock.l_len = length;
    lock.l_type = libc::F_WRLCK as _;
    let argument = |lock: &mut libc::flock| std::ptr::from_mut(lock) as usize;
    let call = |command, lock: &mut libc::flock| {
        // SAFETY: the lock lives through the call.
        op::check(unsafe { sys::fcntl_raw(fd, command, argument(lock)) })
    };
    match command {
        libc::F_TEST => {
            lock.l_type = libc::F_RDLCK as _;
            call(libc::F_GETLK, &mut lock)?;
            let mine = lock.l_pid.cast_unsigned() == std::process::id();
            if i32::from(lock.l_type) == i32::from(libc::F_UNLCK as i16) || mine {
                Ok(0)
            } else {
                Err(Stop::Errno(libc::EACCES))
            }
        }
        libc::F_ULOCK => {
            lock.l_type = libc::F_UNLCK as _;
            call(libc::F_SETLK, &mut lock)
        }
        libc::F_TLOCK => call(libc::F_SETLK, &mut lock),
        // SAFETY: the lock lives through the call.
        libc::F_LOCK if in_fiber => unsafe { set_and_wait(fd, libc::F_SETLKW, argument(&mut lock)) },
        libc::F_LOCK => call(libc::F_SETLKW, &mut lock),
        _ => Err(Stop::Errno(libc::EINVAL)),
    }
}
