//! Tests of the snapshot store and the spool.

use std::io::{Read, Write};
use std::sync::Arc;

use super::*;
use crate::core::{ConfState, EntryId, NodeId, SnapshotMeta, Term};
use crate::sim::SimDisk;
use crate::sim::rng::Rng;
use crate::wal::{Disk, RealDisk};

const DIR: &str = "/node/snapshots";

fn store(disk: &SimDisk) -> Arc<SnapshotStore<SimDisk>> {
    let config = SnapshotStoreConfig { keep: 2, max_bytes: 1 << 20 };
    Arc::new(SnapshotStore::open(Arc::new(disk.clone()), DIR, config).unwrap())
}

fn meta(term: Term, index: u64) -> SnapshotMeta {
    SnapshotMeta { last: EntryId { term, index }, conf: ConfState { voters: vec![NodeId(0), NodeId(2)] } }
}

fn state(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Rng::new(seed, "state");
    (0..bytes).map(|_| random.draw() as u8).collect()
}

fn save<D: Disk>(store: &SnapshotStore<D>, meta: &SnapshotMeta, state: &[u8]) {
    let mut writer = store.create(meta).unwrap();
    writer.write_all(state).unwrap();
    writer.finish().unwrap();
}

fn load<D: Disk>(store: &SnapshotStore<D>, id: EntryId) -> Result<Vec<u8>, SnapshotError> {
    let mut reader = store.reader(id)?;
    let mut state = Vec::new();
    reader.read_to_end(&mut state).unwrap();
    assert_eq!(state.len() as u64, reader.state_bytes());
    Ok(state)
}

fn chunks(
    store: &SnapshotStore<SimDisk>,
    meta: &SnapshotMeta,
    term: Term,
    size: usize,
) -> Vec<SnapshotChunk> {
    let file = store.file(meta.last).unwrap();
    let total = file.bytes();
    let chunk = |offset| SnapshotChunk {
        from: NodeId(1),
        to: NodeId(2),
        term,
        meta: meta.clone(),
        total,
        offset,
        data: file.chunk(offset, size).unwrap(),
    };
    (0..total).step_by(size).map(chunk).collect()
}

#[test]
fn what_is_saved_is_loaded() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    for bytes in [0, 1, 1000, 300_000, 600_000] {
        let state = state(bytes, 1);
        let meta = meta(3, bytes as u64 + 1);
        save(&store, &meta, &state);
        assert_eq!(load(&store, meta.last).unwrap(), state);
    }
    assert_eq!(store.newest_valid().unwrap().unwrap().meta().last.index, 600_001);
}

#[test]
fn the_real_disk_keeps_snapshots() {
    let root = tempfile::tempdir().unwrap();
    let open =
        || SnapshotStore::open(Arc::new(RealDisk), root.path(), SnapshotStoreConfig::default()).unwrap();
    save(&open(), &meta(1, 5), b"state");
    assert_eq!(load(&open(), meta(1, 5).last).unwrap(), b"state");
}

#[test]
fn a_crash_while_saving_leaves_the_older_snapshot_or_the_newer() {
    let disk = SimDisk::new(1);
    let (old, new) = (state(3000, 1), state(3000, 2));
    save(&store(&disk), &meta(1, 5), &old);
    disk.record_history();
    save(&store(&disk), &meta(1, 9), &new);
    for point in disk.take_history() {
        for _ in 0..50 {
            let after = store(&point.crash());
            let newest = after.newest_valid().unwrap().unwrap().meta().last;
            let expected = if newest.index == 9 { &new } else { &old };
            assert_eq!(&load(&after, newest).unwrap(), expected);
            assert_eq!(load(&after, meta(1, 5).last).unwrap(), old);
        }
    }
    let finished = store(&disk.crash());
    assert_eq!(load(&finished, meta(1, 9).last).unwrap(), new, "a finished snapshot is durable");
}

#[test]
fn an_empty_file_is_no_snapshot() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    save(&store, &meta(1, 5), b"state");
    let path = store.path(meta(1, 9).last);
    disk.create(&path).unwrap();
    assert!(matches!(store.reader(meta(1, 9).last), Err(SnapshotError::Corrupt { .. })));
    assert_eq!(store.newest_valid().unwrap().unwrap().meta().last.index, 5);
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    let disk = SimDisk::new(1);
    let id = meta(1, 5).last;
    save(&store(&disk), &meta(1, 5), &state(150, 1));
    let path = store(&disk).path(id);
    let length = disk.content(&path).unwrap().len();
    for byte in 0..length {
        for bit in 0..8 {
            let damaged = disk.fork();
            damaged.flip_bit(&path, byte, bit);
            // The four zeros after the header's checksum are covered by the checksum of the file.
            assert!(load(&store(&damaged), id).is_err(), "bit {bit} of byte {byte}");
        }
        let damaged = disk.fork();
        damaged.damage(&path, |content| content.truncate(byte));
        assert!(load(&store(&damaged), id).is_err(), "cut at {byte}");
    }
}

#[test]
fn a_missing_snapshot_is_named() {
    let disk = SimDisk::new(1);
    let error = store(&disk).reader(meta(4, 7).last).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the snapshot of entry 7 (term 4) is missing in /node/snapshots");
}

#[test]
fn the_newest_are_kept_and_unfinished_ones_removed() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    for index in [5, 9, 14, 20] {
        save(&store, &meta(1, index), b"state");
    }
    drop(store.create(&meta(1, 30)).unwrap());
    store.prune(meta(1, 14).last, 4).unwrap();
    assert_eq!(store.list().unwrap().len(), 4, "nothing is applied yet");
    store.prune(meta(1, 14).last, 14).unwrap();
    let indices =
        |store: &SnapshotStore<SimDisk>| store.list().unwrap().iter().map(|id| id.index).collect::<Vec<_>>();
    assert_eq!(indices(&store), [20, 14, 9], "two up to the one the log names, and the newer one");
    let reopened = self::store(&disk);
    assert_eq!(disk.paths().len(), 3, "{:?}", disk.paths());
    reopened.remove_newer(Some(meta(1, 14).last)).unwrap();
    assert_eq!(indices(&reopened), [14, 9]);
}

#[test]
fn a_snapshot_over_the_limit_is_not_written() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    let mut writer = store.create(&meta(1, 5)).unwrap();
    let error = writer.write_all(&vec![1; 2 << 20]).unwrap_err();
    assert!(error.to_string().contains("larger than the limit"), "{error}");
}

#[test]
fn a_full_disk_while_saving_leaves_nothing_behind() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    save(&store, &meta(1, 5), b"state");
    disk.set_capacity(Some(1000));
    let mut writer = store.create(&meta(1, 9)).unwrap();
    writer.write_all(&[7; 5000]).unwrap();
    assert!(writer.finish().is_err());
    assert_eq!(disk.paths().len(), 1);
}

#[test]
fn chunks_in_order_make_a_snapshot() {
    let (sender, receiver) = (store(&SimDisk::new(1)), SimDisk::new(2));
    let state = state(5000, 3);
    save(&sender, &meta(2, 40), &state);
    let store = store(&receiver);
    let mut spool = Spool::new(store.clone());
    let chunks = chunks(&sender, &meta(2, 40), 7, 900);
    let (last, before) = chunks.split_last().unwrap();
    for chunk in before {
        let offset = chunk.offset + 900;
        assert_eq!(spool.receive(chunk).unwrap(), SnapshotAck::Wanted { offset });
    }
    assert_eq!(spool.progress().unwrap().1, last.offset);
    assert_eq!(spool.receive(last).unwrap(), SnapshotAck::Complete(meta(2, 40)));
    assert_eq!(spool.receive(last).unwrap(), SnapshotAck::Complete(meta(2, 40)), "its answer was lost");
    assert_eq!(load(&self::store(&receiver.crash_with(&mut |_| 0)), meta(2, 40).last).unwrap(), state);
}

#[test]
fn chunks_of_two_transfers_in_any_order_make_the_newer_snapshot() {
    let sender = store(&SimDisk::new(1));
    let (old, new) = (state(3000, 3), state(4000, 4));
    save(&sender, &meta(2, 40), &old);
    save(&sender, &meta(2, 60), &new);
    for seed in 0..200 {
        let mut random = Rng::new(seed, "order");
        let disk = SimDisk::new(seed);
        let store = store(&disk);
        let mut spool = Spool::new(store.clone());
        // Two senders go by the answers; what they send is doubled, delayed and lost.
        let transfers = [chunks(&sender, &meta(2, 40), 5, 512), chunks(&sender, &meta(2, 60), 6, 512)];
        let mut late: Vec<SnapshotChunk> = Vec::new();
        let mut next = [0, 0];
        let mut complete = false;
        for _ in 0..2000 {
            let which = random.below(2) as usize;
            let chunk = if !late.is_empty() && random.chance(0.3) {
                late.swap_remove(random.below(late.len() as u64) as usize)
            } else {
                transfers[which][next[which]].clone()
            };
            if random.chance(0.2) {
                late.push(chunk.clone());
            }
            if random.chance(0.2) {
                continue;
            }
            let which = usize::from(chunk.term == 6);
            match spool.receive(&chunk).unwrap() {
                SnapshotAck::Wanted { offset } => next[which] = offset as usize / 512,
                SnapshotAck::Complete(meta) => complete |= meta.last.index == 60,
                SnapshotAck::Refused(ChunkRefusal::Stale) => assert_eq!(which, 0, "seed {seed}"),
                SnapshotAck::Refused(reason) => panic!("seed {seed}: {reason:?}"),
            }
        }
        assert!(complete, "seed {seed}: the newer one never arrived");
        assert_eq!(load(&store, meta(2, 60).last).unwrap(), new, "seed {seed}");
    }
}

#[test]
fn a_damaged_transfer_is_refused_and_can_start_over() {
    let (sender, receiver) = (store(&SimDisk::new(1)), SimDisk::new(2));
    save(&sender, &meta(2, 40), &state(2000, 3));
    let store = store(&receiver);
    let mut spool = Spool::new(store.clone());
    let chunks = chunks(&sender, &meta(2, 40), 7, 600);
    let mut outcome = None;
    for (number, chunk) in chunks.iter().enumerate() {
        let mut chunk = chunk.clone();
        if number == 1 {
            let mut data = chunk.data.to_vec();
            data[17] ^= 4;
            chunk.data = data.into();
        }
        outcome = Some(spool.receive(&chunk).unwrap());
    }
    assert_eq!(outcome, Some(SnapshotAck::Refused(ChunkRefusal::Damaged)));
    assert!(store.list().unwrap().is_empty());
    let outcomes: Vec<_> = chunks.iter().map(|chunk| spool.receive(chunk).unwrap()).collect();
    assert_eq!(outcomes.last(), Some(&SnapshotAck::Complete(meta(2, 40))));
}

#[test]
fn impossible_chunks_are_refused_before_anything_is_stored() {
    let sender = store(&SimDisk::new(1));
    save(&sender, &meta(2, 40), &state(2000, 3));
    let good = chunks(&sender, &meta(2, 40), 7, 600).remove(0);
    let receiver = SimDisk::new(2);
    let mut spool = Spool::new(store(&receiver));
    let malformed = SnapshotAck::Refused(ChunkRefusal::Malformed);
    let cases = [
        (SnapshotChunk { data: bytes::Bytes::new(), ..good.clone() }, malformed.clone()),
        (SnapshotChunk { offset: u64::MAX, ..good.clone() }, malformed.clone()),
        (SnapshotChunk { offset: good.total - 1, ..good.clone() }, malformed),
        (SnapshotChunk { total: 2 << 20, ..good.clone() }, SnapshotAck::Refused(ChunkRefusal::TooLarge)),
        (SnapshotChunk { offset: 600, ..good }, SnapshotAck::Wanted { offset: 0 }),
    ];
    for (chunk, expected) in cases {
        assert_eq!(spool.receive(&chunk).unwrap(), expected);
    }
    assert!(receiver.paths().is_empty());
}
