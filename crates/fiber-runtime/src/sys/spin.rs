//! A spin lock for critical sections of a few instructions.
//!
//! The runtime may not block in a std or parking_lot lock: a fiber that holds one and is descheduled with its thread
//! is fine, but the hooks turn std locks into fiber waits, and the scheduler cannot wait for itself. Rules for users:
//! no suspension, no system call, no user code and no unbounded loop under the lock.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A value that is reached through [`SpinLock::with`] only.
pub(crate) struct SpinLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` hands out the value to one thread at a time (see there), which is what `T: Send` allows.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A lock around `value`.
    pub(crate) const fn new(value: T) -> Self {
        SpinLock { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `body` on the value while no one else does.
    #[inline]
    pub(crate) fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        // Acquire pairs with the Release store in `Unlock::drop`: what the last holder wrote is visible here.
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait();
        }
        let _unlock = Unlock(&self.locked);
        // SAFETY: `locked` went from false to true by this thread and goes back only when `_unlock` drops, so no
        // other reference to the value exists meanwhile.
        body(unsafe { &mut *self.value.get() })
    }

    #[cold]
    fn wait(&self) {
        let mut rounds = 0u32;
        while self.locked.load(Ordering::Relaxed) {
            // The holder may have been preempted: after a while give it the processor.
            if rounds < 64 {
                std::hint::spin_loop();
                rounds += 1;
            } else {
                super::calls::sched_yield();
            }
        }
    }
}

/// Unlocks also when `body` panics.
struct Unlock<'a>(&'a AtomicBool);

impl Drop for Unlock<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
