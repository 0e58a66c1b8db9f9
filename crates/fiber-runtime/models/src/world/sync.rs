//! The lock and the wait lists under everything in `sync`, as shipped.

#[path = "../../../src/sync/spin.rs"]
mod spin;
#[path = "../../../src/sync/wait.rs"]
pub(crate) mod wait;

pub(crate) use spin::Spin;

// Here, where it sees what the files show to their folder only.
#[path = "../models/locks.rs"]
mod models;
