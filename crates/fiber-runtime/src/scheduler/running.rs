//! Which fiber a worker runs, for those who ask from outside when the worker does not answer.
//!
//! A worker that is stuck in a fiber cannot say which. It leaves a pointer to the fiber it resumed last, with plain
//! stores, and whoever asks must read the fiber's name without the fiber being freed meanwhile. That is a Dekker
//! handshake in which the worker, for whom this is the hot path, makes no fence: the asker makes it for both, with
//! `membarrier(2)`, which runs a full barrier on every thread of the process.
//!
//! ```text
//!   worker, before it gives up a fiber        asker
//!   ----------------------------------        -----
//!   fiber = null                              audit = true
//!   (compiler fence)                          membarrier: a fence here, and one there
//!   audit? wait until it is false             fiber is not null: the worker has not passed its first line, so its
//!   free the fiber                               second will see `audit`: read the name
//!                                             audit = false
//! ```
//! A fiber that was suspended since stays in the pointer; it is alive, for it could only end by being resumed.

use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, compiler_fence};

use crate::fiber::header::Header;
use crate::sys;

/// See the module's documentation.
pub(crate) struct Running {
    fiber: AtomicPtr<Header>,
    audit: AtomicBool,
}

impl Running {
    pub(super) const fn new() -> Self {
        Running { fiber: AtomicPtr::new(null_mut()), audit: AtomicBool::new(false) }
    }

    /// The worker resumes `fiber`.
    #[inline]
    pub(super) fn set(&self, fiber: NonNull<Header>) {
        // Relaxed, here and below: ordered by the asker's membarrier.
        self.fiber.store(fiber.as_ptr(), Ordering::Relaxed);
    }

    /// The worker is about to give up the fiber it resumed last.
    #[inline]
    pub(super) fn clear(&self) {
        self.fiber.store(null_mut(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        if self.audit.load(Ordering::Relaxed) {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        // Acquire pairs with the Release in `inspect`: the fiber is freed after it was read.
        while self.audit.load(Ordering::Acquire) {
            sys::sched_yield();
        }
    }

    /// Number and name of the fiber the worker runs. `None` when it runs nothing, or on a kernel without membarrier.
    pub(crate) fn identify(&self) -> Option<(u64, Option<String>)> {
        self.inspect(Header::identify)
    }

    /// Calls `look` on the fiber, of which it may read what is fixed and nothing else.
    fn inspect<R>(&self, look: impl FnOnce(&Header) -> R) -> Option<R> {
        if self.audit.swap(true, Ordering::SeqCst) {
            // Another thread asks.
            return None;
        }
        let seen = sys::membarrier().ok().and_then(|()| {
            let fiber = NonNull::new(self.fiber.load(Ordering::Relaxed))?;
            // SAFETY: see the picture: the worker does not give up its reference before `audit` is false, and `look`
            // reads fixed fields only.
            Some(look(unsafe { fiber.as_ref() }))
        });
        self.audit.store(false, Ordering::Release);
        seen
    }
}
