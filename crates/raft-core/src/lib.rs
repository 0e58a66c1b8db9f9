//! Raft: a pure core, a write-ahead log, and the fibers around them.
//!
//! - [`core`] is the protocol as a state machine: events in, effects out, no I/O.
//! - [`wal`] is the log on disk, [`snapshot`] the snapshots beside it; both on the [`wal::Disk`] trait.
//! - [`replica`] is a node: the fibers that drive the core, and the [`replica::StateMachine`] somebody plugs in.
//! - [`sim`] is what tests run these on.
#![forbid(unsafe_code)]

pub mod core;
pub mod replica;
pub mod sim;
pub mod snapshot;
pub mod wal;
