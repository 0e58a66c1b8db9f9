//! Numbers for fibers.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Fiber numbers that a worker takes at a time.
const ID_BLOCK: u64 = 1024;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number for a fiber spawned by a thread that is no worker.
pub(crate) fn next_fiber_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Numbers for a worker to give its fibers: unique in the process, and without an atomic operation for each.
pub(super) struct IdBlock {
    next: Cell<u64>,
    end: Cell<u64>,
}

impl IdBlock {
    pub(super) const fn new() -> Self {
        IdBlock { next: Cell::new(0), end: Cell::new(0) }
    }

    #[inline]
    pub(super) fn take(&self) -> u64 {
        if self.next.get() == self.end.get() {
            let start = NEXT_ID.fetch_add(ID_BLOCK, Ordering::Relaxed);
            self.next.set(start);
            self.end.set(start + ID_BLOCK);
        }
        let id = self.next.get();
        self.next.set(id + 1);
        id
    }
}
