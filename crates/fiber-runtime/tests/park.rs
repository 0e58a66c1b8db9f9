//! Park and unpark in both orders, from everywhere a wake can come from.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::sync::channel;
use fiber_runtime::{Fiber, Wake, current, park, park_until, spawn, spawn_local, spawn_on, yield_now};

/// Where the wake comes from.
#[derive(Clone, Copy, Debug)]
enum Waker {
    SameWorker,
    OtherWorker,
    Thread,
}

const WAKERS: [Waker; 3] = [Waker::SameWorker, Waker::OtherWorker, Waker::Thread];

/// Unparks `fiber`, which runs on worker 0, and returns once the wake is under way.
fn wake(waker: Waker, fiber: Fiber) {
    match waker {
        Waker::SameWorker => spawn_local(move || fiber.unpark()).join().unwrap(),
        Waker::OtherWorker => spawn_on(1, move || fiber.unpark()).join().unwrap(),
        Waker::Thread => fiber_runtime::offload(move || fiber.unpark()),
    }
}

/// Runs `check` on worker 0 of two, for every kind of waker.
fn for_each_waker(check: fn(Waker)) {
    for waker in WAKERS {
        let runtime = runtime(2);
        let checked = runtime.spawn_on(0, move || check(waker)).join_timeout(PATIENCE);
        assert!(matches!(checked, Ok(Ok(()))), "{waker:?}: {checked:?}");
    }
}

#[test]
fn a_wake_before_the_park_is_kept() {
    for_each_waker(|waker| {
        wake(waker, current());
        park();
        // It is used up now.
        assert_eq!(park_until(Some(in_millis(5))), Wake::TimedOut);
    });
}

#[test]
fn a_wake_after_the_park_ends_it() {
    for_each_waker(|waker| {
        let parked = spawn_local(|| park_until(Some(fiber_runtime::time::now() + PATIENCE)));
        yield_now();
        assert!(!parked.is_finished());
        wake(waker, parked.fiber().clone());
        assert_eq!(parked.join().unwrap(), Wake::Unparked);
    });
}

#[test]
fn a_wake_before_the_start_is_kept() {
    for_each_waker(|waker| {
        let parked = spawn_local(|| park_until(Some(fiber_runtime::time::now() + PATIENCE)));
        // It has not run: `wake` gives way, but the unpark of the same worker is the first thing then.
        parked.fiber().unpark();
        wake(waker, parked.fiber().clone());
        assert_eq!(parked.join().unwrap(), Wake::Unparked);
    });
}

#[test]
fn two_wakes_before_a_park_are_one() {
    for_each_waker(|waker| {
        wake(waker, current());
        wake(waker, current());
        // The worker runs dry and reads its mail: both have arrived.
        fiber_runtime::time::sleep(std::time::Duration::from_millis(1));
        park();
        assert_eq!(park_until(Some(in_millis(5))), Wake::TimedOut);
    });
}

#[test]
fn a_wake_for_a_fiber_that_is_ready_is_kept_for_its_next_park() {
    for_each_waker(|waker| {
        let parked = spawn_local(|| {
            yield_now();
            park();
            park_until(Some(fiber_runtime::time::now() + PATIENCE))
        });
        yield_now();
        // In its worker's ready queue.
        parked.fiber().unpark();
        yield_now();
        yield_now();
        // In its second park.
        wake(waker, parked.fiber().clone());
        assert_eq!(parked.join().unwrap(), Wake::Unparked);
    });
}

#[test]
fn a_wake_of_a_fiber_that_has_ended_does_nothing() {
    for_each_waker(|waker| {
        let ended = spawn_local(|| ());
        let fiber = ended.fiber().clone();
        ended.join().unwrap();
        (0..3).for_each(|_| wake(waker, fiber.clone()));
    });
}

#[test]
fn an_unpark_does_not_end_a_wait_for_a_channel_and_is_not_swallowed_by_one() {
    for_each_waker(|waker| {
        let (sender, receiver) = channel::bounded(1);
        let waits = spawn_local(move || {
            let received = receiver.recv();
            (received, park_until(Some(fiber_runtime::time::now() + PATIENCE)))
        });
        yield_now();
        wake(waker, waits.fiber().clone());
        yield_now();
        assert!(!waits.is_finished(), "the unpark ended the receive");
        sender.send(3).unwrap();
        assert_eq!(waits.join().unwrap(), (Ok(3), Wake::Unparked));
    });
}

#[test]
fn a_plain_thread_parks_until_its_deadline() {
    assert_eq!(park_until(Some(in_millis(2))), Wake::TimedOut);
    let me = thread::current();
    thread::spawn(move || me.unpark()).join().unwrap();
    assert_eq!(park_until(Some(fiber_runtime::time::now() + PATIENCE)), Wake::Unparked);
}

#[test]
fn no_wake_is_lost_when_two_threads_hunt_a_fiber_that_parks() {
    // Each hunter adds one and wakes; the fiber parks until it has seen all. A lost wake leaves it parked for ever.
    const EACH: usize = 20_000;
    let runtime = runtime(1);
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    let hunted = runtime.spawn(move || {
        while counts.load(Ordering::Acquire) < 2 * EACH {
            park();
        }
    });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    count.fetch_add(1, Ordering::Release);
                    hunted.fiber().unpark();
                }
            });
        }
    });
    assert!(matches!(hunted.join_timeout(PATIENCE), Ok(Ok(()))), "a wake was lost");
}

#[test]
fn wakes_race_with_deadlines_and_neither_is_lost() {
    // Parks whose deadline is about when the wake comes.
    on_fibers(2, || {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let woken = Arc::new(AtomicUsize::new(0));
        let wakes = Arc::clone(&woken);
        let sleeper = spawn_on(0, move || {
            let mut timed_out = 0;
            while !stops.load(Ordering::Acquire) {
                match park_until(Some(fiber_runtime::time::now() + Duration::from_micros(30))) {
                    Wake::Unparked => {
                        wakes.fetch_add(1, Ordering::Relaxed);
                    }
                    Wake::TimedOut => timed_out += 1,
                }
            }
            timed_out
        });
        let fiber = sleeper.fiber().clone();
        spawn(move || {
            for round in 0_u64..2000 {
                fiber.unpark();
                fiber_runtime::time::sleep(Duration::from_micros(round % 60));
            }
        })
        .join()
        .unwrap();
        wait_for("some wakes", || woken.load(Ordering::Relaxed) > 0);
        stop.store(true, Ordering::Release);
        sleeper.fiber().unpark();
        assert!(matches!(sleeper.join_timeout(PATIENCE), Ok(Ok(_))), "the sleeper does not end");
    });
}
