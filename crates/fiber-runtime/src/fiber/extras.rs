//! What only some fibers have: made on first use, so that it costs all others one null pointer and one comparison a
//! switch.
//!
//! It belongs to the fiber's worker, as everything of a fiber that is not atomic; before the start, to whoever holds the
//! fiber.

use super::cancel::Cancelling;
use super::deadline::Limits;
use super::header::Header;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Extras {
    pub(super) cancelling: Cancelling,
    pub(super) limits: Limits,
}

impl Extras {
    /// The fiber is about to leave the processor. Runs on the fiber's stack; must not suspend or unwind.
    #[cold]
    pub(super) fn leave(&self) {}

    /// The fiber is back on the processor. As [`Extras::leave`].
    #[cold]
    pub(super) fn enter(&self) {}

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
