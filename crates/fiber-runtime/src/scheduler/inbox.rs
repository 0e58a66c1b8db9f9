//! The queue of fibers that other threads hand to a worker.
//!
//! A stack of headers linked through `Header::link`: pushing is one compare-and-swap, taking swaps the whole stack out
//! and turns it round. With take-all there is no ABA problem, and a fiber is in at most one inbox at most once (the
//! wake word sees to that), so one link in the header is enough and nothing is allocated.

use std::ptr::{NonNull, null_mut};

use crate::fiber::header::Header;
use crate::primitive::{AtomicPtr, Ordering};

/// See the module's documentation. Owns one reference to each fiber in it.
pub(crate) struct Inbox {
    head: AtomicPtr<Header>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox { head: AtomicPtr::new(null_mut()) }
    }

    /// Adds a fiber.
    ///
    /// # Safety
    /// The caller owns a reference to it and gives it to the inbox; the fiber is in no other inbox.
    pub(crate) unsafe fn push(&self, fiber: NonNull<Header>) {
        // SAFETY: the caller's reference.
        let link = unsafe { &fiber.as_ref().link };
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the exchange below.
            link.store(head, Ordering::Relaxed);
            // Release pairs with the Acquire in `take`: the link and all before it are visible to the worker.
            match self.head.compare_exchange_weak(head, fiber.as_ptr(), Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing waits. A snapshot.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Takes everything and calls `each` on it, oldest first, handing over the references.
    pub(crate) fn take(&self, mut each: impl FnMut(NonNull<Header>)) {
        if self.is_empty() {
            return;
        }
        // Acquire pairs with the Release in `push`.
        let mut newest = self.head.swap(null_mut(), Ordering::Acquire);
        let mut oldest: *mut Header = null_mut();
        while let Some(fiber) = NonNull::new(newest) {
            // SAFETY: the inbox owns a reference to everything that was in it, and the links are ours since the swap.
            let link = unsafe { &fiber.as_ref().link };
            newest = link.load(Ordering::Relaxed);
            link.store(oldest, Ordering::Relaxed);
            oldest = fiber.as_ptr();
        }
        while let Some(fiber) = NonNull::new(oldest) {
            // Read before `each`: it may put the fiber into an inbox again, or free it.
            // SAFETY: as above.
            oldest = unsafe { fiber.as_ref() }.link.load(Ordering::Relaxed);
            each(fiber);
        }
    }
}
