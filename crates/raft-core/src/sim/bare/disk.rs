//! Storage of one node as the core's contract sees it: writes under way, and what survives a crash.

use std::collections::VecDeque;

use crate::core::{Entry, HardState, Restored, SnapshotMeta, Ticket};

use super::super::rng::Rng;

/// One [`Effect::Persist`](crate::core::Effect::Persist).
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) ticket: Ticket,
    pub(super) hard_state: Option<HardState>,
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) entries: Vec<Entry>,
}

/// What a node has stored, and what it is storing.
///
/// # Invariants
/// - `pending` is in the order of the tickets; a crash keeps a prefix of it, because a log is written in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Storage {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    entries: Vec<Entry>,
    pending: VecDeque<Write>,
    /// A sync of everything up to this ticket is under way.
    syncing: Option<Ticket>,
}

impl Storage {
    pub(super) fn submit(&mut self, write: Write) {
        self.pending.push_back(write);
    }

    /// Up to which ticket a sync that begins now makes everything durable; `None` if one is under way or none is
    /// needed.
    pub(super) fn begin_sync(&mut self) -> Option<Ticket> {
        if self.syncing.is_some() {
            return None;
        }
        self.syncing = self.pending.back().map(|write| write.ticket);
        self.syncing
    }

    /// The sync up to `ticket` has ended.
    pub(super) fn sync(&mut self, ticket: Ticket) {
        self.syncing = None;
        while self.pending.front().is_some_and(|write| write.ticket <= ticket) {
            let write = self.pending.pop_front().expect("a front was just seen");
            self.store(write);
        }
    }

    /// A snapshot of the own state machine, written beside the log.
    pub(super) fn save_snapshot(&mut self, meta: SnapshotMeta) {
        if self.snapshot.as_ref().is_none_or(|old| old.last.index < meta.last.index) {
            self.entries.retain(|entry| entry.id.index > meta.last.index);
            self.snapshot = Some(meta);
        }
    }

    pub(super) fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// Of the writes under way, some of the first ones have reached the disk by luck.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let lucky = rng.below(self.pending.len() as u64 + 1);
        for _ in 0..lucky {
            let write = self.pending.pop_front().expect("fewer than there are");
            self.store(write);
        }
        self.pending.clear();
        self.syncing = None;
    }

    pub(super) fn restore(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            applied: self.snapshot.as_ref().map_or(0, |meta| meta.last.index),
            snapshot: self.snapshot.clone(),
            entries: self.entries.clone(),
        }
    }

    fn store(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(meta) = write.snapshot {
            if !self.entries.iter().any(|entry| entry.id == meta.last) {
                self.entries.clear();
            }
            self.save_snapshot(meta);
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
        }
        let base = self.snapshot.as_ref().map_or(0, |meta| meta.last.index);
        self.entries.extend(write.entries.into_iter().filter(|entry| entry.id.index > base));
    }
}
