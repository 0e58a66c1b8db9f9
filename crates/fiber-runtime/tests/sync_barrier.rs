//! Barriers: everybody waits for the last, one leads, and who leaves has not come.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::sync::Barrier;
use fiber_runtime::{spawn_local, yield_now};

#[test]
fn nobody_passes_before_all_have_come_and_one_leads() {
    const PARTIES: usize = 8;
    const ROUNDS: usize = 200;
    let barrier = Arc::new(Barrier::new(PARTIES));
    let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let take_part = || {
        let (barrier, arrived, leaders) = (barrier.clone(), arrived.clone(), leaders.clone());
        move || {
            for round in 0..ROUNDS {
                arrived.fetch_add(1, Ordering::SeqCst);
                if barrier.wait().is_leader() {
                    leaders.fetch_add(1, Ordering::SeqCst);
                }
                let arrived = arrived.load(Ordering::SeqCst);
                assert!(arrived >= (round + 1) * PARTIES, "{arrived} had come in round {round}");
                // Nobody comes a second time before this round's others are past the check.
                barrier.wait();
            }
        }
    };
    let runtime = runtime(3);
    let fibers: Vec<_> = (0..PARTIES - 2).map(|_| runtime.spawn(take_part())).collect();
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(take_part())).collect();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(leaders.load(Ordering::SeqCst), ROUNDS);
    assert_eq!((barrier.parties(), barrier.waiting()), (PARTIES, 0));
}

#[test]
fn one_that_gave_up_or_was_cancelled_has_not_come() {
    on_fibers(1, || {
        let barrier = Arc::new(Barrier::new(2));
        assert_eq!(barrier.wait_until(in_millis(5)), None);
        assert_eq!(barrier.waiting(), 0);
        let doomed = {
            let barrier = Arc::clone(&barrier);
            spawn_local(move || barrier.wait())
        };
        yield_now();
        assert_eq!(barrier.waiting(), 1);
        doomed.cancel();
        assert!(doomed.join().is_err());
        assert_eq!(barrier.waiting(), 0);
        let other = {
            let barrier = Arc::clone(&barrier);
            spawn_local(move || barrier.wait_until(in_millis(20_000)))
        };
        wait_for("the other party", || barrier.waiting() == 1);
        assert!(barrier.wait().is_leader(), "the last one leads");
        assert!(!other.join().unwrap().unwrap().is_leader());
    });
}

#[test]
fn a_barrier_for_one_is_open() {
    let barrier = Barrier::new(1);
    assert!(barrier.wait().is_leader());
    assert!(barrier.wait_until(in_millis(0)).unwrap().is_leader());
}

#[test]
#[should_panic(expected = "a barrier needs at least one party")]
fn a_barrier_for_nobody_panics() {
    let _ = Barrier::new(0);
}
