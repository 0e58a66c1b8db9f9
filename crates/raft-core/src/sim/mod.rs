//! A cluster in one process on virtual time.

pub mod invariants;
