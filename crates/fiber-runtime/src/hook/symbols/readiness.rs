//! Waiting for one of several descriptors.

use libc::{c_int, nfds_t, pollfd};

use super::{Symbol, in_fiber};
use crate::hook::outcome::{Errno, plain};
use crate::hook::poll as polling;
use crate::hook::self_test::Probe;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[Symbol::new("poll", poll as *const ())];

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
