//! Bytes from and to any file.

use libc::{c_int, c_void, iovec, size_t, ssize_t};

use super::{Symbol, in_fiber};
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::{anonymous, fortify};
use crate::sys;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("read", read as *const ()),
    Symbol::new("readv", readv as *const ()),
    Symbol::new("write", write as *const ()),
    Symbol::new("writev", writev as *const ()),
    Symbol::new("__read_chk", __read_chk as *const ()),
];

/// # Safety
/// As for libc's `read`.
#[unsafe(no_mangle)]
unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    // Reading nothing waits for nothing.
    if length == 0 || !anonymous::is_suitable_length(fd, length) || !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::read_raw(fd, buffer, length) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { anonymous::read(fd, (buffer, length)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `read`; the buffer has `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn __read_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t) -> ssize_t {
    fortify::check(length, room);
    // SAFETY: the caller's promise.
    unsafe { read(fd, buffer, length) }
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
    let outcome = unsafe { anonymous::readv(fd, (vectors, suitable)) };
    errno.finish(outcome, libc::EAGAIN)
}

/// # Safety
/// As for libc's `write`.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if !anonymous::is_suitable_length(fd, length) || !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { sys::write_raw(fd, buffer, length) });
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { anonymous::write(fd, (buffer, length)) };
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
    let outcome = unsafe { anonymous::writev(fd, (vectors, suitable)) };
    errno.finish(outcome, libc::EAGAIN)
}
