//! Fibers that have not started go where there is time for them; fibers that have, stay.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use common::{on_fibers, runtime, wait_for};
use fiber_runtime::sync::Spin;
use fiber_runtime::{Runtime, spawn, spawn_local, spawn_on, yield_now};

fn stolen(runtime: &Runtime) -> u64 {
    runtime.metrics().workers.iter().map(|worker| worker.stolen).sum()
}

/// Keeps the calling fiber's worker, without giving way, until `done`.
fn hog(done: &AtomicBool) {
    while !done.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
}

#[test]
fn fibers_queued_behind_one_that_does_not_give_way_are_taken_by_others() {
    let runtime = runtime(3);
    let ran = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let (runs, end) = (Arc::clone(&ran), Arc::clone(&done));
    let hogging = runtime.spawn_on(0, move || {
        let home = thread::current().id();
        let fibers: Vec<_> = (0..1000)
            .map(|_| {
                let runs = Arc::clone(&runs);
                spawn(move || {
                    assert_ne!(thread::current().id(), home, "worker 0 is held");
                    runs.fetch_add(1, Ordering::Release);
                })
            })
            .collect();
        hog(&end);
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
    wait_for("1000 fibers", || ran.load(Ordering::Acquire) == 1000);
    done.store(true, Ordering::Release);
    hogging.join().unwrap();
    assert!(stolen(&runtime) > 0);
}

#[test]
fn what_was_stolen_can_be_stolen_again() {
    // One fiber spawns all; every thief becomes a hog after its first fiber, until all have had one.
    const WORKERS: usize = 4;
    let runtime = runtime(WORKERS);
    let homes: Arc<Spin<HashSet<ThreadId>>> = Arc::default();
    let seen = Arc::clone(&homes);
    runtime.block_on(move || {
        let fibers: Vec<_> = (0..200)
            .map(|_| {
                let seen = Arc::clone(&seen);
                spawn(move || {
                    seen.lock(|seen| seen.insert(thread::current().id()));
                    // Nobody gives way before every worker has one.
                    while seen.lock(|seen| seen.len()) < WORKERS {
                        thread::park_timeout(std::time::Duration::from_micros(50));
                    }
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
    assert_eq!(homes.lock(|homes| homes.len()), WORKERS);
}

#[test]
fn local_and_placed_fibers_are_not_stolen() {
    let runtime = runtime(3);
    let done = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&done);
    let hogging = runtime.spawn_on(1, move || {
        let home = thread::current().id();
        let local: Vec<_> = (0..100).map(|_| spawn_local(|| thread::current().id())).collect();
        let placed: Vec<_> = (0..100).map(|_| spawn_on(1, || thread::current().id())).collect();
        hog(&end);
        local.into_iter().chain(placed).all(|fiber| fiber.join().unwrap() == home)
    });
    // The others are awake and looking.
    for _ in 0..100 {
        runtime.spawn_on(0, || ()).join().unwrap();
        runtime.spawn_on(2, || ()).join().unwrap();
    }
    done.store(true, Ordering::Release);
    assert!(hogging.join().unwrap(), "a fiber left the worker it was meant for");
    assert_eq!(stolen(&runtime), 0);
}

#[test]
fn a_started_fiber_waits_for_its_worker_and_is_not_stolen() {
    let runtime = runtime(2);
    let done = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&done);
    let resumed = Arc::new(AtomicBool::new(false));
    let resumes = Arc::clone(&resumed);
    let hogging = runtime.spawn_on(0, move || {
        let started = spawn_local(move || {
            let home = thread::current().id();
            yield_now();
            resumes.store(true, Ordering::Release);
            thread::current().id() == home
        });
        yield_now();
        // It has started, is ready, and its worker is busy.
        hog(&end);
        started.join().unwrap().then_some(()).expect("a started fiber went on elsewhere")
    });
    for _ in 0..100 {
        runtime.spawn_on(1, || ()).join().unwrap();
        assert!(!resumed.load(Ordering::Acquire));
    }
    done.store(true, Ordering::Release);
    hogging.join().unwrap();
}

#[test]
fn a_burst_from_outside_reaches_every_worker() {
    let runtime = runtime(4);
    let homes: Arc<Spin<HashSet<ThreadId>>> = Arc::default();
    let fibers: Vec<_> = (0..400)
        .map(|_| {
            let homes = Arc::clone(&homes);
            runtime.spawn(move || {
                homes.lock(|homes| homes.insert(thread::current().id()));
                while homes.lock(|homes| homes.len()) < 4 {
                    thread::park_timeout(std::time::Duration::from_micros(50));
                }
            })
        })
        .collect();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    assert_eq!(homes.lock(|homes| homes.len()), 4);
}

#[test]
fn every_fiber_of_a_recursive_tree_runs_once() {
    fn tree(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> = (0..4).map(|_| spawn(move || tree(depth - 1))).collect();
        children.into_iter().map(|child| child.join().unwrap()).sum()
    }

    assert_eq!(on_fibers(4, || tree(6)), 4_u64.pow(6));
}
