//! The log in memory: every entry after the last compaction, and how far each stage of a write has come.
//!
//! ```text
//!            base         applied  applying  commit                 last
//!              │             │        │        │                      │
//!   (dropped)  ▼             ▼        ▼        ▼                      ▼
//!   ── ─ ─ ─ ─ ┼─────────────┼────────┼────────┼──────────────────────┤
//!              │                              ▲               ▲
//!          snapshot or                     persisted        issued
//!          trailing cut                    (durable)   (given to storage)
//! ```
//!
//! The upper row is the state machine's way through the log, the lower row is storage's. An entry that a majority
//! stored is committed even if this node's disk is slow (thesis §10.2.1), so `commit` may be past `persisted`; the
//! state machine gets only what is both. Conflicts are looked for here (paper §5.3), too.
//!
//! Left out: reading cold entries back from disk (the whole log after `base` is in memory; snapshots bound it), and
//! applying entries that are committed but not yet durable here, which would save a slow leader some latency and let
//! snapshots run ahead of the log.

use std::collections::VecDeque;

use super::types::{Entry, EntryId, Index, Term};

/// An entry and the bytes of the log up to its end, which makes the size of any range a subtraction.
#[derive(Debug)]
struct Slot {
    entry: Entry,
    end: u64,
}

/// See the module's documentation.
///
/// # Invariants
/// - Entries are contiguous, the first one follows `base`, and their terms never decrease.
/// - `applied <= applying <= commit <= last` and `base <= applying`.
/// - `persisted <= issued <= last` and `base <= issued`.
/// - `applying <= persisted`, except right after a snapshot was received.
/// - Entries up to `commit` are never cut off or replaced.
#[derive(Debug)]
pub(super) struct Log {
    base: EntryId,
    base_end: u64,
    slots: VecDeque<Slot>,
    commit: Index,
    applying: Index,
    applied: Index,
    persisted: Index,
    issued: Index,
}

impl Log {
    /// A log whose entries, the first one right after `base`, are all durable.
    pub(super) fn new(base: EntryId, entries: Vec<Entry>, commit: Index, applied: Index) -> Log {
        let mut log = Log {
            base,
            base_end: 0,
            slots: VecDeque::with_capacity(entries.len()),
            commit,
            applying: applied,
            applied,
            persisted: base.index,
            issued: base.index,
        };
        for entry in entries {
            log.push(entry);
        }
        log.issued = log.last().index;
        log.persisted = log.issued;
        assert!(
            base.index <= applied && applied <= commit && commit <= log.issued,
            "restored log is out of order: base {}, applied {applied}, commit {commit}, last {}",
            base.index,
            log.issued
        );
        log
    }

    /// The entry before the first one in memory.
    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry.
    pub(super) fn last(&self) -> EntryId {
        self.slots.back().map_or(self.base, |slot| slot.entry.id)
    }

    /// Highest committed index.
    pub(super) fn commit(&self) -> Index {
        self.commit
    }

    /// Highest index given to the state machine.
    pub(super) fn applying(&self) -> Index {
        self.applying
    }

    /// Highest index the state machine has applied.
    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// Highest index up to which this log is durable.
    pub(super) fn persisted(&self) -> Index {
        self.persisted
    }

    /// Highest index given to storage.
    pub(super) fn issued(&self) -> Index {
        self.issued
    }

    /// The term of the entry at `index`, if that is `base` or in memory.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let position = index.checked_sub(self.base.index + 1)?;
        self.slots.get(usize::try_from(position).ok()?).map(|slot| slot.entry.id.term)
    }

    /// Whether the log holds exactly this entry.
    pub(super) fn contains(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// Whether a log that ends at `other` is at least as up to date as this one (paper §5.4.1): the later last term
    /// wins, then the longer log.
    pub(super) fn is_up_to_date(&self, other: EntryId) -> bool {
        let last = self.last();
        (other.term, other.index) >= (last.term, last.index)
    }

    /// The last entry at or below `index` whose term is at most `term`, if that is `base` or in memory. Both sides
    /// of a conflict use it to skip the entries that cannot match (paper §5.3, end).
    pub(super) fn last_at_most(&self, index: Index, term: Term) -> Option<EntryId> {
        if index < self.base.index || self.base.term > term {
            return None;
        }
        let within = usize::try_from(index - self.base.index).unwrap_or(usize::MAX).min(self.slots.len());
        let older = self.slots.partition_point(|slot| slot.entry.id.term <= term);
        match within.min(older) {
            0 => Some(self.base),
            count => Some(self.slots[count - 1].entry.id),
        }
    }

    /// Bytes of the entries in `(after, up_to]` that are in memory.
    pub(super) fn bytes_between(&self, after: Index, up_to: Index) -> u64 {
        self.end_of(up_to).saturating_sub(self.end_of(after))
    }

    fn end_of(&self, index: Index) -> u64 {
        match index.checked_sub(self.base.index + 1) {
            None => self.base_end,
            Some(position) => {
                let position = usize::try_from(position).unwrap_or(usize::MAX);
                self.slots.get(position).or(self.slots.back()).map_or(self.base_end, |slot| slot.end)
            }
        }
    }

    /// Entries from `first` up to `last`, as many as fit into `max_bytes`, but at least one if there is one.
    pub(super) fn slice(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        assert!(first > self.base.index, "entry {first} is compacted up to {}", self.base.index);
        let last = last.min(self.last().index);
        if first > last {
            return Vec::new();
        }
        let start = (first - self.base.index - 1) as usize;
        let stop = (last - self.base.index) as usize;
        let limit = self.end_of(first - 1).saturating_add(max_bytes as u64);
        let fitting = self.slots.partition_point(|slot| slot.end <= limit);
        let stop = fitting.clamp(start + 1, stop);
        self.slots.range(start..stop).map(|slot| slot.entry.clone()).collect()
    }

    /// Appends one entry.
    pub(super) fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert!(
            entry.id.index == last.index + 1 && entry.id.term >= last.term,
            "entry {:?} does not follow {last:?}",
            entry.id
        );
        let end = self.end_of(last.index) + entry.size() as u64;
        self.slots.push_back(Slot { entry, end });
    }

    /// Cuts off everything from `from` on. Also takes back what storage was given or has made durable of it: the
    /// next write replaces it.
    pub(super) fn truncate(&mut self, from: Index) {
        assert!(
            from > self.commit,
            "entry {from} is to be cut off, but {} is committed (base {})",
            self.commit,
            self.base.index
        );
        self.slots.truncate((from - self.base.index - 1) as usize);
        self.issued = self.issued.min(from - 1);
        self.persisted = self.persisted.min(from - 1);
    }

    /// Moves the commit index forward; it never goes back. Returns whether it moved.
    pub(super) fn commit_to(&mut self, index: Index) -> bool {
        let index = index.min(self.last().index);
        let moves = index > self.commit;
        if moves {
            self.commit = index;
        }
        moves
    }

    /// Notes that everything in memory was given to storage. Returns the entries that were not yet.
    pub(super) fn issue(&mut self) -> Vec<Entry> {
        let entries = self.slice(self.issued + 1, Index::MAX, usize::MAX);
        self.issued = self.last().index;
        entries
    }

    /// Notes that this log is durable up to `index`.
    pub(super) fn persisted_to(&mut self, index: Index) {
        assert!(index <= self.issued, "durable up to {index}, but only {} was issued", self.issued);
        self.persisted = self.persisted.max(index);
    }

    /// Highest index the state machine may have: committed, and durable on this node as well, so that no snapshot is
    /// ever ahead of the log it belongs to.
    pub(super) fn applicable(&self) -> Index {
        self.commit.min(self.persisted)
    }

    /// The next entries for the state machine, as many as fit into `max_bytes`, but at least one if there is one.
    /// They count as handed out.
    pub(super) fn hand_out(&mut self, max_bytes: usize) -> Vec<Entry> {
        let entries = self.slice(self.applying + 1, self.applicable(), max_bytes);
        self.applying += entries.len() as Index;
        entries
    }

    /// Notes that the state machine has applied everything up to `index`.
    pub(super) fn applied_to(&mut self, index: Index) {
        assert!(index <= self.applying, "applied up to {index}, but only {} was handed out", self.applying);
        self.applied = self.applied.max(index);
    }

    /// Drops entries before a snapshot at `snapshot`, but keeps up to `trailing_entries` of them, and no more than
    /// `trailing_bytes`; nothing is dropped that is not yet durable and applied.
    pub(super) fn compact(&mut self, snapshot: Index, trailing_entries: u64, trailing_bytes: usize) {
        let by_count = snapshot.saturating_sub(trailing_entries);
        let start = self.end_of(snapshot).saturating_sub(trailing_bytes as u64);
        let outside = self.slots.partition_point(|slot| slot.end <= start) as u64;
        let by_bytes = self.base.index + outside;
        let target = by_count.max(by_bytes).min(snapshot).min(self.applied).min(self.persisted);
        if target > self.base.index {
            self.drop_to(target);
        }
    }

    /// Replaces everything up to `last` by a snapshot. Entries after it stay if the log holds `last` itself.
    /// Returns up to which index what storage holds is still part of this log.
    pub(super) fn restore(&mut self, last: EntryId) -> Index {
        assert!(last.index > self.commit, "snapshot at {last:?} is not past commit {}", self.commit);
        let valid = if self.contains(last) {
            self.drop_to(last.index);
            Index::MAX
        } else {
            self.slots.clear();
            self.base = last;
            self.base_end = 0;
            self.issued = last.index;
            self.persisted = self.persisted.min(self.commit);
            self.commit
        };
        self.issued = self.issued.max(last.index);
        self.commit = last.index;
        self.applying = last.index;
        valid
    }

    fn drop_to(&mut self, index: Index) {
        let count = (index - self.base.index) as usize;
        let slot = &self.slots[count - 1];
        (self.base, self.base_end) = (slot.entry.id, slot.end);
        self.slots.drain(..count);
    }
}
