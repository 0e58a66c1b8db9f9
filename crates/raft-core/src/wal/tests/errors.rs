//! Disks that fail, directories of somebody else, and callers that are wrong.

use super::*;
use crate::wal::RealDisk;

#[test]
fn after_a_failed_sync_nothing_is_promised_any_more() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 2, 0), entries(1, 1..=1, 10)]).unwrap();
    disk.fail_sync_after(0);
    let error = wal.append(&[entries(1, 2..=2, 10)]).unwrap_err();
    assert!(matches!(error, WalError::Io { action: "sync", .. }), "{error}");
    let error = wal.append(&[entries(1, 3..=3, 10)]).unwrap_err();
    assert!(matches!(error, WalError::Failed), "{error}");
    drop(wal);
    // The kernel takes the pages for written and shows them to the next process. Opening must write them again, or a
    // power cut takes back what the new process builds upon.
    let (_, recovered) = open(&disk).unwrap();
    let after = disk.crash_with(&mut |_| 0);
    let (_, again) = open(&after).unwrap();
    assert_eq!(recovered.entries, again.entries);
}

#[test]
fn a_failed_write_is_final_and_its_remains_are_cut() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 2, 0), entries(1, 1..=1, 10)]).unwrap();
    disk.fail_write_after(0);
    wal.append(&[entries(1, 2..=2, 3000)]).unwrap_err();
    assert!(matches!(wal.append(&[]), Err(WalError::Failed)));
    drop(wal);
    assert_eq!(open(&disk).unwrap().1.last_index(), 1);
}

#[test]
fn a_full_disk_is_named_as_such() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(20_000));
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 2, 0)]).unwrap();
    let mut durable = 0;
    let error = loop {
        match wal.append(&[entries(1, durable + 1..=durable + 1, 700)]) {
            Ok(()) => durable += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last_index(), durable);
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let disk = SimDisk::new(1);
    let first = open(&disk).unwrap();
    assert!(matches!(open(&disk).map(drop), Err(WalError::Locked { .. })));
    drop(first);
    open(&disk).unwrap();
}

#[test]
fn the_log_of_another_node_is_refused() {
    let disk = SimDisk::new(1);
    drop(open(&disk).unwrap());
    let other = WalConfig { node: NodeId(4), ..config() };
    let error = Wal::open(Arc::new(disk), dir(), other).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "/node/wal/0000000000000001.wal is the log of node 3, not of node 4");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let disk = SimDisk::new(1);
    drop(open(&disk).unwrap());
    disk.damage(&first_segment(), |content| content[8] = 2);
    let error = open(&disk).map(drop).unwrap_err();
    assert!(matches!(error, WalError::Version { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn writes_that_do_not_fit_the_log_are_refused_and_leave_it_usable() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(5, 2, 0), entries(5, 1..=3, 10)]).unwrap();
    let gap = entries(5, 5..=5, 10);
    let covered = Write { snapshot: Some(meta(5, 3)), ..entries(5, 2..=2, 10) };
    let mut backwards = entries(5, 4..=5, 10);
    backwards.entries[1].id.term = 4;
    for wrong in [gap, covered, backwards, vote(4, 1, 0)] {
        let error = wal.append(std::slice::from_ref(&wrong)).unwrap_err();
        assert!(matches!(error, WalError::Refused(_)), "{wrong:?}: {error}");
    }
    wal.append(&[entries(5, 4..=4, 10)]).unwrap();
    drop(wal);
    assert_eq!(open(&disk).unwrap().1.last_index(), 4);
}

#[test]
fn senseless_settings_are_refused() {
    let disk = Arc::new(SimDisk::new(1));
    let wrong = [
        WalConfig { block_bytes: 500, ..config() },
        WalConfig { block_bytes: 256, ..config() },
        WalConfig { segment_bytes: 1024, ..config() },
        WalConfig { segment_bytes: 2 << 30, ..config() },
        WalConfig { fill_bytes: 0, ..config() },
        WalConfig { fill_bytes: 16384, ..config() },
    ];
    for config in wrong {
        let result = Wal::open(disk.clone(), dir(), config.clone()).map(drop);
        assert!(matches!(result, Err(WalError::Config(_))), "{config:?}");
    }
}

#[test]
fn an_unreachable_directory_is_an_error_with_its_name() {
    let error = Wal::open(Arc::new(RealDisk), "/proc/no/such/place", config()).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("cannot create /proc/no/such/place: "), "{error}");
}
