//! The apply fiber: owns the state machine, applies what is committed, and wakes who waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fiber_runtime::sync::channel::{Receiver, Sender};
use fiber_runtime::{FiberBuilder, offload};

use crate::core::{ConfState, Entry, EntryId, EntryKind, Index, SnapshotMeta};
use crate::snapshot::SnapshotStore;
use crate::wal::Disk;

use super::config::ReplicaConfig;
use super::error::ReplicaError;
use super::event::{ReadReply, ReplicaEvent};
use super::pending::{Expectation, Waiting};
use super::shared::Shared;
use super::snapshots;
use super::state_machine::StateMachine;

/// Something for the apply fiber to do, in the order of the core's effects.
pub(super) enum ApplyJob<O> {
    /// Apply these.
    Entries(Vec<Entry>),
    /// These commands were appended by this node; their clients wait.
    Expect(Expectation<O>),
    /// These readers wait until `index` is applied.
    Read { index: Index, replies: Vec<ReadReply> },
    /// Replace the state by this snapshot.
    Restore(SnapshotMeta),
    /// Take a snapshot now.
    Snapshot,
}

/// Entries applied before other fibers of the worker get their turn.
const ENTRIES_PER_SLICE: usize = 32;

/// Jobs taken from the queue at once.
const MAX_GATHERED_JOBS: usize = 256;

pub(super) struct Apply<S: StateMachine, D: Disk> {
    pub(super) config: Arc<ReplicaConfig>,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<SnapshotStore<D>>,
    pub(super) events: Sender<ReplicaEvent<S::Output>>,
    pub(super) waiting: Waiting<S::Output>,
    /// Readers by the index they wait for.
    pub(super) readers: Vec<(Index, Vec<ReadReply>)>,
    /// The last applied entry and the membership there.
    pub(super) last: EntryId,
    pub(super) conf: ConfState,
    /// Since the last snapshot.
    pub(super) entries_since: u64,
    pub(super) bytes_since: u64,
    /// What [`Shared::wal_written`] was then.
    pub(super) wal_mark: u64,
    /// A snapshot is being written.
    pub(super) is_saving: Arc<AtomicBool>,
}

impl<S: StateMachine, D: Disk> Apply<S, D> {
    /// Works until the owner is gone.
    pub(super) fn run(mut self, mut machine: S, jobs: &Receiver<ApplyJob<S::Output>>) {
        let mut gathered = Vec::new();
        while jobs.recv_many(&mut gathered, MAX_GATHERED_JOBS).is_ok() {
            for job in gathered.drain(..) {
                if self.shared.is_stopping() {
                    // What is not applied now is applied after the next start.
                    return;
                }
                match job {
                    ApplyJob::Entries(entries) => {
                        self.apply(&mut machine, entries);
                        self.snapshot_if_due(&mut machine);
                    }
                    ApplyJob::Expect(expectation) => self.waiting.expect(expectation),
                    ApplyJob::Read { index, replies } => self.readers.push((index, replies)),
                    ApplyJob::Restore(meta) => match self.restore(machine, meta) {
                        Ok(restored) => machine = restored,
                        Err(error) => return self.shared.fail(error),
                    },
                    ApplyJob::Snapshot => self.snapshot(&mut machine),
                }
            }
            self.wake_readers();
            fiber_runtime::yield_now();
            if self.shared.apply_is_full.swap(false, Ordering::SeqCst) {
                self.shared.nudge();
            }
        }
    }

    fn apply(&mut self, machine: &mut S, entries: Vec<Entry>) {
        let leader = self.shared.leader();
        for (position, entry) in entries.into_iter().enumerate() {
            // The owner may live on this worker: thousands of entries in one go, as after a restart, would keep it from
            // its ticks and the cluster from a leader.
            if position % ENTRIES_PER_SLICE == ENTRIES_PER_SLICE - 1 {
                fiber_runtime::yield_now();
            }
            assert_eq!(entry.id.index, self.last.index + 1, "entries are applied in order");
            self.last = entry.id;
            self.entries_since += 1;
            self.bytes_since += entry.size() as u64;
            let output = match entry.kind {
                EntryKind::Command => Some(machine.apply(entry.id, entry.data)),
                EntryKind::Noop | EntryKind::ConfChange => None,
            };
            self.waiting.applied(entry.id, output, leader);
        }
        self.show(machine);
    }

    /// Readers see the new state first, then clients hear of it, then the core.
    fn show(&mut self, machine: &mut S) {
        machine.applied(self.last.index);
        self.shared.set_applied(self.last.index);
        self.waiting.answer();
    }

    fn wake_readers(&mut self) {
        let applied = self.last.index;
        self.readers.retain_mut(|(index, replies)| {
            if *index > applied {
                return true;
            }
            for reply in replies.drain(..) {
                let _ = reply.send(Ok(*index));
            }
            false
        });
    }

    fn restore(&mut self, mut machine: S, meta: SnapshotMeta) -> Result<S, ReplicaError> {
        if meta.last.index <= self.last.index {
            return Ok(machine);
        }
        let (store, id) = (self.store.clone(), meta.last);
        let (restored, result) = offload(move || {
            let result = snapshots::restore(&store, id, &mut machine);
            (machine, result)
        });
        machine = restored;
        result?;
        tracing::info!(index = meta.last.index, term = meta.last.term, "installed a snapshot");
        self.last = meta.last;
        self.conf = meta.conf;
        self.entries_since = 0;
        self.bytes_since = 0;
        self.wal_mark = self.shared.wal_written();
        self.waiting.restored(self.last.index);
        self.shared.snapshots_installed.fetch_add(1, Ordering::Relaxed);
        self.show(&mut machine);
        Ok(machine)
    }

    fn snapshot_if_due(&mut self, machine: &mut S) {
        if self.entries_since >= self.config.snapshot_entries
            || self.bytes_since >= self.config.snapshot_log_bytes
            || self.shared.wal_written() - self.wal_mark >= self.config.snapshot_wal_bytes
        {
            self.snapshot(machine);
        }
    }

    /// Freezes the state and has it written aside, one snapshot at a time.
    fn snapshot(&mut self, machine: &mut S) {
        if self.entries_since == 0 || self.is_saving.swap(true, Ordering::SeqCst) {
            return;
        }
        self.entries_since = 0;
        self.bytes_since = 0;
        self.wal_mark = self.shared.wal_written();
        let frozen = machine.freeze();
        let meta = SnapshotMeta { last: self.last, conf: self.conf.clone() };
        let (store, events, is_saving) = (self.store.clone(), self.events.clone(), self.is_saving.clone());
        drop(FiberBuilder::new().name("snapshot-save").spawn(move || {
            let written = {
                let meta = meta.clone();
                offload(move || snapshots::save(&store, &meta, frozen))
            };
            is_saving.store(false, Ordering::SeqCst);
            match written {
                Ok(bytes) => {
                    tracing::info!(index = meta.last.index, bytes, "saved a snapshot");
                    // The owner may be gone; then nobody needs to know.
                    let _ = events.send(ReplicaEvent::SnapshotSaved(meta));
                }
                // Not fatal: the log still has everything. The next one may work.
                Err(error) => tracing::warn!(%error, index = meta.last.index, "cannot save a snapshot"),
            }
        }));
    }
}
