//! A lock for critical sections of a few instructions, which guards the wait queues of everything else in `sync`.

use std::fmt;

use crate::primitive::{AtomicBool, Ordering, UnsafeCell, spin_loop};

/// How often a contender looks again before it gives its processor away. On a machine with one core the holder cannot
/// make progress while the contender spins, so the number is small.
const SPINS_BEFORE_YIELD: u32 = 64;

/// A spin lock around a value, with a closure as its critical section.
///
/// The closure must not suspend the fiber, block, or lock the same `Spin` again: a second fiber of the same worker
/// would spin for ever. It is meant for moving a few words; everything longer belongs under a [`super::Mutex`].
///
/// ```
/// use fiber_runtime::sync::Spin;
///
/// let total = Spin::new(0_u64);
/// total.lock(|sum| *sum += 3);
/// assert_eq!(total.lock(|sum| *sum), 3);
/// ```
pub struct Spin<T: ?Sized> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through `lock`, by one thread at a time, so sharing the lock moves the value
// between threads and needs no more than `T: Send`.
unsafe impl<T: ?Sized + Send> Sync for Spin<T> {}

/// Releases the lock also when the closure panics.
struct Unlock<'a>(&'a AtomicBool);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        // Pairs with the acquiring exchange in `acquire`.
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Spin<T> {
    /// A lock around `value`, not held.
    #[cfg(not(fiber_model))]
    pub const fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// A lock around `value`, not held. (What a model is made of cannot be made in a constant.)
    #[cfg(fiber_model)]
    pub fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value itself; nobody else can hold the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T> Spin<T> {
    /// In a forked child: the lock as new, although a thread that the child does not have may have held it. The old value,
    /// which may be half changed, is not dropped.
    ///
    /// # Safety
    /// No other thread uses the lock, and nobody is in its critical section who goes on.
    #[allow(dead_code, reason = "used by the hooks only")]
    pub(crate) unsafe fn renew(&self, value: T) {
        // SAFETY: the caller's promise.
        unsafe { self.value.get().write(value) };
        self.locked.store(false, Ordering::Release);
    }
}

impl<T: ?Sized> Spin<T> {
    /// Runs `critical` with the value, alone.
    #[inline(always)]
    pub fn lock<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        let _unlock = self.acquire();
        // SAFETY: `acquire` returned, so this thread alone holds the lock until `_unlock` drops.
        critical(unsafe { &mut *self.value.get() })
    }

    /// The value itself, borrowed; the exclusive borrow shows that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether somebody is in its critical section.
    #[allow(dead_code, reason = "asked by the hooks only")]
    pub(crate) fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    #[inline]
    fn acquire(&self) -> Unlock<'_> {
        if self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.acquire_contended();
        }
        Unlock(&self.locked)
    }

    #[cold]
    fn acquire_contended(&self) {
        let mut spins = 0;
        loop {
            while self.locked.load(Ordering::Relaxed) {
                if spins < SPINS_BEFORE_YIELD {
                    spins += 1;
                    spin_loop();
                } else {
                    // The raw call: the hooked `sched_yield` would switch fibers.
                    crate::sys::sched_yield();
                }
            }
            if self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

impl<T: Default> Default for Spin<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for Spin<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spin").field("locked", &self.locked.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}
