//! A state machine that is a hash of everything applied to it, and its queue of work.

use std::collections::VecDeque;

use raft_core::core::{Entry, EntryId, Index, SnapshotMeta};

/// What waits for the state machine.
pub(crate) enum Work {
    Apply(Vec<Entry>),
    Restore(Snapshot),
}

/// A snapshot: its position and the state there.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: u64,
}

/// The state after applying everything up to `last`.
pub(crate) struct Machine {
    pub(crate) last: EntryId,
    pub(crate) state: u64,
    pub(crate) queue: VecDeque<Work>,
    /// Index of the newest snapshot that was taken or restored.
    pub(crate) snapshot_index: Index,
}

impl Machine {
    pub(crate) fn new(snapshot: Option<&Snapshot>) -> Machine {
        Machine {
            last: snapshot.map_or(EntryId::default(), |snapshot| snapshot.meta.last),
            state: snapshot.map_or(0, |snapshot| snapshot.state),
            queue: VecDeque::new(),
            snapshot_index: snapshot.map_or(0, |snapshot| snapshot.meta.last.index),
        }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) {
        self.state = mix(mix(self.state, entry.id.term), fingerprint(entry));
        self.last = entry.id;
    }

    pub(crate) fn restore(&mut self, snapshot: &Snapshot) {
        self.last = snapshot.meta.last;
        self.state = snapshot.state;
        self.snapshot_index = self.last.index;
    }
}

/// A number that tells entries apart by kind and payload.
pub(crate) fn fingerprint(entry: &Entry) -> u64 {
    entry.data.iter().fold(entry.kind as u64 + 1, |hash, byte| mix(hash, u64::from(*byte)))
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}
