//! `scheduler/shared.rs` and `scheduler/idle.rs`: work that any worker may take is taken, however the workers sleep,
//! search and wake each other.

use std::ptr::NonNull;
use std::sync::Arc;

use loom::sync::atomic::Ordering;
use loom::thread;

use super::{explore, with_fibers};
use crate::config::Config;
use crate::fiber::Placement;
use crate::fiber::header::{Header, Unstarted};
use crate::primitive::deque::Worker as Deque;
use crate::scheduler::port::{Port, State};
use crate::scheduler::shared::Shared;
use crate::scheduler::worker::Worker;

fn runtime<const WORKERS: usize>() -> (Arc<Shared>, [Deque<Unstarted>; WORKERS]) {
    let deques: [Deque<Unstarted>; WORKERS] = std::array::from_fn(|_| Deque::new_fifo());
    let ports = (0..WORKERS).map(|_| Port::acquire()).collect();
    let config = Config { workers: WORKERS, ..Config::default() };
    let shared = Arc::new(Shared::new(config, ports, deques.iter().map(Deque::stealer).collect()));
    for port in shared.ports() {
        port.eventfd().unwrap();
        port.set_state(State::Running);
    }
    (shared, deques)
}

fn unstarted(fiber: &'static Header) -> Unstarted {
    fiber.touch_cargo();
    Unstarted(NonNull::from(fiber))
}

fn ran(fiber: &Header) -> bool {
    fiber.ran.load(Ordering::Acquire)
}

/// A worker spawns a fiber and then never gives way (another wakes up, or is awake, and takes it), while that other is
/// anywhere between running and asleep.
///
/// Seen failing without the fence in `Shared::wake_searcher`, without `has_fresh` among the last looks of
/// `Worker::sleep`, without its `add_idle`, and when `wake_one` keeps its count of a searcher it did not find. (The fence
/// of `Port::park` is not missed here: the deques have one of their own.)
#[test]
fn a_spawn_is_stolen_from_a_worker_that_does_not_give_way() {
    explore(3, || {
        with_fibers(|[fiber]| {
            let (shared, [mine, theirs]) = runtime();
            let thief = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let worker = Worker::new(shared, 1, theirs);
                    worker.run_until(&|_| ran(fiber));
                })
            };
            let worker = Worker::new(shared, 0, mine);
            worker.place(unstarted(fiber));
            thief.join().unwrap();
            assert!(ran(fiber));
        });
    });
}

/// A fiber placed from outside is run by its worker, or, as the worker is stuck, by another.
///
/// Seen failing without the `wake_searcher` of `Shared::place`, and without the injectors in `Shared::has_fresh`.
#[test]
fn a_fiber_placed_at_a_stuck_worker_is_taken_by_another() {
    explore(2, || {
        with_fibers(|[fiber]| {
            // Worker 0, which the choice falls on, runs and never looks.
            let (shared, [_stuck, theirs]) = runtime();
            let thief = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let worker = Worker::new(shared, 1, theirs);
                    worker.run_until(&|_| ran(fiber));
                })
            };
            shared.place(unstarted(fiber), Placement::Anywhere);
            thief.join().unwrap();
        });
    });
}

/// A worker that was woken to search and is stopped meanwhile leaves the count of searchers as it was, so that the next
/// spawn wakes somebody again.
///
/// Seen failing without the search of a worker that was woken to search, which ends the count.
#[test]
fn the_count_of_searchers_returns_to_zero() {
    explore(2, || {
        with_fibers(|[one, other]| {
            let (shared, [mine, theirs]) = runtime();
            let thief = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let worker = Worker::new(shared, 1, theirs);
                    worker.run_until(&|_| ran(one) && ran(other));
                })
            };
            let worker = Worker::new(Arc::clone(&shared), 0, mine);
            for fiber in [one, other] {
                worker.place(unstarted(fiber));
            }
            thief.join().unwrap();
            // Half of two workers may search: one. It can begin only if nobody is counted.
            assert!(shared.begin_search(), "somebody is counted as searching for ever");
            assert!(shared.end_search());
        });
    });
}
