//! Locks with deadlines: a wait that ends in vain leaves nothing behind, and one that was refused holds nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::thread;

use common::{in_millis, on_fibers, runtime};
use fiber_runtime::sync::{Condvar, Mutex, RwLock, Semaphore};
use fiber_runtime::{spawn_local, time, yield_now};

#[test]
fn refused_rwlock_attempts_release_nothing() {
    let lock = RwLock::new(());
    let writing = lock.write();
    for _ in 0..3 {
        assert!(lock.try_read().is_none());
        assert!(lock.try_write().is_none());
        assert!(lock.read_until(in_millis(1)).is_none());
        assert!(lock.write_until(in_millis(1)).is_none());
    }
    drop(writing);
    let reading = lock.read();
    for _ in 0..3 {
        assert!(lock.try_write().is_none());
        assert!(lock.write_until(in_millis(1)).is_none());
    }
    drop((reading, lock.try_read().unwrap(), lock.read_until(in_millis(1)).unwrap()));
    drop(lock.write_until(in_millis(1)).unwrap());
}

#[test]
fn mutex_wait_ends_at_its_deadline_and_the_lock_stays_usable() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(1));
        assert_eq!(lock.lock_until(in_millis(0)).map(|guard| *guard), Some(1), "a free lock needs no time");
        let guard = lock.lock();
        let deadline = in_millis(10);
        assert!(lock.lock_until(deadline).is_none());
        assert!(time::now() >= deadline);
        // One that waits behind the one that gave up.
        let patient = {
            let lock = Arc::clone(&lock);
            spawn_local(move || lock.lock_until(in_millis(20_000)).map(|guard| *guard))
        };
        yield_now();
        drop(guard);
        assert_eq!(patient.join().unwrap(), Some(1));
        assert!(lock.try_lock().is_some());
    });
}

#[test]
fn mutex_turn_of_one_whose_deadline_has_passed_is_not_lost() {
    // Deadlines that pass at about the moment at which the lock comes free, among fibers and threads.
    let lock = Arc::new(Mutex::new(0_u32));
    let runtime = runtime(2);
    let try_often = |lock: &Arc<Mutex<u32>>| {
        let lock = Arc::clone(lock);
        move || {
            let mut got = 0;
            for round in 0..300_u64 {
                let until = time::now() + std::time::Duration::from_micros(round % 7 * 10);
                if let Some(mut guard) = lock.lock_until(until) {
                    *guard += 1;
                    got += 1;
                    time::sleep(std::time::Duration::from_micros(round % 3 * 10));
                }
            }
            got
        }
    };
    let fibers: Vec<_> = (0..6).map(|_| runtime.spawn(try_often(&lock))).collect();
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(try_often(&lock))).collect();
    let mut got: u32 = fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum();
    got += threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>();
    assert_eq!(*lock.lock_until(in_millis(20_000)).expect("the lock is free in the end"), got);
}

#[test]
fn readers_behind_a_writer_that_gave_up_get_in() {
    on_fibers(1, || {
        let lock = Arc::new(RwLock::new(5));
        let reading = lock.read();
        let writer = {
            let lock = Arc::clone(&lock);
            spawn_local(move || lock.write_until(in_millis(20)).is_none())
        };
        yield_now();
        assert!(lock.try_read().is_none(), "a reader does not overtake the writer");
        assert_eq!(lock.read_until(in_millis(20_000)).map(|value| *value), Some(5));
        assert!(writer.join().unwrap());
        drop(reading);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn small_requests_behind_a_large_one_that_gave_up_get_in() {
    on_fibers(1, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let held = semaphore.acquire();
        let large = {
            let semaphore = Arc::clone(&semaphore);
            spawn_local(move || semaphore.acquire_many_until(2, in_millis(20)).is_none())
        };
        yield_now();
        assert!(semaphore.try_acquire_many_owned(1).is_none(), "a small request does not overtake");
        let small = semaphore.acquire_many_owned_until(1, in_millis(20_000));
        assert!(small.is_some());
        assert!(large.join().unwrap());
        drop((held, small));
        assert_eq!(semaphore.available(), 2);
        drop(semaphore.acquire_many_owned(2));
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn condvar_waiter_that_gave_up_takes_no_notification() {
    on_fibers(1, || {
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        assert!(!shared.1.wait_until(shared.0.lock(), in_millis(5)).1);
        let waiting = {
            let shared = Arc::clone(&shared);
            spawn_local(move || shared.1.wait_until(shared.0.lock(), in_millis(20_000)).1)
        };
        yield_now();
        yield_now();
        shared.1.notify_one();
        assert!(waiting.join().unwrap(), "the notification went to one that was gone");
    });
}
