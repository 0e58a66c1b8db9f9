//! `crate::waiter`: whoever waits is a thread of loom's. A wait may be made to end by deadline or by cancellation.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use loom::sync::Notify;

/// Somebody who waits: not a thread of loom's, because loom takes all that came before an `unpark` for seen at once, by a
/// thread that is not parked, too.
#[derive(Clone, Debug)]
pub(crate) struct Waiter(Arc<Notify>);

impl PartialEq for Waiter {
    fn eq(&self, other: &Waiter) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// As the shipped one.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    Signal,
    TimedOut,
    Cancelled,
}

impl Waiter {
    /// For a thread that has not begun.
    pub(super) fn new() -> Waiter {
        Waiter(Arc::new(Notify::new()))
    }

    /// The calling thread is the one that this was made for.
    pub(super) fn settle(self) {
        PARKER.with(|parker| *parker.borrow_mut() = self.0);
    }

    pub(crate) fn current() -> Waiter {
        PARKER.with(|parker| Waiter(Arc::clone(&parker.borrow())))
    }

    pub(crate) fn wake(&self) {
        self.0.notify();
    }
}

/// As shipped, but always by way of the handle: no thread of loom's runs two fibers.
#[derive(Debug)]
pub(crate) struct Sleeper(Waiter);

impl Sleeper {
    pub(crate) fn current() -> Sleeper {
        Sleeper(Waiter::current())
    }

    pub(crate) unsafe fn wake_or_handle(self) -> Option<Waiter> {
        Some(self.0)
    }
}

loom::thread_local! {
    /// Where the calling thread sleeps.
    static PARKER: RefCell<Arc<Notify>> = RefCell::new(Arc::new(Notify::new()));
    /// Whether the calling thread's waits end as those of a cancelled fiber.
    static CANCELLED: Cell<bool> = Cell::new(false);
}

/// The calling thread is a fiber that is cancelled while it waits.
pub(crate) fn cancel_current() {
    CANCELLED.with(|cancelled| cancelled.set(true));
}

/// Waits for a wake. One with a deadline ends at a moment of loom's choice; a cancelled fiber's likewise.
pub(crate) fn wait(_label: &'static str, deadline: Option<Instant>) -> Woken {
    if CANCELLED.with(Cell::get) {
        loom::thread::yield_now();
        return Woken::Cancelled;
    }
    if deadline.is_some() {
        loom::thread::yield_now();
        return Woken::TimedOut;
    }
    // It may return without a reason, as the shipped one.
    Waiter::current().0.wait();
    Woken::Signal
}

/// As [`wait`]: no model cancels what waits so.
pub(crate) fn wait_uncancelled(label: &'static str, deadline: Option<Instant>) -> Woken {
    wait(label, deadline)
}
