//! The writer loop: what shares a sync, what waits for one, and what is reported.

use std::sync::Mutex;

use fiber_runtime::sync::channel;

use super::*;
use crate::wal::{WalEvent, WalJob};

fn persist(ticket: u64, write: Write) -> WalJob {
    WalJob::Persist { ticket, write, must_sync: true }
}

/// Runs the loop over these jobs, all queued before it starts. Returns what it reports, with the syncs until then.
fn run(disk: &SimDisk, jobs: Vec<WalJob>) -> Vec<(WalEvent, u64)> {
    let (wal, _) = open(disk).unwrap();
    let (sender, receiver) = channel::bounded(jobs.len().max(1));
    jobs.into_iter().for_each(|job| sender.send(job).unwrap());
    drop(sender);
    let before = disk.syncs();
    let reports = Mutex::new(Vec::new());
    crate::wal::run(wal, &receiver, |event| reports.lock().unwrap().push((event, disk.syncs() - before)));
    reports.into_inner().unwrap()
}

#[test]
fn what_is_queued_together_shares_one_sync() {
    let disk = SimDisk::new(1);
    let mut jobs = vec![persist(1, vote(1, 2, 0))];
    jobs.extend((1..=20).map(|index| persist(index + 1, entries(1, index..=index, 10))));
    let reports = run(&disk, jobs);
    assert!(matches!(reports[..], [(WalEvent::Persisted { ticket: 21, .. }, 1)]), "{reports:?}");
    assert_eq!(open(&disk).unwrap().1.last_index(), 20);
}

#[test]
fn a_commit_index_alone_costs_no_sync_but_is_reported() {
    let disk = SimDisk::new(1);
    run(&disk, vec![persist(1, vote(1, 2, 0)), persist(2, entries(1, 1..=3, 10))]);
    let moved = WalJob::Persist { ticket: 1, write: vote(1, 2, 3), must_sync: false };
    let reports = run(&disk, vec![moved]);
    assert!(matches!(reports[..], [(WalEvent::Persisted { ticket: 1, .. }, 0)]), "{reports:?}");
    // With company it goes to disk.
    let moved = WalJob::Persist { ticket: 1, write: vote(1, 2, 3), must_sync: false };
    run(&disk, vec![moved, persist(2, entries(1, 4..=4, 10))]);
    assert_eq!(open(&disk).unwrap().1.hard_state.commit_index, 3);
}

#[test]
fn large_jobs_are_not_gathered_without_end() {
    let disk = SimDisk::new(1);
    let mut jobs = vec![persist(1, vote(1, 2, 0))];
    jobs.extend((1..=5).map(|index| persist(index + 1, entries(1, index..=index, 9 << 20))));
    let reports = run(&disk, jobs);
    let tickets: Vec<u64> = reports
        .iter()
        .map(|(event, _)| match event {
            WalEvent::Persisted { ticket, .. } => *ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tickets, [3, 5, 6]);
}

#[test]
fn a_compaction_comes_after_the_writes_before_it() {
    let disk = SimDisk::new(1);
    let jobs = vec![
        persist(1, vote(1, 2, 0)),
        persist(2, entries(1, 1..=9, 10)),
        WalJob::Compact { meta: meta(1, 5) },
        persist(3, entries(1, 10..=10, 10)),
    ];
    let reports = run(&disk, jobs);
    assert!(matches!(reports[0].0, WalEvent::Persisted { ticket: 2, .. }), "{reports:?}");
    assert!(matches!(reports[1].0, WalEvent::Compacted { named: EntryId { term: 1, index: 5 }, .. }));
    assert!(matches!(reports[2].0, WalEvent::Persisted { ticket: 3, .. }));
    let recovered = open(&disk).unwrap().1;
    assert_eq!((recovered.entries.len(), recovered.snapshot), (5, Some(meta(1, 5))));
}

#[test]
fn a_failure_is_reported_once_and_nothing_after_it() {
    let disk = SimDisk::new(1);
    let mut jobs = vec![persist(1, vote(1, 2, 0)), WalJob::Compact { meta: SnapshotMeta::default() }];
    jobs.extend((1..=3).map(|index| persist(index + 1, entries(1, index..=index, 10 << 20))));
    let (wal, _) = open(&disk).unwrap();
    drop(wal);
    disk.fail_sync_after(4);
    let reports = run(&disk, jobs);
    let failures = reports.iter().filter(|(event, _)| matches!(event, WalEvent::Failed(_))).count();
    assert_eq!(failures, 1, "{reports:?}");
    assert!(matches!(reports.last(), Some((WalEvent::Failed(_), _))), "{reports:?}");
}
