//! What only some fibers have: made on first use, so that it costs all others one null pointer.
//!
//! It belongs to the fiber's worker, as everything of a fiber that is not atomic; before the start, to whoever holds the
//! fiber. What a switch has to see of it is a bit of [`Attention`](super::cancel::Attention).

use std::cell::Cell;

use super::deadline::Limits;
use super::header::Header;
use super::keeper::Keepers;
use super::local::Locals;
use super::priority::Priority;
#[cfg(feature = "hook")]
use crate::hook::thread_locals::Private;
use crate::trace::Spans;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Extras {
    /// An I/O call has failed with `Cancelled`.
    pub(super) told_of_cancel: Cell<bool>,
    pub(super) limits: Limits,
    pub(super) locals: Locals,
    pub(crate) spans: Spans,
    pub(super) priority: Cell<Priority>,
    /// Its start has been put off once, for being of low priority.
    pub(super) deferred: Cell<bool>,
    #[cfg(feature = "hook")]
    pub(crate) thread_locals: Private,
    keepers: Cell<Keepers>,
}

impl Extras {
    /// The fiber is about to leave the processor. Runs on the fiber's stack; must not suspend or unwind.
    #[inline(always)]
    pub(super) fn leave(&self) {
        if self.spans.are_open() {
            self.spans.leave();
        }
        #[cfg(feature = "hook")]
        if self.thread_locals.are_in_use() {
            self.thread_locals.exchange();
        }
    }

    /// The fiber is back on the processor. As [`Extras::leave`].
    #[inline(always)]
    pub(super) fn enter(&self) {
        #[cfg(feature = "hook")]
        if self.thread_locals.are_in_use() {
            self.thread_locals.exchange();
        }
        if self.spans.are_open() {
            self.spans.enter();
        }
    }

    /// The fiber is being made: `keepers` will be told of its end.
    pub(super) fn set_keepers(&self, keepers: Keepers) {
        self.keepers.set(keepers);
    }

    /// The fiber's closure has returned, and nobody knows it yet. Runs on the fiber's stack.
    #[cold]
    pub(crate) fn finish(&self) {
        self.locals.close();
        self.spans.close();
        #[cfg(feature = "hook")]
        self.thread_locals.end();
    }

    /// The fiber is over, and its result has found its way. Runs on the fiber's stack, if it had one.
    #[cold]
    pub(crate) fn end(&self, id: u64) {
        // A result that nobody wanted may have used some again when it was dropped.
        #[cfg(feature = "hook")]
        self.thread_locals.end();
        self.keepers.take().leave(id);
    }

    /// When the fiber's waits end at the latest, in the worker's nanoseconds.
    pub(super) fn limit(&self) -> Option<u64> {
        self.limits.get()
    }
}

impl Header {
    /// The fiber's extras, made now if it had none.
    pub(crate) fn extras(&self) -> &Extras {
        self.extras.get_or_init(Box::default)
    }
}
