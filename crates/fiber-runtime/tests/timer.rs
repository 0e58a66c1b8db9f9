//! Timers: never early, in order, disarmed when what they guard comes first, whoever arms and whoever wakes.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{PATIENCE, in_millis, on_fibers, wait_for};
use fiber_runtime::sync::{channel, oneshot};
use fiber_runtime::{
    Handle, IoManager, Wake, park, park_until, spawn, spawn_local, spawn_on, time, yield_now,
};

/// Timers that have fired on all workers of the calling fiber's runtime.
fn fired() -> u64 {
    Handle::current().metrics().workers.iter().map(|worker| worker.timers).sum()
}

#[test]
fn no_sleep_is_short_whatever_its_length() {
    on_fibers(2, || {
        let sleepers: Vec<_> = (0..200_u64)
            .map(|number| {
                // From one microsecond to tens of milliseconds, over the borders of the wheel's levels.
                let wanted = Duration::from_micros(1 + number * number);
                spawn(move || {
                    let began = time::now();
                    time::sleep(wanted);
                    (wanted, began.elapsed())
                })
            })
            .collect();
        for sleeper in sleepers {
            let (wanted, slept) = sleeper.join().unwrap();
            assert!(slept >= wanted, "{slept:?} instead of {wanted:?}");
        }
    });
}

#[test]
fn deadlines_of_one_worker_pass_in_their_order_not_in_that_of_arming() {
    on_fibers(1, || {
        let began = time::now();
        let order = Rc::new(RefCell::new(Vec::new()));
        // Far enough apart that the clock's ticks do not put two together.
        let delays = [7, 1, 9, 3, 5, 2, 8, 4, 6_u64];
        let sleepers: Vec<_> = delays
            .into_iter()
            .map(|delay| {
                let order = Rc::clone(&order);
                spawn_local(move || {
                    time::sleep_until(began + Duration::from_millis(20 + delay));
                    order.borrow_mut().push(delay);
                })
            })
            .collect();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert_eq!(*order.borrow(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });
}

#[test]
fn a_timer_that_is_not_needed_any_more_does_not_fire() {
    on_fibers(1, || {
        let before = fired();
        for _ in 0..100 {
            let (sender, receiver) = oneshot::channel();
            let waits = spawn_local(move || receiver.recv_until(in_millis(60_000)));
            yield_now();
            sender.send(1).unwrap();
            assert_eq!(waits.join().unwrap(), Ok(1));
        }
        assert_eq!(fired(), before, "a timer fired for a wait that was over");
    });
}

#[test]
fn a_deadline_that_has_passed_does_not_spoil_the_next_wait() {
    on_fibers(1, || {
        for round in 0..50 {
            assert_eq!(park_until(Some(time::now() + Duration::from_micros(round * 5))), Wake::TimedOut);
            // A timer left over would end this one; a wake left over, too.
            let parked = fiber_runtime::current();
            spawn_local(move || parked.unpark()).detach();
            assert_eq!(park_until(Some(time::now() + PATIENCE)), Wake::Unparked);
        }
    });
}

#[test]
fn a_sleeping_worker_hears_of_a_deadline_that_is_earlier_than_the_one_it_sleeps_for() {
    on_fibers(2, || {
        // Worker 1 sleeps until the minute is over.
        let long = spawn_on(1, || park_until(Some(in_millis(60_000))));
        let handle = Handle::current();
        let slept = |handle: &Handle| handle.metrics().workers[1].sleeps;
        wait_for("worker 1 to sleep", || slept(&handle) > 0);
        let began = time::now();
        spawn_on(1, || time::sleep(Duration::from_millis(5))).join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "the earlier deadline waited for the later");
        long.fiber().unpark();
        assert_eq!(long.join().unwrap(), Wake::Unparked);
    });
}

#[test]
fn many_timers_most_of_them_cancelled_fire_exactly_the_rest() {
    on_fibers(2, || {
        let kept = Arc::new(AtomicU64::new(0));
        let fibers: Vec<_> = (0..5000_u64)
            .map(|number| {
                let kept = Arc::clone(&kept);
                spawn(move || {
                    let delay = Duration::from_millis(if number % 20 == 0 { 30 } else { 60_000 });
                    if park_until(Some(time::now() + delay)) == Wake::TimedOut {
                        kept.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for (number, fiber) in fibers.iter().enumerate() {
            if number % 20 != 0 {
                fiber.fiber().unpark();
            }
        }
        for fiber in fibers {
            assert!(matches!(fiber.join_timeout(PATIENCE), Ok(Ok(()))), "a fiber waits for its minute");
        }
        assert_eq!(kept.load(Ordering::Relaxed), 250);
    });
}

#[test]
fn a_cancellation_races_with_a_timer_of_the_manager_and_one_of_them_wins() {
    // Cancelled by threads while it fires: the callback runs, or `cancel` says that it will not, never both.
    let manager = IoManager::new(2, false, "race").unwrap();
    for round in 0..300_u64 {
        let calls = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&calls);
        let timer = manager.add_timer(Duration::from_micros(50), false, move || {
            counts.fetch_add(1, Ordering::SeqCst);
        });
        let wait = std::time::Instant::now();
        while wait.elapsed() < Duration::from_micros(round % 100) {
            std::hint::spin_loop();
        }
        let cancelled = timer.cancel();
        if cancelled {
            assert!(!timer.cancel(), "cancelled twice");
        } else {
            wait_for("the callback", || calls.load(Ordering::SeqCst) == 1);
        }
        let after = calls.load(Ordering::SeqCst);
        assert_eq!(after, u64::from(!cancelled), "round {round}");
    }
    assert!(manager.stop(PATIENCE).is_clean());
}

#[test]
fn a_worker_that_is_never_idle_keeps_its_deadlines() {
    on_fibers(1, || {
        let (done, ended) = channel::bounded::<()>(1);
        let busy = spawn_local(move || {
            while !done.is_closed() {
                yield_now();
            }
        });
        let began = time::now();
        time::sleep(Duration::from_millis(3));
        // Not when the busy one ends, for it does not before this.
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(ended);
        busy.join().unwrap();
    });
}

#[test]
fn a_fiber_that_is_cancelled_in_its_sleep_leaves_no_timer() {
    on_fibers(1, || {
        let sleepers: Vec<_> =
            (0..100).map(|_| spawn_local(|| time::sleep(Duration::from_secs(60)))).collect();
        yield_now();
        let before = fired();
        for sleeper in sleepers {
            sleeper.cancel();
            assert!(sleeper.join().is_err());
        }
        // Headers are used again by now; a node of one that is still linked would show as a stray wake or worse.
        let again: Vec<_> = (0..100).map(|_| spawn_local(park)).collect();
        time::sleep(Duration::from_millis(5));
        assert!(again.iter().all(|parked| !parked.is_finished()));
        again.iter().for_each(|parked| parked.fiber().unpark());
        again.into_iter().for_each(|parked| parked.join().unwrap());
        assert_eq!(fired(), before + 1);
    });
}
