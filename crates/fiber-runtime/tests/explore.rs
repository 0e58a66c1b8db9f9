//! The explorer: it finds planted bugs, names the seed, and the seed brings them back.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fiber_runtime::sim::{Explorer, Sim, explore, preemption_point, random_u64};
use fiber_runtime::sync::{Condvar, Mutex, channel};
use fiber_runtime::{JoinHandle, park, spawn, spawn_local, time, yield_now};

fn join_all(fibers: Vec<JoinHandle<()>>) {
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
}

/// Two fibers that take two locks in different orders: most schedules are well.
fn inverted_locks() {
    let locks = Arc::new((Mutex::new(()), Mutex::new(())));
    let other = locks.clone();
    join_all(vec![
        spawn(move || {
            let _first = locks.0.lock();
            preemption_point();
            let _second = locks.1.lock();
        }),
        spawn(move || {
            let _second = other.1.lock();
            preemption_point();
            let _first = other.0.lock();
        }),
    ]);
}

/// A check and an act that belong together, and are apart only if nobody comes between.
fn lost_update() {
    let total = Arc::new(AtomicU64::new(0));
    let adders = (0..3).map(|_| {
        let total = total.clone();
        spawn(move || {
            let before = total.load(Ordering::Relaxed);
            preemption_point();
            total.store(before + 1, Ordering::Relaxed);
        })
    });
    join_all(adders.collect());
    assert_eq!(total.load(Ordering::Relaxed), 3, "an update was lost");
}

/// Three timers with one deadline; the bug is that the last to be armed may fire first and its fiber find nothing.
fn equal_deadlines() {
    let ready = Rc::new(Cell::new(0));
    let deadline = time::now() + Duration::from_millis(5);
    let sleepers = (0..3).map(|n| {
        let ready = ready.clone();
        spawn_local(move || {
            time::sleep_until(deadline);
            assert!(n < 2 || ready.get() > 0, "the last was first");
            ready.set(ready.get() + 1);
        })
    });
    join_all(sleepers.collect());
}

/// Waits without looking at the condition again: right as long as the producer comes second.
fn missed_notification() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let other = shared.clone();
    join_all(vec![
        spawn(move || {
            *other.0.lock() = true;
            other.1.notify_one();
        }),
        spawn(move || drop(shared.1.wait(shared.0.lock()))),
    ]);
}

#[test]
fn planted_bugs_are_found_and_their_seeds_bring_them_back() {
    let bugs: [(&str, fn(), &str); 4] = [
        ("inverted locks", inverted_locks, "deadlock"),
        ("lost update", lost_update, "an update was lost"),
        ("equal deadlines", equal_deadlines, "the last was first"),
        ("missed notification", missed_notification, "deadlock"),
    ];
    for (name, body, message) in bugs {
        let failure = Explorer::new(0..500).run(body).unwrap_err();
        assert!(failure.message.contains(message), "{name}: {failure}");
        assert!(failure.reproducible, "{name}: {failure}");
        assert_eq!(failure.runs_before, failure.seed);
        for _ in 0..3 {
            let sim = Sim::new(failure.seed);
            let panic = catch_unwind(AssertUnwindSafe(|| sim.run(body))).unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert_eq!(*text, failure.message, "{name}");
            assert_eq!(sim.steps(), failure.steps, "{name}");
        }
        // Other seeds are well: it takes a search.
        assert!((0..100).any(|seed| catch_unwind(|| Sim::new(seed).run(body)).is_ok()), "{name}");
    }
}

#[test]
fn a_failure_says_how_to_run_the_seed_alone() {
    let panic = catch_unwind(|| explore(100, || assert_ne!(random_u64() % 4, 0, "unlucky"))).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("unlucky"), "{text}");
    assert!(text.contains("cargo test a_failure_says_how_to_run_the_seed_alone"), "{text}");
    let seed: u64 = text.split("MOON_SEED=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(catch_unwind(|| Sim::new(seed).run(|| assert_ne!(random_u64() % 4, 0))).is_err());
}

#[test]
fn sound_code_is_explored_to_the_end() {
    let runs = Cell::new(0);
    let explored = Explorer::new(7..57)
        .run(|| {
            runs.set(runs.get() + 1);
            spawn(yield_now).join().unwrap();
        })
        .unwrap();
    assert_eq!((explored.runs, runs.get()), (50, 50));
    assert!(explored.steps >= 100, "{explored}");
}

#[test]
fn a_time_budget_ends_the_search() {
    let began = Instant::now();
    let explored = Explorer::new(0..u64::MAX).time_budget(Duration::from_millis(30)).run(yield_now).unwrap();
    assert!(explored.runs > 0);
    assert!(began.elapsed() < Duration::from_secs(20));
    let none = Explorer::new(0..10).time_budget(Duration::ZERO).run(|| unreachable!("no time for it"));
    assert_eq!(none.unwrap().runs, 0);
}

#[test]
fn a_panic_of_a_detached_fiber_is_a_failure() {
    let failure = Explorer::new(0..1).run(|| {
        spawn(|| panic!("nobody joins me")).detach();
        time::sleep(Duration::from_millis(1));
    });
    assert!(failure.unwrap_err().message.contains("panicked"));
}

#[test]
fn what_the_seed_does_not_decide_is_noticed() {
    let visits = Cell::new(0u32);
    let unsteady = || {
        visits.set(visits.get() + 1);
        (0..visits.get()).for_each(|_| yield_now());
    };
    assert!(Explorer::new(0..3).run(unsteady).is_ok(), "one run each shows nothing");
    let failure = Explorer::new(0..3).check_determinism().run(unsteady).unwrap_err();
    assert!(!failure.reproducible && failure.message.contains("differ"), "{failure}");
    // And a failure that does not come back says so.
    visits.set(0);
    let failure = Explorer::new(0..3)
        .run(|| {
            visits.set(visits.get() + 1);
            assert_ne!(visits.get(), 2);
        })
        .unwrap_err();
    assert!(!failure.reproducible, "{failure}");
    assert!(failure.to_string().contains("not in the same way"), "{failure}");
}

/// The orders in which `count` fibers that `start` makes get to the end, over many seeds.
fn orders(
    count: usize,
    seeds: u64,
    start: impl Fn(&Rc<RefCell<Vec<usize>>>) -> Vec<JoinHandle<()>>,
) -> usize {
    let mut seen = HashSet::new();
    for seed in 0..seeds {
        let run = || {
            let sim = Sim::new(seed);
            let order = sim.run(|| {
                let order = Rc::new(RefCell::new(Vec::new()));
                join_all(start(&order));
                order.take()
            });
            (order, sim.trace_hash(), sim.steps())
        };
        let first = run();
        assert_eq!(first, run(), "seed {seed}: the same seed, another run");
        assert_eq!(first.0.len(), count);
        seen.insert(first.0);
    }
    seen.len()
}

#[test]
fn every_order_of_equal_deadlines_comes_up() {
    let found = orders(4, 400, |order| {
        let deadline = time::now() + Duration::from_secs(1);
        let sleeper = |n| {
            let order = order.clone();
            spawn_local(move || {
                time::sleep_until(deadline);
                order.borrow_mut().push(n);
            })
        };
        (0..4).map(sleeper).collect()
    });
    assert_eq!(found, 24);
}

#[test]
fn every_order_of_wake_ups_comes_up() {
    let found = orders(4, 400, |order| {
        let parked: Vec<_> = (0..4)
            .map(|n| {
                let order = order.clone();
                spawn_local(move || {
                    park();
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        for fiber in &parked {
            fiber.fiber().unpark();
        }
        parked
    });
    assert_eq!(found, 24);
}

#[test]
fn every_order_of_receivers_and_of_senders_comes_up() {
    // Who receives first, of those who wait at a channel.
    let found = orders(3, 400, |order| {
        let (sender, receiver) = channel::bounded(3);
        let receiver = Rc::new(receiver);
        let fibers = (0..3).map(|n| {
            let (order, receiver) = (order.clone(), receiver.clone());
            spawn_local(move || {
                receiver.recv().unwrap();
                order.borrow_mut().push(n);
            })
        });
        let fibers = fibers.collect();
        (0..3).for_each(|n| sender.send(n).unwrap());
        fibers
    });
    assert_eq!(found, 6);
    // Whose value comes first, of those who wait for room.
    let found = orders(3, 400, |order| {
        let (sender, receiver) = channel::bounded(1);
        let mut fibers: Vec<_> = (0..3)
            .map(|n| {
                let sender = sender.clone();
                spawn_local(move || sender.send(n).unwrap())
            })
            .collect();
        drop(sender);
        let order = order.clone();
        fibers.push(spawn_local(move || {
            while let Ok(n) = receiver.recv() {
                order.borrow_mut().push(n);
            }
        }));
        fibers
    });
    assert_eq!(found, 6);
}
