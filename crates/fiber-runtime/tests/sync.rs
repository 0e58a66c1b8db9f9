//! Locks, semaphores and wait groups: between fibers, between fibers and threads, under cancellation.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::sync::{Condvar, Mutex, RwLock, Semaphore, Spin, WaitGroup};
use fiber_runtime::{spawn, spawn_local, time, yield_now};

#[test]
fn mutex_excludes_fibers_of_several_workers_and_threads() {
    let counter = Arc::new(Mutex::new(0_u64));
    let runtime = runtime(3);
    let fibers: Vec<_> = (0..50)
        .map(|_| {
            let counter = Arc::clone(&counter);
            runtime.spawn(move || {
                for round in 0..200 {
                    let mut guard = counter.lock();
                    let seen = *guard;
                    if round % 16 == 0 {
                        // The guard may be held across a suspension.
                        yield_now();
                    }
                    *guard = seen + 1;
                }
            })
        })
        .collect();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || (0..2_000).for_each(|_| *counter.lock() += 1))
        })
        .collect();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*counter.lock(), 50 * 200 + 2 * 2_000);
}

#[test]
fn mutex_waiter_is_not_starved_by_a_fiber_that_keeps_locking() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(()));
        let stop = Arc::new(AtomicBool::new(false));
        let greedy = {
            let (lock, stop) = (Arc::clone(&lock), Arc::clone(&stop));
            spawn_local(move || {
                let mut rounds = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let guard = lock.lock();
                    yield_now();
                    drop(guard);
                    rounds += 1;
                    assert!(rounds < 100_000, "the other fiber never gets the lock");
                }
            })
        };
        yield_now();
        for _ in 0..100 {
            drop(lock.lock());
        }
        stop.store(true, Ordering::Relaxed);
        greedy.join().unwrap();
    });
}

#[test]
fn mutex_try_lock_refuses_while_held() {
    let lock = Mutex::new(5);
    let guard = lock.lock();
    assert!(lock.try_lock().is_none());
    drop(guard);
    assert_eq!(lock.try_lock().map(|guard| *guard), Some(5));
}

#[test]
fn mutex_is_released_by_a_panic() {
    on_fibers(2, || {
        let lock = Arc::new(Mutex::new(1));
        let held = Arc::clone(&lock);
        let fiber = spawn(move || {
            let _guard = held.lock();
            std::panic::panic_any("on purpose");
        });
        assert!(fiber.join().is_err());
        assert_eq!(*lock.lock(), 1);
    });
}

#[test]
fn cancelled_mutex_waiter_passes_its_turn_on() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(Vec::new()));
        let guard = lock.lock();
        let waiters: Vec<_> = (0..3)
            .map(|number| {
                let lock = Arc::clone(&lock);
                spawn_local(move || lock.lock().push(number))
            })
            .collect();
        yield_now();
        yield_now();
        // The first has its turn and is cancelled before it can use it; the others must not wait for ever.
        drop(guard);
        waiters[0].cancel();
        let outcomes: Vec<bool> = waiters.into_iter().map(|waiter| waiter.join().is_ok()).collect();
        assert_eq!(outcomes, [false, true, true]);
        assert_eq!(*lock.lock(), [1, 2]);
    });
}

#[test]
fn condvar_notification_between_unlock_and_wait_is_not_missed() {
    on_fibers(2, || {
        let shared = Arc::new((Mutex::new(0_u32), Condvar::new()));
        let other = Arc::clone(&shared);
        let ping = spawn(move || {
            let (turn, changed) = &*other;
            for round in 0..2_000 {
                let mut guard = changed.wait_while(turn.lock(), |turn| *turn != 2 * round + 1);
                *guard += 1;
                drop(guard);
                changed.notify_one();
            }
        });
        let (turn, changed) = &*shared;
        for round in 0..2_000 {
            let mut guard = changed.wait_while(turn.lock(), |turn| *turn != 2 * round);
            *guard += 1;
            drop(guard);
            changed.notify_one();
        }
        ping.join().unwrap();
        assert_eq!(*turn.lock(), 4_000);
    });
}

#[test]
fn condvar_wait_ends_at_its_deadline_with_the_lock_held() {
    on_fibers(1, || {
        let (lock, condvar) = (Mutex::new(7), Condvar::new());
        let deadline = in_millis(20);
        let (guard, notified) = condvar.wait_until(lock.lock(), deadline);
        assert!(!notified);
        assert!(time::now() >= deadline);
        assert_eq!(*guard, 7);
        assert!(lock.try_lock().is_none());
    });
}

#[test]
fn condvar_notify_all_wakes_fibers_and_threads() {
    let shared = Arc::new((Mutex::new((false, 0)), Condvar::new()));
    let wait = |shared: &Arc<(Mutex<(bool, u32)>, Condvar)>| {
        let shared = Arc::clone(shared);
        move || {
            let mut guard = shared.0.lock();
            guard.1 += 1;
            drop(shared.1.wait_while(guard, |state| !state.0));
        }
    };
    let runtime = runtime(2);
    let fibers: Vec<_> = (0..8).map(|_| runtime.spawn(wait(&shared))).collect();
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(wait(&shared))).collect();
    wait_for("ten waiters", || shared.0.lock().1 == 10);
    shared.0.lock().0 = true;
    shared.1.notify_all();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(shared.0.lock().1, 10);
}

#[test]
fn cancelled_condvar_waiter_passes_its_notification_on() {
    on_fibers(1, || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                spawn_local(move || *shared.1.wait(shared.0.lock()) += 1)
            })
            .collect();
        yield_now();
        yield_now();
        shared.1.notify_one();
        waiters[0].cancel();
        let outcomes: Vec<bool> = waiters.into_iter().map(|waiter| waiter.join().is_ok()).collect();
        assert_eq!(outcomes, [false, true]);
        assert_eq!(*shared.0.lock(), 1);
    });
}

#[test]
fn semaphore_admits_no_more_than_its_permits() {
    on_fibers(3, || {
        let semaphore = Arc::new(Semaphore::new(4));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let fibers: Vec<_> = (0..60)
            .map(|_| {
                let (semaphore, inside, most) = (semaphore.clone(), inside.clone(), most.clone());
                spawn(move || {
                    let _permit = semaphore.acquire();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    time::sleep(Duration::from_micros(300));
                    inside.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert_eq!(semaphore.available(), 4);
    });
}

#[test]
fn semaphore_does_not_let_small_requests_overtake_a_large_one() {
    on_fibers(1, || {
        let semaphore = Arc::new(Semaphore::new(3));
        let order = Arc::new(Spin::new(Vec::new()));
        let held = semaphore.acquire_many(2);
        let ask = |count: usize| {
            let (semaphore, order) = (semaphore.clone(), order.clone());
            spawn_local(move || {
                let _permit = semaphore.acquire_many(count);
                order.lock(|order| order.push(count));
            })
        };
        let fibers = [ask(3), ask(1)];
        yield_now();
        yield_now();
        assert!(semaphore.try_acquire().is_none(), "a newcomer must not overtake those who wait");
        drop(held);
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(order.lock(|order| order.clone()), [3, 1]);
    });
}

#[test]
fn semaphore_permits_survive_deadlines_and_cancellation() {
    on_fibers(1, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire();
        assert!(semaphore.acquire_until(in_millis(5)).is_none());
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = Arc::clone(&semaphore);
                spawn_local(move || drop(semaphore.acquire_owned()))
            })
            .collect();
        yield_now();
        yield_now();
        drop(permit);
        // The permit has been handed to the first, which is cancelled before it wakes.
        waiters[0].cancel();
        let outcomes: Vec<bool> = waiters.into_iter().map(|waiter| waiter.join().is_ok()).collect();
        assert_eq!(outcomes, [false, true]);
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn rwlock_shares_among_readers_and_excludes_writers() {
    on_fibers(3, || {
        let lock = Arc::new(RwLock::new((0_u64, 0_u64)));
        let fibers: Vec<_> = (0..30)
            .map(|number| {
                let lock = Arc::clone(&lock);
                spawn(move || {
                    for _ in 0..50 {
                        if number % 5 == 0 {
                            let mut pair = lock.write();
                            pair.0 += 1;
                            yield_now();
                            pair.1 += 1;
                        } else {
                            let pair = lock.read();
                            assert_eq!(pair.0, pair.1, "a reader saw half a write");
                            yield_now();
                            assert_eq!(pair.0, pair.1, "a writer came in beside a reader");
                        }
                    }
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(*lock.read(), (300, 300));
    });
}

#[test]
fn readers_behind_a_cancelled_writer_get_in() {
    on_fibers(1, || {
        let lock = Arc::new(RwLock::new(()));
        let reading = lock.read();
        let writer = {
            let lock = Arc::clone(&lock);
            spawn_local(move || drop(lock.write()))
        };
        yield_now();
        let reader = {
            let lock = Arc::clone(&lock);
            spawn_local(move || drop(lock.read()))
        };
        yield_now();
        assert!(!reader.is_finished(), "the reader waits behind the writer");
        writer.cancel();
        assert!(writer.join().is_err());
        reader.join().unwrap();
        drop(reading);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn wait_group_waits_for_fibers_and_threads_that_end_or_panic() {
    let group = WaitGroup::new();
    let runtime = runtime(2);
    let fibers: Vec<_> = (0..20_u64)
        .map(|number| {
            let token = group.enter();
            runtime.spawn(move || {
                let _token = token;
                time::sleep(Duration::from_millis(number % 5));
                assert!(number % 7 != 3, "on purpose");
            })
        })
        .collect();
    let token = group.enter();
    let thread = thread::spawn(move || drop(token));
    assert!(group.wait_until(in_millis(20_000)));
    assert_eq!(group.count(), 0);
    thread.join().unwrap();
    assert_eq!(
        fibers
            .into_iter()
            .filter(|_| true)
            .map(|fiber| fiber.join().is_err())
            .filter(|failed| *failed)
            .count(),
        3
    );
}

#[test]
fn wait_group_wait_ends_at_its_deadline() {
    let group = WaitGroup::new();
    let token = group.enter();
    assert!(!group.wait_until(in_millis(10)));
    drop(token);
    assert!(group.wait_until(in_millis(0)));
}

#[test]
fn a_contended_lock_does_not_hold_up_the_worker() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock();
        let waiting = {
            let lock = Arc::clone(&lock);
            spawn_local(move || drop(lock.lock()))
        };
        let ticks = spawn_local(|| (0..100).for_each(|_| yield_now()));
        ticks.join().unwrap();
        assert!(!waiting.is_finished());
        drop(guard);
        waiting.join().unwrap();
    });
}
