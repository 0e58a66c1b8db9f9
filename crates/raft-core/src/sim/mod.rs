//! A cluster in one process on virtual time.

mod disk;
pub mod faults;
pub mod invariants;
pub mod oracle;
pub mod rng;

pub use disk::{CrashChoice, SimDisk, SimFile, SimLock};
