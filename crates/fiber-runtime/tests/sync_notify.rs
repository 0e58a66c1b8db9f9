//! Notify: a permit is kept, a notification is not lost, whoever has waited longest goes first.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::sync::{Notify, Spin};
use fiber_runtime::{spawn, spawn_local, yield_now};

#[test]
fn a_permit_is_kept_once() {
    let notify = Notify::new();
    assert!(!notify.wait_until(in_millis(2)));
    notify.notify_one();
    notify.notify_one();
    notify.wait();
    assert!(!notify.wait_until(in_millis(2)), "two permits are one");
    notify.notify_all();
    assert!(!notify.wait_until(in_millis(2)), "notify_all leaves nothing behind");
}

#[test]
fn change_then_notify_one_is_never_missed() {
    // Both sides alternate without looking at each other but through the counter and the notifications.
    let state = Arc::new((AtomicU64::new(0), Notify::new(), Notify::new()));
    let runtime = runtime(2);
    const ROUNDS: u64 = 3_000;
    let odd = {
        let state = Arc::clone(&state);
        runtime.spawn(move || {
            while state.0.load(Ordering::Acquire) < 2 * ROUNDS {
                while state.0.load(Ordering::Acquire).is_multiple_of(2) {
                    state.1.wait();
                }
                state.0.fetch_add(1, Ordering::AcqRel);
                state.2.notify_one();
            }
        })
    };
    let even = {
        let state = Arc::clone(&state);
        // A plain thread against a fiber.
        thread::spawn(move || {
            for _ in 0..ROUNDS {
                state.0.fetch_add(1, Ordering::AcqRel);
                state.1.notify_one();
                while state.0.load(Ordering::Acquire) % 2 == 1 {
                    state.2.wait();
                }
            }
        })
    };
    even.join().unwrap();
    odd.join().unwrap();
    assert_eq!(state.0.load(Ordering::Acquire), 2 * ROUNDS);
}

#[test]
fn look_then_wait_does_not_miss_notify_all() {
    on_fibers(2, || {
        for _ in 0..500 {
            let state = Arc::new((AtomicUsize::new(0), Notify::new()));
            let other = Arc::clone(&state);
            let sets = spawn(move || {
                other.0.store(1, Ordering::Release);
                other.1.notify_all();
            });
            loop {
                let notified = state.1.notified();
                if state.0.load(Ordering::Acquire) == 1 {
                    break;
                }
                assert!(notified.wait_until(in_millis(20_000)), "the notification was missed");
            }
            sets.join().unwrap();
        }
    });
}

#[test]
fn notifications_go_out_in_order_of_arrival() {
    on_fibers(1, || {
        let notify = Arc::new(Notify::new());
        let order = Arc::new(Spin::new(Vec::new()));
        let fibers: Vec<_> = (0..4)
            .map(|number| {
                let (notify, order) = (notify.clone(), order.clone());
                let fiber = spawn_local(move || {
                    // Again and again: nobody gets a second notification before everybody has had a first.
                    for _ in 0..3 {
                        notify.wait();
                        order.lock(|order| order.push(number));
                    }
                });
                yield_now();
                fiber
            })
            .collect();
        for _ in 0..12 {
            notify.notify_one();
            yield_now();
            yield_now();
        }
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(order.lock(|order| order.clone()), [0, 1, 2, 3].repeat(3));
    });
}

#[test]
fn notify_all_wakes_fibers_and_threads_that_wait() {
    let state = Arc::new((Notify::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
    let runtime = runtime(2);
    let wait = || {
        let state = Arc::clone(&state);
        move || {
            let notified = state.0.notified();
            state.1.fetch_add(1, Ordering::SeqCst);
            notified.wait();
            state.2.fetch_add(1, Ordering::SeqCst);
        }
    };
    let fibers: Vec<_> = (0..6).map(|_| runtime.spawn(wait())).collect();
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(wait())).collect();
    wait_for("eight waiters", || state.1.load(Ordering::SeqCst) == 8);
    state.0.notify_all();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(state.2.load(Ordering::SeqCst), 8);
}

#[test]
fn a_cancelled_waiter_passes_its_notification_on_or_leaves_the_permit() {
    on_fibers(1, || {
        let notify = Arc::new(Notify::new());
        let wait = || {
            let notify = Arc::clone(&notify);
            let fiber = spawn_local(move || notify.wait());
            yield_now();
            fiber
        };
        let (doomed, next) = (wait(), wait());
        notify.notify_one();
        doomed.cancel();
        assert!(doomed.join().is_err());
        next.join().unwrap();

        let doomed = wait();
        notify.notify_one();
        doomed.cancel();
        assert!(doomed.join().is_err());
        assert!(notify.wait_until(in_millis(1)), "the notification became the permit again");
    });
}
