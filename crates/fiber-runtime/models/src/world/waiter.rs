//! `crate::waiter`: whoever waits is a thread of loom's. A wait may be made to end by deadline or by cancellation.

use std::cell::Cell;
use std::time::Instant;

use loom::thread::Thread;

/// Somebody who waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiter(Thread);

impl PartialEq for Waiter {
    fn eq(&self, other: &Waiter) -> bool {
        self.0.id() == other.0.id()
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
    pub(crate) fn current() -> Waiter {
        Waiter(loom::thread::current())
    }

    pub(crate) fn wake(&self) {
        self.0.unpark();
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
    /// Whether the calling thread's waits end as those of a cancelled fiber.
    static CANCELLED: Cell<bool> = Cell::new(false);
    /// How many of the calling thread's next waits end without a reason.
    static STRAY: Cell<u32> = Cell::new(0);
}

/// The calling thread's next wait ends at a moment of loom's choice, without a wake.
pub(crate) fn stray_wake() {
    STRAY.with(|stray| stray.set(1));
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
    if STRAY.with(|stray| stray.replace(0)) > 0 {
        // Not a `yield_now`: that would let the waker finish first, and loom counts what an unpark orders at once.
        return Woken::Signal;
    }
    loom::thread::park();
    Woken::Signal
}
