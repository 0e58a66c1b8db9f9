//! Plain files on fibers and in the pool.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fiber_runtime::offload;
use moon_library_tests::side_by_side::Fibers;
use moon_library_tests::work::files::write_and_read_back;

const FILES: usize = 100;

#[test]
fn files_that_fibers_write_hold_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    Fibers::on(2).run(FILES, move |number| write_and_read_back(&path, number));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn files_written_in_the_pool_let_other_fibers_of_the_worker_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let others_ran = Arc::new(AtomicBool::new(false));
    let ran = others_ran.clone();
    Fibers::on(1).run(FILES, move |number| {
        let path = path.clone();
        if number == FILES - 1 {
            ran.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let waited_for = ran.clone();
        offload(move || {
            write_and_read_back(&path, number)?;
            // The last fiber starts after this one on the only worker, which is free while this waits. The pool has room
            // for the first few of these; the others come after.
            while !waited_for.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(())
        })
    });
    assert!(others_ran.load(Ordering::Relaxed));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
