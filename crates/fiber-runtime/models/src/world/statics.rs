//! The lock of the statics in `scheduler/port.rs` and `stack/cache.rs`, which outlive an iteration and so cannot be made
//! of loom's types. The shipped lock has a model of its own.

use std::sync::Mutex;

use loom::sync::atomic::{AtomicUsize, Ordering};

loom::lazy_static! {
    /// One operation on this is where another thread may come in, and what orders two critical sections.
    static ref TURN: AtomicUsize = AtomicUsize::new(0);
}

/// A lock whose critical sections are indivisible.
pub(crate) struct StaticLock<T>(Mutex<T>);

impl<T> StaticLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        StaticLock(Mutex::new(value))
    }

    pub(crate) fn lock<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        TURN.fetch_add(1, Ordering::AcqRel);
        critical(&mut self.0.lock().unwrap())
    }
}
