//! The ordinary life of a log: what goes in comes out again, segments come and go.

use super::*;
use crate::wal::{Disk, RealDisk};

#[test]
fn an_empty_directory_becomes_an_empty_log() {
    let disk = SimDisk::new(1);
    let (wal, recovered) = open(&disk).unwrap();
    assert!(Model::default().is(&recovered));
    assert_eq!(wal.last(), EntryId::default());
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert!(Model::default().is(&recovered));
}

#[test]
fn a_batch_costs_one_sync_however_much_it_gathers() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    let before = disk.syncs();
    wal.append(&[vote(1, 2, 0), entries(1, 1..=3, 10), entries(1, 4..=4, 10)]).unwrap();
    assert_eq!(disk.syncs() - before, 1);
    assert_eq!(wal.stats().entries, 4);
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.hard_state.voted_for, Some(NodeId(2)));
    assert_eq!(recovered.entries.len(), 4);
}

#[test]
fn a_deferred_commit_index_rides_with_the_next_batch() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 2, 0), entries(1, 1..=3, 10)]).unwrap();
    let before = disk.syncs();
    wal.defer(HardState { term: 1, voted_for: Some(NodeId(2)), commit_index: 3 });
    assert_eq!(disk.syncs(), before);
    wal.append(&[entries(1, 4..=4, 10)]).unwrap();
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.hard_state.commit_index, 3);
}

#[test]
fn an_entry_at_a_smaller_index_cuts_the_suffix() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 2, 0), entries(1, 1..=5, 10)]).unwrap();
    wal.append(&[vote(2, 1, 2), entries(2, 3..=3, 10)]).unwrap();
    drop(wal);
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries.iter().map(|entry| entry.id.term).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(wal.last(), EntryId { term: 2, index: 3 });
}

#[test]
fn segments_that_a_snapshot_covers_are_removed_and_the_rest_still_opens() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(7, 1, 0)]).unwrap();
    for index in 1..=60 {
        wal.append(&[entries(7, index..=index, 300)]).unwrap();
    }
    let many = segments(&disk).len();
    assert!(many > 4, "{many} segments");
    wal.compact(&meta(7, 50)).unwrap();
    let few = segments(&disk).len();
    assert!(few <= many / 2, "{few} of {many} segments are left");
    assert_eq!(wal.stats().segments, few as u64);
    drop(wal);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.hard_state, HardState { term: 7, voted_for: Some(NodeId(1)), commit_index: 0 });
    assert_eq!(recovered.snapshot, Some(meta(7, 50)));
    assert_eq!(recovered.entries.first().unwrap().id.index, 51);
    assert_eq!(recovered.last_index(), 60);
    wal.compact(&meta(7, 10)).unwrap();
    drop(wal);
    assert_eq!(open(&disk).unwrap().1.snapshot, Some(meta(7, 50)), "an older mark changes nothing");
}

#[test]
fn an_installed_snapshot_drops_a_log_that_does_not_hold_its_last_entry() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(3, 1, 0), entries(1, 1..=9, 10)]).unwrap();
    wal.append(&[Write { snapshot: Some(meta(3, 4)), ..Write::default() }]).unwrap();
    assert_eq!(wal.last(), EntryId { term: 3, index: 4 });
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert!(recovered.entries.is_empty());
    assert_eq!(recovered.last_index(), 4);
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 1, 0), entries(1, 1..=2, 100)]).unwrap();
    wal.append(&[entries(1, 3..=3, 50_000)]).unwrap();
    wal.append(&[entries(1, 4..=4, 100)]).unwrap();
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last_index(), 4);
    assert_eq!(recovered.entries[2].data.len(), 50_000);
}

#[test]
fn random_histories_come_out_as_they_went_in() {
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let mut random = Rng::new(seed, "history");
        let mut model = Model::default();
        let (mut wal, _) = open(&disk).unwrap();
        for _ in 0..random.below(80) {
            if random.chance(0.1) {
                drop(wal);
                let (reopened, recovered) = open(&disk).unwrap();
                assert!(model.is(&recovered), "seed {seed}: {model:?} became {recovered:?}");
                wal = reopened;
            }
            let held = model.entries.len() as u64;
            if held > 0 && random.chance(0.1) {
                let at = model.entries[random.below(held) as usize].id;
                let mark = Write { snapshot: Some(meta(at.term, at.index)), ..Write::default() };
                wal.compact(mark.snapshot.as_ref().unwrap()).unwrap();
                model.write(&mark);
                continue;
            }
            let mut batch = Vec::new();
            for _ in 0..=random.below(3) {
                let write = model.random_write(&mut random, 900);
                model.write(&write);
                batch.push(write);
            }
            wal.append(&batch).unwrap();
            assert_eq!(wal.last(), model.last(), "seed {seed}");
        }
        drop(wal);
        let (_, recovered) = open(&disk).unwrap();
        assert!(model.is(&recovered), "seed {seed}: {model:?} became {recovered:?}");
    }
}

#[test]
fn the_real_disk_keeps_a_log_and_refuses_a_second_owner() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data").join("wal");
    let real = WalConfig { segment_bytes: 1 << 20, fill_bytes: 1 << 18, ..WalConfig::new(NODE, 77) };
    let open = || Wal::open(Arc::new(RealDisk), &path, real.clone());
    let (mut wal, _) = open().unwrap();
    wal.append(&[vote(1, 2, 0)]).unwrap();
    for index in 1..=40 {
        wal.append(&[entries(1, index..=index, 60_000)]).unwrap();
    }
    wal.compact(&meta(1, 30)).unwrap();
    let second = open().map(drop).unwrap_err();
    assert!(matches!(second, WalError::Locked { .. }), "{second}");
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(wal);
    let (_, recovered) = open().unwrap();
    assert_eq!(recovered.entries.len(), 10);
    assert_eq!(recovered.entries[0].data, vec![31; 60_000]);
    let names = RealDisk.list(&path).unwrap();
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}
