//! Receiving a snapshot: chunks into a file, in order, verified as a whole before anybody is told.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::{EntryId, NodeId, SnapshotMeta, Term};
use crate::wal::{Disk, DiskFile};

use super::error::SnapshotError;
use super::store::{SnapshotFile, SnapshotStore};

/// A piece of a snapshot file on its way (paper Figure 13). Replaces the paper's InstallSnapshot message: the file,
/// header and checksum included, is what travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The leader that sends it.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The leader's term.
    pub term: Term,
    /// What the snapshot stands for.
    pub meta: SnapshotMeta,
    /// Size of the whole file.
    pub total: u64,
    /// Where `data` belongs.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
}

/// What became of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotAck {
    /// More is needed, from this offset on. For a doubled or skipped chunk this says where to go on.
    Wanted {
        /// Offset of the next byte.
        offset: u64,
    },
    /// The snapshot is whole, verified and durable.
    Complete(SnapshotMeta),
    /// It is not wanted.
    Refused(ChunkRefusal),
}

/// Why a chunk is not wanted. The sender should give up this transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkRefusal {
    /// It belongs to an older term or an older snapshot than the one that is being received.
    Stale,
    /// The file is larger than the receiver allows.
    TooLarge,
    /// The chunk lies outside of its file, or is empty.
    Malformed,
    /// The file arrived, but its checksum or its metadata is wrong: start over.
    Damaged,
    /// The receiver cannot store it, or is not the one it is meant for.
    Unavailable,
}

/// Which transfer a chunk belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Transfer {
    from: NodeId,
    term: Term,
    meta: SnapshotMeta,
    total: u64,
}

impl Transfer {
    fn of(chunk: &SnapshotChunk) -> Transfer {
        Transfer { from: chunk.from, term: chunk.term, meta: chunk.meta.clone(), total: chunk.total }
    }

    fn rank(&self) -> (Term, u64) {
        (self.term, self.meta.last.index)
    }
}

struct Active<F> {
    transfer: Transfer,
    file: F,
    offset: u64,
}

/// Where a snapshot is being received. One at a time: a newer transfer replaces an older one.
pub struct Spool<D: Disk> {
    store: Arc<SnapshotStore<D>>,
    path: PathBuf,
    active: Option<Active<D::File>>,
    completed: Option<Transfer>,
}

impl<D: Disk> Spool<D> {
    /// An empty spool in the directory of `store`.
    pub fn new(store: Arc<SnapshotStore<D>>) -> Spool<D> {
        let path = store.dir.join("incoming.part");
        Spool { store, path, active: None, completed: None }
    }

    /// Takes a chunk. Chunks may be lost, doubled, reordered, and of several transfers.
    ///
    /// # Errors
    /// Whatever the file system says; the transfer starts over then.
    pub fn receive(&mut self, chunk: &SnapshotChunk) -> Result<SnapshotAck, SnapshotError> {
        let result = self.take(chunk);
        if result.is_err() {
            self.active = None;
        }
        result
    }

    fn take(&mut self, chunk: &SnapshotChunk) -> Result<SnapshotAck, SnapshotError> {
        let end = chunk.offset.checked_add(chunk.data.len() as u64);
        if chunk.data.is_empty() || end.is_none_or(|end| end > chunk.total) {
            return Ok(SnapshotAck::Refused(ChunkRefusal::Malformed));
        }
        if chunk.total > self.store.config.max_bytes {
            return Ok(SnapshotAck::Refused(ChunkRefusal::TooLarge));
        }
        let transfer = Transfer::of(chunk);
        if self.completed.as_ref() == Some(&transfer) {
            return Ok(SnapshotAck::Complete(transfer.meta));
        }
        if self.active.as_ref().is_none_or(|active| active.transfer != transfer) {
            let known = self.active.as_ref().map(|active| &active.transfer).or(self.completed.as_ref());
            if known.is_some_and(|known| transfer.rank() < known.rank()) {
                return Ok(SnapshotAck::Refused(ChunkRefusal::Stale));
            }
            if chunk.offset != 0 {
                return Ok(SnapshotAck::Wanted { offset: 0 });
            }
            self.begin(transfer)?;
        }
        let active = self.active.as_mut().expect("begun just now, or before");
        if chunk.offset != active.offset {
            return Ok(SnapshotAck::Wanted { offset: active.offset });
        }
        active.file.write_at(&chunk.data, chunk.offset).map_err(SnapshotError::io("write", &self.path))?;
        active.offset += chunk.data.len() as u64;
        if active.offset < active.transfer.total {
            return Ok(SnapshotAck::Wanted { offset: active.offset });
        }
        self.complete()
    }

    fn begin(&mut self, transfer: Transfer) -> Result<(), SnapshotError> {
        self.active = None;
        match self.store.disk.remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SnapshotError::io("remove", &self.path)(error));
            }
            _ => {}
        }
        let file = self.store.disk.create(&self.path).map_err(SnapshotError::io("create", &self.path))?;
        self.active = Some(Active { transfer, file, offset: 0 });
        Ok(())
    }

    fn complete(&mut self) -> Result<SnapshotAck, SnapshotError> {
        let Active { transfer, file, .. } = self.active.take().expect("the caller wrote to it");
        file.sync_data().map_err(SnapshotError::io("sync", &self.path))?;
        let verified = SnapshotFile::<D>::new(file, self.path.clone(), self.store.config.max_bytes)
            .and_then(|file| file.verify().map(|_| file));
        match verified {
            Ok(file) if *file.meta() == transfer.meta => {
                let name = self.store.path(transfer.meta.last);
                self.store
                    .disk
                    .rename(file.path(), &name)
                    .map_err(SnapshotError::io("rename", &self.path))?;
                let dir = &self.store.dir;
                self.store.disk.sync_dir(dir).map_err(SnapshotError::io("sync", dir))?;
                self.completed = Some(transfer.clone());
                Ok(SnapshotAck::Complete(transfer.meta))
            }
            Ok(file) => {
                tracing::warn!(found = ?file.meta(), expected = ?transfer.meta, "received another snapshot");
                Ok(SnapshotAck::Refused(ChunkRefusal::Damaged))
            }
            Err(error @ SnapshotError::Io { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(%error, from = %transfer.from, "received a damaged snapshot");
                Ok(SnapshotAck::Refused(ChunkRefusal::Damaged))
            }
        }
    }

    /// The snapshot that is being received and how far it is, for status pages.
    pub fn progress(&self) -> Option<(EntryId, u64, u64)> {
        let active = self.active.as_ref()?;
        Some((active.transfer.meta.last, active.offset, active.transfer.total))
    }
}
