//! Snapshots on the move: written and read for the state machine, streamed to a peer, received from a leader.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fiber_runtime::sync::Mutex;
use fiber_runtime::sync::channel::Sender;
use fiber_runtime::{offload, time};

use crate::core::{EntryId, NodeId, SnapshotMeta, Term};
use crate::snapshot::{ChunkRefusal, SnapshotAck, SnapshotChunk, SnapshotError, SnapshotStore, Spool};
use crate::wal::Disk;

use super::config::ReplicaConfig;
use super::error::ReplicaError;
use super::event::ReplicaEvent;
use super::shared::Shared;
use super::state_machine::{FrozenState, StateMachine};
use super::transport::Transport;

/// Chunks in a row that may bring a transfer no further before it is given up.
const MAX_STALLED_CHUNKS: u32 = 3;

/// Ticks to wait after a failed transfer before the core may ask for another.
const RETRY_TICKS: u32 = 20;

/// Writes a frozen state as the snapshot `meta`. Returns the size of its file. Blocks the thread.
pub(super) fn save<D: Disk>(
    store: &SnapshotStore<D>,
    meta: &SnapshotMeta,
    frozen: Box<dyn FrozenState>,
) -> io::Result<u64> {
    let mut writer = store.create(meta).map_err(io::Error::other)?;
    frozen.write_to(&mut writer)?;
    writer.finish().map_err(io::Error::other)
}

/// Verifies the snapshot of `id` and gives it to the state machine. Blocks the thread.
pub(super) fn restore<D: Disk, S: StateMachine>(
    store: &SnapshotStore<D>,
    id: EntryId,
    machine: &mut S,
) -> Result<(), ReplicaError> {
    let mut reader = store.reader(id)?;
    let meta = reader.meta().clone();
    let mut buffered = io::BufReader::with_capacity(1 << 16, &mut reader);
    machine.restore(&mut buffered).map_err(|source| ReplicaError::Restore { meta, source })
}

/// One transfer to one peer.
pub(super) struct Transfer<D: Disk> {
    pub(super) config: Arc<ReplicaConfig>,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<SnapshotStore<D>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) to: NodeId,
    pub(super) term: Term,
    /// The newest durable snapshot.
    pub(super) newest: Option<SnapshotMeta>,
}

impl<D: Disk> Transfer<D> {
    /// Streams the snapshot. Returns what arrived, if all of it did.
    pub(super) fn run(self) -> Option<SnapshotMeta> {
        match self.stream() {
            Ok(meta) => {
                tracing::info!(to = %self.to, index = meta.last.index, "sent a snapshot");
                self.shared.snapshots_sent.fetch_add(1, Ordering::Relaxed);
                Some(meta)
            }
            Err(reason) => {
                tracing::warn!(to = %self.to, reason, "gave up sending a snapshot");
                time::sleep(self.config.tick * RETRY_TICKS);
                None
            }
        }
    }

    fn stream(&self) -> Result<SnapshotMeta, String> {
        let newest = self.newest.as_ref().ok_or("there is none")?;
        let (store, id) = (self.store.clone(), newest.last);
        let file = offload(move || store.file(id)).map_err(|error| error.to_string())?;
        let file = Arc::new(file);
        let (mut offset, mut stalled) = (0, 0);
        loop {
            if self.shared.is_stopping() || self.shared.term() != self.term {
                return Err(format!("term {} is over", self.term));
            }
            let (source, length) = (file.clone(), self.config.chunk_bytes);
            let data = offload(move || source.chunk(offset, length)).map_err(|error| error.to_string())?;
            let chunk = SnapshotChunk {
                from: self.config.core.id,
                to: self.to,
                term: self.term,
                meta: file.meta().clone(),
                total: file.bytes(),
                offset,
                data,
            };
            let deadline = time::now() + self.config.chunk_timeout;
            let ack = self.transport.snapshot_chunk(chunk, deadline).map_err(|error| error.to_string())?;
            match ack {
                SnapshotAck::Complete(meta) if meta == *file.meta() => return Ok(meta),
                SnapshotAck::Complete(meta) => return Err(format!("the peer has another one: {meta:?}")),
                SnapshotAck::Wanted { offset: next } if next >= file.bytes() => {
                    return Err(format!("the peer wants byte {next} of {}", file.bytes()));
                }
                SnapshotAck::Wanted { offset: next } => {
                    stalled = if next > offset { 0 } else { stalled + 1 };
                    if stalled > MAX_STALLED_CHUNKS {
                        return Err(format!("the peer keeps asking for byte {next}"));
                    }
                    offset = next;
                }
                SnapshotAck::Refused(reason) => return Err(format!("the peer refused it: {reason:?}")),
            }
        }
    }
}

/// Takes chunks, without the type of the disk.
pub(super) trait ReceiveChunk: Send + Sync {
    /// Stores a chunk. Blocks the calling fiber only.
    fn receive(&self, chunk: SnapshotChunk) -> SnapshotAck;
}

/// The receiving side of transfers.
pub(super) struct Receiving<D: Disk, O> {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<SnapshotStore<D>>,
    pub(super) events: Sender<ReplicaEvent<O>>,
    pub(super) id: NodeId,
    pub(super) voters: Vec<NodeId>,
    /// None while a chunk is being written.
    pub(super) spool: Mutex<Option<Spool<D>>>,
}

impl<D: Disk, O: Send + 'static> ReceiveChunk for Receiving<D, O> {
    fn receive(&self, chunk: SnapshotChunk) -> SnapshotAck {
        if chunk.to != self.id || chunk.from == self.id || !self.voters.contains(&chunk.from) {
            return SnapshotAck::Refused(ChunkRefusal::Unavailable);
        }
        if chunk.term < self.shared.term() {
            return SnapshotAck::Refused(ChunkRefusal::Stale);
        }
        if self.shared.is_stopping() {
            return SnapshotAck::Refused(ChunkRefusal::Unavailable);
        }
        let (from, term) = (chunk.from, chunk.term);
        match self.store_chunk(chunk) {
            Ok(SnapshotAck::Complete(meta)) => {
                let event = ReplicaEvent::SnapshotReceived { from, term, meta: meta.clone() };
                match self.events.send(event) {
                    Ok(()) => SnapshotAck::Complete(meta),
                    Err(_) => SnapshotAck::Refused(ChunkRefusal::Unavailable),
                }
            }
            Ok(ack) => ack,
            Err(error) => {
                tracing::warn!(%error, %from, "cannot store a snapshot");
                SnapshotAck::Refused(ChunkRefusal::Unavailable)
            }
        }
    }
}

impl<D: Disk, O> Receiving<D, O> {
    fn store_chunk(&self, chunk: SnapshotChunk) -> Result<SnapshotAck, SnapshotError> {
        let mut guard = self.spool.lock();
        // It is gone if a fiber was cancelled in here: then the transfer starts over.
        let mut spool = guard.take().unwrap_or_else(|| Spool::new(self.store.clone()));
        let (spool, result) = offload(move || {
            let result = spool.receive(&chunk);
            (spool, result)
        });
        *guard = Some(spool);
        result
    }
}
