//! The loop that writes the log: gathers what is queued, makes it durable with one sync, reports, repeats.
//!
//! While one sync is in flight the next batch gathers by itself; there is no artificial delay. The loop runs on a
//! thread of its own, because a sync blocks whoever calls it, and as a fiber in a simulation.

use fiber_runtime::sync::channel::Receiver;

use crate::core::{EntryId, HardState, SnapshotMeta, Ticket};

use super::disk::Disk;
use super::error::WalError;
use super::log::{Wal, WalStats, Write};

/// Something for the log to do.
#[derive(Debug)]
pub enum WalJob {
    /// [`Effect::Persist`](crate::core::Effect::Persist).
    Persist {
        /// Reported when it is durable.
        ticket: Ticket,
        /// What to write.
        write: Write,
        /// Whether the ticket needs a sync; if not, the hard state waits for the next one.
        must_sync: bool,
    },
    /// A snapshot is durable: mark it and remove what it covers.
    Compact {
        /// The snapshot.
        meta: SnapshotMeta,
    },
}

/// What the log has to say.
#[derive(Debug)]
pub enum WalEvent {
    /// This ticket and all before it are durable.
    Persisted {
        /// The highest one.
        ticket: Ticket,
        /// Counters so far.
        stats: WalStats,
    },
    /// The log names this snapshot now; older ones are not needed any more.
    Compacted {
        /// Its last entry.
        named: EntryId,
        /// Counters so far.
        stats: WalStats,
    },
    /// Nothing more will be durable. Said once, and last.
    Failed(WalError),
}

/// Jobs taken from the queue at once.
const MAX_GATHERED_JOBS: usize = 1024;

/// A batch is closed when it has gathered this many bytes.
const MAX_GATHERED_BYTES: usize = 16 << 20;

/// Writes until the queue is closed and empty, or the log fails.
pub fn run<D: Disk>(mut wal: Wal<D>, jobs: &Receiver<WalJob>, mut report: impl FnMut(WalEvent)) {
    let mut gathered = Vec::new();
    let mut batch = Batch::default();
    while jobs.recv_many(&mut gathered, MAX_GATHERED_JOBS).is_ok() {
        for job in gathered.drain(..) {
            let result = match job {
                WalJob::Persist { ticket, write, must_sync } => {
                    batch.push(ticket, write, must_sync);
                    if batch.bytes < MAX_GATHERED_BYTES { Ok(()) } else { batch.write(&mut wal, &mut report) }
                }
                WalJob::Compact { meta } => {
                    batch.write(&mut wal, &mut report).and_then(|()| compact(&mut wal, &meta, &mut report))
                }
            };
            if let Err(error) = result {
                return report(WalEvent::Failed(error));
            }
        }
        if let Err(error) = batch.write(&mut wal, &mut report) {
            return report(WalEvent::Failed(error));
        }
    }
}

fn compact<D: Disk>(
    wal: &mut Wal<D>,
    meta: &SnapshotMeta,
    report: &mut impl FnMut(WalEvent),
) -> Result<(), WalError> {
    wal.compact(meta)?;
    let named = wal.snapshot().map_or_else(EntryId::default, |meta| meta.last);
    report(WalEvent::Compacted { named, stats: wal.stats() });
    Ok(())
}

/// Jobs that share a sync.
#[derive(Default)]
struct Batch {
    ticket: Option<Ticket>,
    writes: Vec<Write>,
    /// The newest hard state that need not be synced.
    deferred: Option<HardState>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, ticket: Ticket, write: Write, must_sync: bool) {
        self.ticket = Some(ticket);
        self.bytes += write.entries.iter().map(|entry| entry.data.len() + 32).sum::<usize>();
        let is_hard_state_only = write.entries.is_empty() && write.snapshot.is_none();
        if must_sync || !is_hard_state_only {
            self.writes.push(write);
        } else if let Some(hard_state) = write.hard_state {
            match self.writes.last_mut() {
                // It may ride along.
                Some(last) => last.hard_state = Some(hard_state),
                None => self.deferred = Some(hard_state),
            }
        }
    }

    fn write<D: Disk>(
        &mut self,
        wal: &mut Wal<D>,
        report: &mut impl FnMut(WalEvent),
    ) -> Result<(), WalError> {
        let Some(ticket) = self.ticket.take() else { return Ok(()) };
        if let Some(hard_state) = self.deferred.take() {
            wal.defer(hard_state);
        }
        if !self.writes.is_empty() {
            wal.append(&self.writes)?;
            self.writes.clear();
        }
        self.bytes = 0;
        report(WalEvent::Persisted { ticket, stats: wal.stats() });
        Ok(())
    }
}
