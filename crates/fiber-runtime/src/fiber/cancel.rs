//! Ending a fiber from outside.
//!
//! Cancellation is a flag and a wake. The fiber notices at its next native suspension (or the one it is in), which
//! unwinds with a private payload, so that destructors run; the payload is caught at the fiber's entry and becomes
//! `JoinError::Cancelled`. Nothing unwinds through a hooked libc call: those end with `ECANCELED`. A fiber that is
//! already unwinding is left alone, and one that catches the payload and goes on meets it again at its next suspension.

use std::any::Any;
use std::panic::resume_unwind;

use super::join::JoinError;

/// The payload that unwinds a cancelled fiber.
struct Cancelled;

/// Unwinds the current fiber. `resume_unwind` does not call the panic hook: a cancellation is not a failure.
#[cold]
pub(crate) fn unwind() -> ! {
    resume_unwind(Box::new(Cancelled))
}

/// What an unwinding fiber's payload means.
pub(super) fn classify(payload: Box<dyn Any + Send>) -> JoinError {
    if payload.is::<Cancelled>() { JoinError::Cancelled } else { JoinError::Panicked(payload) }
}
