//! Waiting for a word in memory: what the locks of `std::sync` do.
//!
//! `Mutex`, `RwLock`, `Condvar`, `Once`, `OnceLock`, `LazyLock` and `Barrier` wait by `FUTEX_WAIT_BITSET` and wake by
//! `FUTEX_WAKE`, both for a word of this process. A fiber that waits so parks, in a line of this module ([`bucket`]); a
//! wake, whoever makes it, looks there and in the kernel, where threads wait. So fibers and threads may share a lock, and
//! a fiber may hold one while it waits for something else.
//!
//! # Who must not park
//! - `std::thread::park` waits in the same way, for a word that each thread has one of: see [`parker`].
//! - `FUTEX_WAIT`, `parking_lot`'s: it queues threads, with one node for each. A second fiber of the thread would queue the
//!   same node again.
//! - A fiber that must not give way: its hooks are off, it unwinds, it is held, or a library has noted in a thread-local that
//!   the thread has a lock. And the worker itself, between two fibers. Their waits block the thread, in [slices](slices).
//!
//! # Rules
//! - A wait that neither cancellation nor a scope's deadline ends: `std` would come again at once, and spin.
//! - Nothing allocates, nothing unwinds. A waker holds the lock of one bucket, a [`Spin`](crate::sync::Spin), for some list
//!   operations; under it a fiber of its own worker gets ready, and nobody is woken by system call.

mod bucket;
mod parker;
mod simulated;
mod slices;

use std::sync::atomic::AtomicU32;

use crossbeam_utils::CachePadded;
use libc::{c_int, timespec};

use bucket::{Bucket, Ended};
use parker::Reason;
use slices::Futex;

use super::blocking::{self, By};
use super::outcome::{Errno, plain};
use super::self_test::Probe;
use super::{sleep, thread_locals};
use crate::fiber::park;
use crate::net::op::Stop;
use crate::scheduler::worker::Worker;
use crate::sys;

/// Buckets. Words whose addresses fall into the same one share its lock; more buckets make that rarer, and take a cache
/// line or two each.
const BUCKETS: usize = 256;

static TABLE: [CachePadded<Bucket>; BUCKETS] = [const { CachePadded::new(Bucket::new()) }; BUCKETS];

/// The bucket of a word.
#[inline]
fn bucket_of(word: usize) -> &'static Bucket {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
    const RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = (word as u64).wrapping_mul(RATIO);
    &TABLE[(product >> (u64::BITS - BUCKETS.ilog2())) as usize]
}

/// In a forked child: its copies of those who wait are of fibers that it does not have. A wake must not be spent on them.
///
/// # Safety
/// There is no other thread yet.
pub(crate) unsafe fn forget() {
    for bucket in &TABLE {
        // SAFETY: the caller's promise.
        unsafe { bucket.forget() };
    }
}

/// The system call `futex`, and its return value as libc's callers expect it.
///
/// # Safety
/// The arguments are as the system call wants them.
#[inline(always)]
pub(super) unsafe fn call(word: usize, op: usize, value: usize, d: usize, e: usize, f: usize) -> isize {
    const WAIT: c_int = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
    const WAIT_REALTIME: c_int = WAIT | libc::FUTEX_CLOCK_REALTIME;
    const WAIT_BLOCKING: c_int = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    const WAIT_SHARED: c_int = libc::FUTEX_WAIT;
    const WAKE: c_int = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    const ANY: u32 = libc::FUTEX_BITSET_MATCH_ANY as u32;

    // What is written to registers by halves is read by halves.
    let op = op as c_int;
    match op {
        WAKE => {
            let kernel = |count: u32| {
                // SAFETY: the caller's promise: a wake touches no memory.
                unsafe { sys::syscall6(libc::SYS_futex, word, op as usize, count as usize, 0, 0, 0) }
            };
            // The kernel wakes one also when asked for none.
            wake(word, (value as c_int).max(1) as u32, kernel)
        }
        WAIT | WAIT_REALTIME if f as u32 == ANY && is_word(word) => {
            let clock = if op == WAIT { libc::CLOCK_MONOTONIC } else { libc::CLOCK_REALTIME };
            let deadline = d as *const timespec;
            // SAFETY: the caller's promise.
            unsafe { wait(Futex { word, op, expected: value as u32, clock, deadline }) }
        }
        WAIT_BLOCKING | WAIT_SHARED | WAIT | WAIT_REALTIME => {
            blocking::note(By::Futex);
            // SAFETY: the caller's promise.
            plain(unsafe { sys::syscall6(libc::SYS_futex, word, op as usize, value, d, e, f) })
        }
        // SAFETY: the caller's promise.
        _ => plain(unsafe { sys::syscall6(libc::SYS_futex, word, op as usize, value, d, e, f) }),
    }
}

/// Whether it is the address of a word. The kernel has errors for what is not.
fn is_word(address: usize) -> bool {
    address != 0 && address.is_multiple_of(align_of::<u32>())
}

/// # Safety
/// As for the system call.
#[inline(always)]
unsafe fn wait(futex: Futex) -> isize {
    Probe::Futex.arrived();
    if Worker::with_current(|_| ()).is_none() {
        // SAFETY: the caller's promise.
        return plain(unsafe { futex.wait_until(futex.deadline) });
    }
    let reason = if futex.expected == parker::PARKED { parker::reason(futex.word) } else { Reason::Lock };
    if reason != Reason::Lock {
        if reason == Reason::Parks {
            blocking::note(By::Park);
        }
        // SAFETY: the caller's promise.
        return plain(unsafe { futex.wait_until(futex.deadline) });
    }
    if !may_park() {
        // SAFETY: the caller's promise.
        return plain(unsafe { futex.wait_in_slices() });
    }
    // SAFETY: the caller's promise.
    if let Some(result) = unsafe { simulated::wait_for_outsiders(&futex) } {
        return plain(result);
    }
    let deadline = if futex.deadline.is_null() {
        None
    } else {
        // SAFETY: the caller's promise.
        match unsafe { sleep::deadline(futex.clock, libc::TIMER_ABSTIME, futex.deadline) } {
            Some(deadline) => Some(deadline),
            // The kernel has an error for what is no time.
            // SAFETY: the caller's promise.
            None => return plain(unsafe { futex.wait_until(futex.deadline) }),
        }
    };
    let errno = Errno::save();
    // SAFETY: the caller waits for an aligned word of its own, which others change atomically.
    let word = unsafe { AtomicU32::from_ptr(futex.word as *mut u32) };
    let outcome = match bucket_of(futex.word).wait(word, futex.expected, deadline) {
        Ended::Woken => Ok(0),
        Ended::Changed => Err(Stop::Errno(libc::EAGAIN)),
        Ended::TimedOut => {
            // Whoever asks again and again without waiting would keep the worker.
            park::courtesy(may_park);
            Err(Stop::TimedOut)
        }
    };
    errno.finish(outcome, libc::ETIMEDOUT)
}

/// Whether the caller is in a fiber that may give its worker back.
fn may_park() -> bool {
    super::is_cooperative()
        && Worker::with_current_fiber(|_, fiber| !(fiber.attention.is_held() || std::thread::panicking()))
            == Some(true)
        && !thread_locals::thread_owns_a_lock()
}

#[inline]
fn wake(word: usize, count: u32, kernel: impl Fn(u32) -> isize) -> isize {
    let found = bucket_of(word).wake(word, count, kernel);
    if found.neighbour {
        after_waking_a_neighbour();
    }
    plain(found.result)
}

/// A thread that is woken runs beside the one that woke it, and gets its turn at the lock sooner or later. A fiber of the
/// same worker does not: one that unlocks and locks again without waiting between would keep its neighbours from the lock
/// for ever. So it gives way now and then.
#[cold]
fn after_waking_a_neighbour() {
    if super::is_cooperative() {
        let errno = Errno::save();
        park::courtesy(may_park);
        let _: isize = errno.finish(Ok(0), 0);
    }
}
