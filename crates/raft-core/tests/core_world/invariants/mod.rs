//! What must hold after every step: one property a file. Figure 3 of the paper first, then what follows from it, then
//! the promises of this implementation.

mod committed_is_durable;
mod election_safety;
mod leader_append_only;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod promises_are_durable;
mod reads_are_linearizable;
mod state_machine_safety;

use std::fmt;

pub(crate) use committed_is_durable::CommittedIsDurable;
pub(crate) use election_safety::ElectionSafety;
pub(crate) use leader_append_only::LeaderAppendOnly;
pub(crate) use leader_completeness::LeaderCompleteness;
pub(crate) use log_matching::LogMatching;
pub(crate) use monotonic::Monotonic;
pub(crate) use promises_are_durable::check_promise;
pub(crate) use reads_are_linearizable::Reads;
pub(crate) use state_machine_safety::StateMachineSafety;

/// A property that does not hold, and what was found.
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}", self.property, self.found)
    }
}

/// Holds, or says what was found.
pub(crate) type Verdict = Result<(), Violation>;

/// The violation of `property`, unless `holds`.
pub(crate) fn require(holds: bool, property: &'static str, found: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { property, found: found() }) }
}
