//! The write-ahead log: what a node must not forget (paper Figure 2, "persistent state"), in one stream of files.
//!
//! Term, vote, commit index, entries and snapshot marks go through the same stream in the order the core gave them, so
//! one write and one `fdatasync` make a whole gathered batch durable, whatever is in it.
//!
//! # Files
//!
//! ```text
//! DIR/wal/LOCK                   held while the log is open
//! DIR/wal/0000000000000001.wal   segments, by sequence number, 64 MiB each by default
//! DIR/wal/0000000000000002.wal
//! DIR/wal/0000000000000003.tmp   a segment in the making; removed at start
//! ```
//!
//! # Bytes of a segment (all numbers little-endian)
//!
//! ```text
//! block 0            segment header, 64 bytes, then zeros
//!    0  u64  magic "MOONWAL\0"            32  u64  segment sequence
//!    8  u32  version                      40  u64  index the log continues at
//!   12  u32  block size                   48  u64  sequence of the first batch
//!   16  u64  store id (salt)              56  u32  chain: CRC of the last batch of the segment before
//!   24  u64  node id                      60  u32  CRC32C of bytes 0..60
//!
//! block b            a batch: head, records, commit; then zeros up to the next block
//!    head   0  u32  magic                  8  u64  batch sequence     24  u32  zero
//!           4  u32  bytes of the batch    16  u32  chain (CRC of the batch before)
//!                                         20  u32  number of records  28  u32  CRC32C of bytes 0..28, salted
//!    record 0  u8   kind                   4  u32  payload length     16  u64  index
//!           1  u8   detail                 8  u64  term               24  payload, zeros up to 8 bytes
//!           2  u16  zero
//!    commit 0  u32  magic                  8  u64  term  } of the last entry of the log,
//!           4  u32  number of records     16  u64  index } once more
//!                                         24  u32  zero               28  u32  CRC32C of the whole batch, salted
//!
//! record kinds       1 entry         detail = kind of entry; term and index are its own
//!                    2 hard state    detail = 1 if a vote is recorded; term; index = commit index; payload = vote
//!                    3 snapshot      detail = 1 if the entries after it stay; term and index of its last entry;
//!                                    payload = voters
//! ```
//!
//! An entry whose index is not past the end cuts the log there first, so no truncation record is needed.
//!
//! # How damage is told from a torn write
//!
//! *Corrupt is not missing*: a node that takes a damaged entry for one it never had forgets a promise. So:
//!
//! 1. A batch is written only after the one before it is durable. At most the last one can be torn.
//! 2. A batch starts a block of its own: no later write touches a sector that holds durable bytes.
//! 3. The file is filled with zeros, and these are durable, before a batch is written over them. Segments are never
//!    recycled. A sector that was not written is therefore all zeros, and a file never ends inside a batch.
//! 4. Batch bytes are XORed with a key stream of store id, segment and offset, so that a sector that *was* written is
//!    not all zeros, whatever a client stored in it (and so that a batch copied to another place is not taken for one).
//!
//! A batch that does not verify is *torn* if one of its sectors is all zeros, nothing after it verifies, and it is in
//! the last segment: it is cut, nobody was promised anything. Everything else is *damage*: the log does not open, and
//! the error names file, offset, what was expected and what was found.
//! Recovery also rewrites and syncs the last batch: after a failed `fdatasync` the kernel may hold it in memory, marked
//! as written, while the disk does not have it.
//!
//! What is left out: repairing damage from peers while running (the node refuses to start instead), and a spare segment
//! kept back for votes on a full disk (a full disk stops the node with [`WalError::DiskFull`]).

mod disk;
mod error;
mod log;
mod record;
mod recovery;
mod segment;
mod terms;
mod writer;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskFile, RealDisk};
pub use error::WalError;
pub use log::{Wal, WalConfig, WalStats, Write};
pub(crate) use record::{entry_kind, entry_kind_byte};
pub use recovery::{Recovered, TornTail};
pub use writer::{WalEvent, WalJob, run};
