//! `rusqlite` on fibers and in the pool: it reads and writes files, so it blocks its worker unless the caller offloads it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fiber_runtime::{offload, time};
use moon_library_tests::side_by_side::Fibers;
use moon_library_tests::work::sqlite::{prepare, totals, transfer};

const ACCOUNTS: i64 = 10;
/// From one account to another, so that one has less and one has more in the end.
const TRANSFERS: usize = 50;

#[test]
fn transactions_of_fibers_that_give_way_inside_of_them_are_not_mixed_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts");
    prepare(&path, ACCOUNTS).unwrap();
    let database = path.clone();
    // The lock of the database is held while others run. They sleep in SQLite's busy handler until it is free, and that
    // sleep is a hooked one: otherwise the first that waits would keep the worker from whoever has the lock.
    Fibers::on(1)
        .run(TRANSFERS, move |_| transfer(&database, 0, 1, || time::sleep(Duration::from_millis(1))));
    assert_eq!(totals(&path).unwrap(), (100 * ACCOUNTS, 2));
}

#[test]
fn what_is_offloaded_runs_in_the_pool_and_leaves_the_worker_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = Arc::new(folder.path().join("accounts"));
    prepare(&path, ACCOUNTS).unwrap();
    let database = path.clone();
    let elsewhere = Arc::new(AtomicUsize::new(0));
    let count = elsewhere.clone();
    Fibers::on(1).run(TRANSFERS, move |_| {
        let (worker, database) = (thread::current().id(), database.clone());
        let (pool, transferred) =
            offload(move || (thread::current().id(), transfer(&database, 2, 3, thread::yield_now)));
        count.fetch_add(usize::from(pool != worker), Ordering::Relaxed);
        transferred
    });
    assert_eq!(elsewhere.load(Ordering::Relaxed), TRANSFERS, "some ran on the worker");
    assert_eq!(totals(&path).unwrap(), (100 * ACCOUNTS, 2));
}
