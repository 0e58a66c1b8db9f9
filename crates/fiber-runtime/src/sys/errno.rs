//! The calling thread's `errno`.
//!
//! A hook reports a failure in `errno`, and the scheduler's own system calls must not show through: they are raw and
//! leave it alone, but `mio` and the allocator go through libc. A hook therefore sets `errno` last, after it has
//! resumed, and restores what it found when it succeeds.
#![cfg_attr(not(feature = "hook"), allow(dead_code, reason = "hooks only deal in errno"))]

/// Reads `errno`.
#[inline]
pub(crate) fn get() -> i32 {
    // SAFETY: libc returns the address of this thread's errno, valid while the thread lives; fibers do not change
    // thread, so the address is used on the thread it belongs to.
    unsafe { *libc::__errno_location() }
}

/// Writes `errno`.
#[inline]
pub(crate) fn set(value: i32) {
    // SAFETY: as in `get`.
    unsafe { *libc::__errno_location() = value }
}
