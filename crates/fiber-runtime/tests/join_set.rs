//! Sets of fibers: results in the order of their ends, and what becomes of the rest.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::{
    Elapsed, FiberBuilder, JoinError, JoinSet, park, sim::Sim, time, with_timeout, yield_now,
};

#[test]
fn results_come_in_the_order_in_which_fibers_end() {
    let order = Sim::new(1).run(|| {
        let mut set = JoinSet::new();
        for n in [3u64, 1, 2] {
            set.spawn(move || {
                time::sleep(Duration::from_secs(n));
                n
            });
        }
        std::iter::from_fn(|| set.join_next()).map(Result::unwrap).collect::<Vec<_>>()
    });
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn every_result_comes_once_from_several_workers() {
    on_fibers(2, || {
        let mut set = JoinSet::new();
        let mut sum = 0;
        for round in 0..20u64 {
            for n in 0..100 {
                set.spawn(move || {
                    if n % 7 == 0 {
                        yield_now();
                    }
                    round * 100 + n
                });
            }
            for _ in 0..50 {
                sum += set.join_next().unwrap().unwrap();
            }
        }
        assert_eq!(set.len(), 1000);
        while let Some(result) = set.join_next() {
            sum += result.unwrap();
        }
        assert_eq!(sum, (0..2000).sum::<u64>());
        assert!(set.is_empty());
    });
}

#[test]
fn a_panic_is_one_result_among_others_and_says_whose() {
    on_fibers(1, || {
        let mut set = JoinSet::new();
        set.spawn(|| 1);
        let bad = set.spawn_with(FiberBuilder::new().name("bad"), || panic!("no luck"));
        let results: Vec<_> = std::iter::from_fn(|| set.join_next_with_id()).collect();
        assert_eq!(results.len(), 2);
        let (_, failed) = results.iter().find(|(id, _)| *id == bad.id()).unwrap();
        assert_eq!(failed.as_ref().unwrap_err().message(), Some("no luck"));
    });
}

#[test]
fn a_deadline_ends_the_wait_and_leaves_the_fiber_in_the_set() {
    on_fibers(1, || {
        let mut set = JoinSet::new();
        assert!(set.join_next_until(in_millis(10_000)).is_none(), "nothing to wait for");
        let fiber = set.spawn(park);
        assert!(set.try_join_next().is_none());
        assert!(set.join_next_until(in_millis(2)).is_none());
        assert_eq!(with_timeout(Duration::from_millis(2), || set.join_next().is_some()), Err(Elapsed));
        assert_eq!(set.len(), 1);
        fiber.unpark();
        assert!(set.join_next().unwrap().is_ok());
        assert!(set.join_next().is_none());
    });
}

#[test]
fn cancel_all_ends_those_that_run_and_they_are_still_joined() {
    on_fibers(2, || {
        let mut set = JoinSet::new();
        for _ in 0..10 {
            set.spawn(park);
        }
        let done = set.spawn(|| ());
        wait_for("the short one", || set.try_join_next().is_some_and(|result| result.is_ok()));
        drop(done);
        set.cancel_all();
        let cancelled = std::iter::from_fn(|| set.join_next())
            .filter(|result| matches!(result, Err(JoinError::Cancelled)));
        assert_eq!(cancelled.count(), 10);
    });
}

/// Counts drops.
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn dropping_the_set_cancels_and_detaching_does_not() {
    on_fibers(2, || {
        let ended = Arc::new(AtomicUsize::new(0));
        let released = Arc::new(AtomicUsize::new(0));
        let spawn_two = |set: &mut JoinSet<()>| {
            for _ in 0..2 {
                let (count, released) = (Count(ended.clone()), released.clone());
                set.spawn(move || {
                    let _count = count;
                    while released.load(Ordering::SeqCst) == 0 {
                        time::sleep(Duration::from_millis(1));
                    }
                    released.fetch_add(1, Ordering::SeqCst);
                });
            }
        };
        let mut set = JoinSet::new();
        spawn_two(&mut set);
        drop(set);
        wait_for("the cancelled", || ended.load(Ordering::SeqCst) == 2);

        let mut set = JoinSet::new();
        spawn_two(&mut set);
        set.detach_all();
        assert!(set.is_empty() && set.join_next().is_none());
        released.store(1, Ordering::SeqCst);
        wait_for("the detached", || released.load(Ordering::SeqCst) == 3);
        assert!(set.try_join_next().is_none(), "who was detached is not of the set");
    });
}

#[test]
fn shutdown_waits_until_all_have_ended() {
    on_fibers(2, || {
        let ended = Arc::new(AtomicUsize::new(0));
        let mut set = JoinSet::new();
        for _ in 0..20 {
            let count = Count(ended.clone());
            set.spawn(move || {
                let _count = count;
                park();
            });
        }
        set.shutdown();
        assert_eq!((ended.load(Ordering::SeqCst), set.len()), (20, 0));
    });
}

#[test]
fn a_plain_thread_spawns_into_a_runtime_and_joins() {
    let runtime = runtime(2);
    let mut set = JoinSet::new();
    for n in 0..10 {
        set.spawn_in(&runtime.handle(), FiberBuilder::new(), move || n);
    }
    let mut results: Vec<i32> = std::iter::from_fn(|| set.join_next()).map(Result::unwrap).collect();
    results.sort_unstable();
    assert_eq!(results, (0..10).collect::<Vec<_>>());
}

#[test]
fn spawning_into_a_set_after_the_runtime_stopped_gives_cancelled() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    assert!(runtime.stop(common::PATIENCE).is_clean());
    let mut set = JoinSet::new();
    set.spawn_in(&handle, FiberBuilder::new(), || 1);
    assert!(matches!(set.join_next(), Some(Err(JoinError::Cancelled))));
}
