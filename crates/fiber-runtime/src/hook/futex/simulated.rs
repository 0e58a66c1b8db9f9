//! Locks in a simulation.
//!
//! A lock that simulated fibers share must park them: whoever holds it is suspended, and time is virtual. But a simulated
//! program also meets locks of the process around it: that of standard output, of a `tracing` subscriber, of a `LazyLock`
//! that another test initialises. If the fiber parked for those, what runs next would depend on what other threads do, and a
//! seed would no longer decide a run. For them it waits as a thread does: the simulation stands still, and knows nothing of
//! it.
//!
//! Who holds a lock is not to be seen. But others release it soon, and a suspended fiber does not. So the first wait for a
//! word gives others time, and when that was in vain, the word is one of the simulation, and its next waits park at once.

use std::cell::Cell;

use super::slices::{Futex, after};
use crate::scheduler::worker::Worker;

/// How long threads outside hold a lock that a simulated fiber wants, at most. Longer, and the run of a seed may change.
const PATIENCE_NANOS: i64 = 20_000_000;
/// Words that are remembered as those of the simulation. More than these, and some cost the patience again.
const REMEMBERED: usize = 32;

thread_local! {
    static INSIDE: Cell<[usize; REMEMBERED]> = const { Cell::new([0; REMEMBERED]) };
    static NEXT: Cell<usize> = const { Cell::new(0) };
}

/// In a simulation, waits a little for a word that may be a lock of others. `None`: the fiber is to park, as it is
/// everywhere else.
///
/// # Safety
/// As for the system call.
#[inline]
pub(super) unsafe fn wait_for_outsiders(futex: &Futex) -> Option<isize> {
    if Worker::with_current(|worker| worker.sim().is_some()) != Some(true) {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { wait_in_simulation(futex) }
}

#[cold]
unsafe fn wait_in_simulation(futex: &Futex) -> Option<isize> {
    if !is_lock(futex.expected) || INSIDE.get().contains(&futex.word) {
        return None;
    }
    let end = after(PATIENCE_NANOS, futex.clock);
    // SAFETY: the caller's promise, and the deadline lives through the call.
    let result = unsafe { futex.wait_until(&raw const end) };
    if result != -(libc::ETIMEDOUT as isize) {
        return Some(result);
    }
    let mut inside = INSIDE.get();
    let at = NEXT.get();
    inside[at] = futex.word;
    INSIDE.set(inside);
    NEXT.set((at + 1) % REMEMBERED);
    None
}

/// Whether the value is one for which locks of `std` wait: a `Mutex` that others wait for, a `Once` that runs, an `RwLock`
/// with its bits for those who wait. Condition variables count from 0, and belong to who waits for them.
fn is_lock(expected: u32) -> bool {
    const MUTEX: u32 = 2;
    const ONCE: u32 = 1 | 4;
    const RWLOCK: u32 = 1 << 30 | 1 << 31;
    expected == MUTEX || expected == ONCE || expected & RWLOCK != 0
}
