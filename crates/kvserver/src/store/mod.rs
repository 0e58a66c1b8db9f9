//! The state machine: a multi-version skip list that one writer changes and any number of fibers read.
//!
//! ```text
//! log entry ──► KvMachine::apply ──► Versions (key asc, revision desc) ◄── View::get / Pin::page ◄── reads
//!                    │                      ▲                                       │
//!                    └── garbage queue ─────┘ removes versions below the horizon ◄──┘ pins hold it back
//! ```
//!
//! The revision of a version is the index of the log entry that made it, so it is the same on every replica. Nothing
//! here reads a clock, draws a random number or iterates a hash map: equal logs give equal states, which
//! [`Summary::state_hash`] makes visible.

mod versions;

mod contents;

mod machine;

mod sessions;

mod snapshot;

#[cfg(test)]
mod tests;

pub use contents::{Pin, Store, Summary, View};
pub use machine::KvMachine;
pub use sessions::{MAX_SESSION_BYTES, MAX_SESSIONS};
pub use snapshot::{Frozen, SnapshotError};
