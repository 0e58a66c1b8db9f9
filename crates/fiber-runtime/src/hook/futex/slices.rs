//! Waits that block the thread of a worker.
//!
//! A wake for one goes to one. If that is a parked fiber of a worker that is itself blocked, for the same lock, then the
//! fiber cannot run, the worker was not woken, and the lock stays free and unused for ever:
//!
//! ```text
//!   fiber A, holds its worker      fiber B, same worker      holder of the lock
//!                                  waits: parked
//!   waits: blocks the thread
//!                                  <--------- wake one ----- unlocks
//!   sleeps on                      ready, but not running
//! ```
//!
//! So a worker's thread waits for the word a little at a time, and between two waits the kernel compares the word again. The
//! word has changed whenever a wake was due: a lock that was released is free, or is held by another who releases it; a
//! condition variable counts its notifications. The caller hears nothing of the slices.

use libc::{c_int, clockid_t, timespec};

use crate::sys;

/// The first slice. It is the delay of a wake that went astray, which needs two who wait for one lock at the same time on
/// one worker, one of them without giving way.
const FIRST_SLICE_NANOS: i64 = 1_000_000;
/// The longest: a worker that waits long looks a hundred times a second.
const LAST_SLICE_NANOS: i64 = 10_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A wait for a word, as the system call has it.
#[derive(Clone, Copy)]
pub(super) struct Futex {
    pub(super) word: usize,
    pub(super) op: c_int,
    pub(super) expected: u32,
    /// The clock of the deadline.
    pub(super) clock: clockid_t,
    /// When it ends at the latest, or null.
    pub(super) deadline: *const timespec,
}

impl Futex {
    /// One system call.
    ///
    /// # Safety
    /// The word may be read, and the deadline is null or points to one.
    pub(super) unsafe fn wait_until(&self, deadline: *const timespec) -> isize {
        let (op, expected) = (self.op as usize, self.expected as usize);
        let any = libc::FUTEX_BITSET_MATCH_ANY as usize;
        // SAFETY: the caller's promise.
        unsafe { sys::syscall6(libc::SYS_futex, self.word, op, expected, deadline.addr(), 0, any) }
    }

    /// As the system call, in slices.
    ///
    /// # Safety
    /// As for [`Futex::wait_until`].
    #[cold]
    pub(super) unsafe fn wait_in_slices(&self) -> isize {
        let mut slice = FIRST_SLICE_NANOS;
        loop {
            let end = after(slice, self.clock);
            // SAFETY: the caller's promise.
            let is_last = unsafe { self.deadline.as_ref() }
                .is_some_and(|deadline| (deadline.tv_sec, deadline.tv_nsec) <= (end.tv_sec, end.tv_nsec));
            let until = if is_last { self.deadline } else { &raw const end };
            // SAFETY: the caller's promise, and the end of the slice outlives the call.
            let result = unsafe { self.wait_until(until) };
            if is_last || result != -(libc::ETIMEDOUT as isize) {
                return result;
            }
            slice = (slice * 2).min(LAST_SLICE_NANOS);
        }
    }
}

/// So much later than now.
pub(super) fn after(nanos: i64, clock: clockid_t) -> timespec {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec lives through the call; this symbol is not hooked and does not block. These clocks exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_nsec += nanos;
    if time.tv_nsec >= NANOS_PER_SECOND {
        (time.tv_sec, time.tv_nsec) = (time.tv_sec + 1, time.tv_nsec - NANOS_PER_SECOND);
    }
    time
}
