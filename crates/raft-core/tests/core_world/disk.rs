//! A disk that is slow, completes writes in order, and loses what was not yet durable when its node crashes.

use std::collections::VecDeque;

use raft_core::core::{Entry, EntryId, HardState, Index, Restored, Term, Ticket};

use super::machine::Snapshot;
use super::random::Random;

/// One `Effect::Persist`.
pub(crate) struct Write {
    pub(crate) ticket: Ticket,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) must_sync: bool,
}

/// What survives a crash, and what is on its way there.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// The newest snapshot, taken or received.
    pub(crate) snapshot: Option<Snapshot>,
    /// The entry before the first stored one.
    base: EntryId,
    entries: Vec<Entry>,
    queue: VecDeque<Write>,
    /// Writes that were reported without a sync; the next sync carries them.
    unsynced: Vec<Write>,
}

impl Disk {
    pub(crate) fn submit(&mut self, write: Write) {
        self.queue.push_back(write);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Completes the oldest write and gives its ticket.
    pub(crate) fn complete_one(&mut self) -> Option<Ticket> {
        let write = self.queue.pop_front()?;
        let ticket = write.ticket;
        if write.must_sync {
            for earlier in std::mem::take(&mut self.unsynced) {
                self.store(earlier, usize::MAX);
            }
            self.store(write, usize::MAX);
        } else {
            self.unsynced.push(write);
        }
        Some(ticket)
    }

    /// The node crashes: of the writes that were not reported, some reached the disk, the next one perhaps in part.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let mut pending = std::mem::take(&mut self.unsynced);
        pending.extend(self.queue.drain(..));
        let survivors = random.below(pending.len() + 1);
        for (position, write) in pending.into_iter().enumerate() {
            if position < survivors {
                self.store(write, usize::MAX);
            } else {
                if random.percent(30) {
                    let kept = random.below(write.entries.len() + 1);
                    self.store(write, kept);
                }
                return;
            }
        }
    }

    /// Stores a write, but only the first `limit` of its entries.
    fn store(&mut self, write: Write, limit: usize) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(snapshot) = write.snapshot {
            let last = snapshot.meta.last;
            let keep = self.holds(last);
            self.entries.retain(|entry| keep && entry.id.index > last.index);
            self.base = last;
            self.save_snapshot(snapshot);
        }
        for entry in write.entries.into_iter().take(limit) {
            assert!(entry.id.index <= self.last().index + 1, "write leaves a gap before {:?}", entry.id);
            assert!(entry.id.index > self.base.index, "write of {:?} is before {:?}", entry.id, self.base);
            self.entries.truncate((entry.id.index - self.base.index - 1) as usize);
            self.entries.push(entry);
        }
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// The durable term at `index`.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let position = index.checked_sub(self.base.index + 1)?;
        self.entries.get(position as usize).map(|entry| entry.id.term)
    }

    /// Whether the durable log contains `id`.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// Highest index that is covered by a durable snapshot.
    pub(crate) fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.last.index)
    }

    /// A snapshot of the own state machine is durable.
    pub(crate) fn save_snapshot(&mut self, snapshot: Snapshot) {
        if snapshot.meta.last.index > self.snapshot_index() {
            self.snapshot = Some(snapshot);
        }
    }

    /// What a restart finds: entries that do not connect to the snapshot are of no use.
    pub(crate) fn restored(&mut self) -> Restored {
        if let Some(snapshot) = &self.snapshot {
            let last = snapshot.meta.last;
            if last != self.base {
                let keep = self.holds(last);
                self.entries.retain(|entry| keep && entry.id.index > last.index);
                self.base = last;
            }
        }
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()),
            entries: self.entries.clone(),
            applied: self.snapshot_index(),
        }
    }
}
