//! The meeting point of a fiber's end and its one joiner.
//!
//! ```text
//!   fiber, at its end                         joiner (any thread)
//!   -----------------                         -------------------
//!   result -> block
//!   join |= COMPLETE (AcqRel)                 waiter -> block
//!      WAITER was set: take and wake it       join |= WAITER (AcqRel)
//!      GONE was set: drop the result             COMPLETE was set: take the waiter back, read the result
//!                                                else wait
//! ```
//! Whichever of the two comes second sees the other's bit, so the wake is not lost and the result has one owner.

use crate::primitive::{AtomicU8, Ordering, UnsafeCell};
use crate::waiter::Waiter;

const COMPLETE: u8 = 1;
const WAITER: u8 = 2;
const GONE: u8 = 4;

/// The meeting point of a fiber's end and its one joiner.
pub(crate) struct JoinWord {
    bits: AtomicU8,
    /// Written by the joiner before it sets `WAITER`; taken by the fiber that finds `WAITER`, or by the joiner after
    /// it has withdrawn the bit.
    waiter: UnsafeCell<Option<Waiter>>,
}

/// What the ending fiber found.
#[must_use]
pub(crate) enum Completed {
    /// Somebody waits: wake it.
    Wake(Waiter),
    /// The handle is there, or will come, to take the result.
    Kept,
    /// The handle is gone: the result is the fiber's to drop.
    Unwanted,
}

impl JoinWord {
    pub(crate) fn new() -> Self {
        JoinWord { bits: AtomicU8::new(0), waiter: UnsafeCell::new(None) }
    }

    /// Acquire pairs with the Release in `complete`: who sees true may read the result.
    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        self.bits.load(Ordering::Acquire) & COMPLETE != 0
    }

    /// The result is stored. Called once, by the fiber or by whoever ends it unstarted.
    #[inline]
    pub(crate) fn complete(&self) -> Completed {
        // Release publishes the result to `is_complete`, `enrol`, `withdraw` and `abandon`; Acquire pairs with the
        // Release in `enrol`, so the waiter is readable.
        let before = self.bits.fetch_or(COMPLETE, Ordering::AcqRel);
        if before & WAITER != 0 {
            // SAFETY: WAITER was set and COMPLETE was not: `withdraw` leaves the cell to us from now on.
            let waiter = unsafe { (*self.waiter.get()).take() };
            Completed::Wake(waiter.expect("WAITER is set after the waiter is stored"))
        } else if before & GONE != 0 {
            Completed::Unwanted
        } else {
            Completed::Kept
        }
    }

    /// Leaves a waiter to be woken. False: the fiber is complete already.
    pub(crate) fn enrol(&self, waiter: Waiter) -> bool {
        // SAFETY: WAITER is not set (one joiner, which withdraws before it enrols again), so the fiber stays away.
        unsafe { *self.waiter.get() = Some(waiter) };
        // Release pairs with the Acquire in `complete`; Acquire with its Release.
        let before = self.bits.fetch_or(WAITER, Ordering::AcqRel);
        if before & COMPLETE != 0 {
            // SAFETY: the fiber completed before WAITER was set, so it did not and will not look at the cell.
            unsafe { *self.waiter.get() = None };
            return false;
        }
        true
    }

    /// Takes the waiter back, unless the fiber has it already.
    pub(crate) fn withdraw(&self) {
        let before = self.bits.fetch_and(!WAITER, Ordering::AcqRel);
        if before & COMPLETE == 0 {
            // SAFETY: WAITER is clear and the fiber was not complete: it will find no WAITER and stay away.
            unsafe { *self.waiter.get() = None };
        }
    }

    /// The handle goes away. True: the fiber is complete and the result is the handle's to drop.
    #[inline]
    pub(crate) fn abandon(&self) -> bool {
        self.bits.fetch_or(GONE, Ordering::AcqRel) & COMPLETE != 0
    }
}
