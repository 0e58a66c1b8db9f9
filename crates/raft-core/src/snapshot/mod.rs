//! Snapshots on disk: one file each, written aside and renamed when whole, verified before use (paper §7).
//!
//! ```text
//! DIR/snapshots/INDEX-TERM.snap   a whole snapshot (numbers as 16 hex digits)
//! DIR/snapshots/INDEX-TERM.tmp    one that is being written; removed at start
//! DIR/snapshots/incoming.part     one that is being received; removed at start
//! ```
//!
//! # Bytes of a file (little-endian)
//!
//! ```text
//!  0  u64  magic "MOONSNAP"     16  u64  term  } of the last entry      32   u64 each  voters
//!  8  u32  version              24  u64  index } it includes            then u32 CRC32C of the header, u32 zero
//! 12  u32  number of voters
//! ...      the state, as the state machine wrote it
//! -24 u64  magic "SNAPEND\0"   -16  u64  bytes of the state
//!  -8 u32  zero                 -4  u32  CRC32C of everything before
//! ```
//!
//! Which snapshot counts is said by the log ([`crate::wal`]), which is told of a snapshot after its file is durable:
//! a file the log does not name was never needed.

mod error;
mod format;
mod spool;
mod store;

#[cfg(test)]
mod tests;

pub use error::SnapshotError;
pub use spool::{ChunkRefusal, SnapshotAck, SnapshotChunk, Spool};
pub use store::{SnapshotFile, SnapshotReader, SnapshotStore, SnapshotStoreConfig, SnapshotWriter};
