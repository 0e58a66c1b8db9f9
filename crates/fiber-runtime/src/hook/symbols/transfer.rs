//! Bytes from one descriptor to another.

use libc::{c_int, c_uint, loff_t, off_t, size_t, ssize_t};

use super::{Symbol, in_fiber};
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::transfer;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("splice", splice as *const ()),
    Symbol::new("tee", tee as *const ()),
    Symbol::new("sendfile", sendfile as *const ()),
    Symbol::new("sendfile64", sendfile64 as *const ()),
];

/// # Safety
/// As for libc's `splice`.
#[unsafe(no_mangle)]
unsafe extern "C" fn splice(
    from: c_int,
    from_offset: *mut loff_t,
    to: c_int,
    to_offset: *mut loff_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    let call = |length, flags| {
        // SAFETY: the caller's promise.
        unsafe { transfer::splice_raw((from, from_offset), (to, to_offset), length, flags) }
    };
    if !in_fiber(Probe::Other) || !transfer::is_candidate_pair(from, to) {
        return plain(call(length, flags));
    }
    let errno = Errno::save();
    errno.finish(transfer::splice(from, to, length, flags, call), libc::EAGAIN)
}

/// # Safety
/// As for libc's `tee`.
#[unsafe(no_mangle)]
unsafe extern "C" fn tee(from: c_int, to: c_int, length: size_t, flags: c_uint) -> ssize_t {
    let call = |length, flags| transfer::tee_raw(from, to, length, flags);
    if !in_fiber(Probe::Other) || !transfer::is_candidate_pair(from, to) {
        return plain(call(length, flags));
    }
    let errno = Errno::save();
    errno.finish(transfer::splice(from, to, length, flags, call), libc::EAGAIN)
}

/// # Safety
/// As for libc's `sendfile`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off_t, length: size_t) -> ssize_t {
    // SAFETY: the caller's promise.
    let call = |length| unsafe { transfer::sendfile_raw(to, from, offset, length) };
    if !in_fiber(Probe::Other) || !transfer::is_candidate_pair(from, to) {
        return plain(call(length));
    }
    let errno = Errno::save();
    errno.finish(transfer::sendfile(to, length, call), libc::EAGAIN)
}

/// # Safety
/// As for libc's `sendfile64`.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off_t, length: size_t) -> ssize_t {
    // SAFETY: the caller's promise. Offsets have 64 bits either way.
    unsafe { sendfile(to, from, offset, length) }
}
