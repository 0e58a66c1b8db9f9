//! Tests of the log: a model of what it must hold, and the disks it runs on.

mod crash;
mod damage;
mod errors;
mod life;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::core::{ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, SnapshotMeta, Term};
use crate::sim::SimDisk;
use crate::sim::rng::Rng;

use super::{Recovered, Wal, WalConfig, WalError, Write};

const NODE: NodeId = NodeId(3);

/// Small blocks and segments, so that a short history meets every case.
fn config() -> WalConfig {
    WalConfig {
        node: NODE,
        segment_bytes: 8192,
        fill_bytes: 4096,
        block_bytes: 512,
        new_store_id: 0x5eed_5eed,
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/node/wal")
}

fn open(disk: &SimDisk) -> Result<(Wal<SimDisk>, Recovered), WalError> {
    Wal::open(Arc::new(disk.clone()), dir(), config())
}

fn entry(term: Term, index: Index, data: impl Into<Vec<u8>>) -> Entry {
    Entry { id: EntryId { term, index }, kind: EntryKind::Command, data: Bytes::from(data.into()) }
}

fn entries(term: Term, indices: std::ops::RangeInclusive<Index>, bytes: usize) -> Write {
    Write {
        entries: indices.map(|index| entry(term, index, vec![index as u8; bytes])).collect(),
        ..Write::default()
    }
}

fn vote(term: Term, voted_for: u64, commit_index: Index) -> Write {
    let hard_state = HardState { term, voted_for: Some(NodeId(voted_for)), commit_index };
    Write { hard_state: Some(hard_state), ..Write::default() }
}

fn meta(term: Term, index: Index) -> SnapshotMeta {
    let conf = ConfState { voters: vec![NodeId(0), NodeId(3), NodeId(9)] };
    SnapshotMeta { last: EntryId { term, index }, conf }
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "wal")).collect()
}

fn first_segment() -> PathBuf {
    Path::new("/node/wal").join(format!("{:016x}.wal", 1))
}

/// What the log must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    /// Entries after the snapshot.
    entries: Vec<Entry>,
}

impl Model {
    fn base(&self) -> Index {
        self.snapshot.as_ref().map_or(0, |meta| meta.last.index)
    }

    fn last(&self) -> EntryId {
        let base = self.snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last);
        self.entries.last().map_or(base, |entry| entry.id)
    }

    fn write(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(meta) = &write.snapshot {
            let holds = self.entries.iter().any(|entry| entry.id == meta.last);
            self.entries.retain(|entry| holds && entry.id.index > meta.last.index);
            self.snapshot = Some(meta.clone());
        }
        for entry in &write.entries {
            self.entries.retain(|held| held.id.index < entry.id.index);
            self.entries.push(entry.clone());
        }
    }

    fn is(&self, recovered: &Recovered) -> bool {
        self.hard_state == recovered.hard_state
            && self.snapshot == recovered.snapshot
            && self.entries == recovered.entries
    }

    /// A write as a core could ask for.
    fn random_write(&self, random: &mut Rng, largest: u64) -> Write {
        let mut write = Write::default();
        let mut term = self.hard_state.term;
        let (base, last) = (self.base(), self.last());
        let mut commit = self.hard_state.commit_index;
        if random.chance(0.3) {
            term += random.below(3);
            commit += random.below(last.index - commit + 1);
            let voted_for = random.chance(0.7).then(|| NodeId(random.below(5)));
            write.hard_state = Some(HardState { term, voted_for, commit_index: commit });
        }
        if random.chance(0.1) {
            // Installed: past the end or somewhere in the log with another term.
            let index = commit.max(base) + 1 + random.below(4);
            write.snapshot = Some(meta(term, index));
            let mut after = self.clone();
            after.write(&write);
            commit = commit.max(index);
            write.hard_state = Some(HardState { term, voted_for: None, commit_index: commit });
            return write;
        }
        let floor = commit.max(base);
        let from = if random.chance(0.25) {
            floor + 1 + random.below(last.index - floor + 1)
        } else {
            last.index + 1
        };
        if term == 0 || term < last.term {
            return write;
        }
        for offset in 0..random.below(4) {
            let bytes = random.below(largest) as usize;
            // Half of the payloads are zeros, the worst case for telling written sectors from others.
            let data = if random.chance(0.5) {
                vec![0; bytes]
            } else {
                (0..bytes).map(|_| random.draw() as u8).collect()
            };
            write.entries.push(entry(term, from + offset, data));
        }
        write
    }
}
