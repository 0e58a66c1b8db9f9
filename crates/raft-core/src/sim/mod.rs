//! A cluster in one process on virtual time.

pub mod faults;
pub mod invariants;
pub mod oracle;
pub mod rng;
