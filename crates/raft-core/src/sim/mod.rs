//! A cluster in one process on virtual time.

pub mod bare;
mod disk;
pub mod faults;
pub mod invariants;
pub mod links;
pub mod oracle;
pub mod rng;
pub mod seeds;

pub use disk::{CrashChoice, SimDisk, SimFile, SimLock};
