//! What libc's checked functions (`__poll_chk`, ...) do beside the call: programs built with `_FORTIFY_SOURCE` say how much
//! room there is.

use crate::sys;

/// Ends the process if more is `wanted` than there is `room` for, as libc does.
#[inline]
pub(super) fn check(wanted: usize, room: usize) {
    if wanted > room {
        overflow();
    }
}

#[cold]
fn overflow() -> ! {
    // By the kernel alone: what memory holds is not to be relied on any more.
    let _ = sys::write(2, b"*** buffer overflow detected ***: terminated\n");
    std::process::abort()
}
