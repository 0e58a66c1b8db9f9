//! Everything in `sync` used by plain threads only: no stack is switched, so miri can run it, and sees what the locks and
//! lists do to memory.
//!
//! ```text
//! MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..8" \
//!     cargo +nightly miri test -p fiber-runtime --no-default-features --test plain_threads
//! ```

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fiber_runtime::sync::{
    Barrier, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore, Spin, WaitGroup, broadcast, channel,
    oneshot, watch,
};

/// Threads of a test, and how often each does what it does.
const THREADS: u32 = 3;
const ROUNDS: u32 = if cfg!(miri) { 6 } else { 2000 };

/// Runs `body` on every one of [`THREADS`] threads.
fn together(body: impl Fn(u32) + Sync) {
    thread::scope(|scope| {
        for number in 0..THREADS {
            let body = &body;
            scope.spawn(move || body(number));
        }
    });
}

fn soon() -> Instant {
    Instant::now() + Duration::from_micros(50)
}

#[test]
fn a_spin_lock_and_a_mutex_admit_one_at_a_time() {
    let (spin, mutex, late) = (Spin::new(0), Mutex::new(0), AtomicU32::new(0));
    together(|_| {
        for _ in 0..ROUNDS {
            spin.lock(|sum| *sum += 1);
            *mutex.lock() += 1;
            match mutex.lock_until(soon()) {
                Some(mut sum) => *sum += 1,
                None => drop(late.fetch_add(1, Ordering::Relaxed)),
            }
        }
    });
    assert_eq!(spin.into_inner(), THREADS * ROUNDS);
    assert_eq!(mutex.into_inner() + late.into_inner(), 2 * THREADS * ROUNDS);
}

#[test]
fn readers_share_and_writers_do_not() {
    let lock = RwLock::new((0, 0));
    together(|number| {
        for _ in 0..ROUNDS {
            if number == 0 {
                let mut both = lock.write();
                both.0 += 1;
                both.1 += 1;
            } else {
                let both = lock.read();
                assert_eq!(both.0, both.1);
            }
        }
    });
    assert_eq!(*lock.read(), (ROUNDS, ROUNDS));
}

#[test]
fn a_condition_is_waited_for_in_turn() {
    let (turn, changed) = (Mutex::new(0), Condvar::new());
    together(|number| {
        for _ in 0..ROUNDS {
            let mut now = turn.lock();
            while *now % THREADS != number {
                now = changed.wait(now);
            }
            *now += 1;
            changed.notify_all();
        }
    });
    assert_eq!(turn.into_inner(), THREADS * ROUNDS);
}

#[test]
fn permits_bound_how_many_are_inside() {
    let (permits, inside) = (Semaphore::new(2), AtomicU32::new(0));
    together(|_| {
        for _ in 0..ROUNDS {
            let _permit = permits.acquire();
            assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
            thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    });
    assert!(permits.try_acquire().is_some());
}

#[test]
fn values_go_through_small_channels_from_many_to_many() {
    let (sender, receiver) = channel::bounded(2);
    let sum = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (receiver, sum) = (receiver.clone(), &sum);
            // Values with a heap allocation, so that a lost or doubled one shows.
            scope.spawn(move || {
                for value in receiver.iter() {
                    let value: Box<u32> = value;
                    sum.fetch_add(*value, Ordering::Relaxed);
                }
            });
        }
        drop(receiver);
        for _ in 0..THREADS {
            let sender = sender.clone();
            scope.spawn(move || (0..ROUNDS).for_each(|value| sender.send(Box::new(value)).unwrap()));
        }
        drop(sender);
    });
    assert_eq!(sum.into_inner(), THREADS * (ROUNDS * (ROUNDS - 1) / 2));
}

#[test]
fn waits_that_time_out_leave_the_channel_whole() {
    let (sender, receiver) = channel::bounded(1);
    let (sent, received) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let (sent, received) = (&sent, &received);
        scope.spawn(move || {
            for value in 0..ROUNDS {
                if sender.send_until(Box::new(value), soon()).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        scope.spawn(move || {
            loop {
                match receiver.recv_until(soon()) {
                    Ok(_) => drop(received.fetch_add(1, Ordering::Relaxed)),
                    Err(channel::RecvTimeoutError::Timeout) => {}
                    Err(channel::RecvTimeoutError::Closed) => return,
                }
            }
        });
    });
    assert_eq!(sent.into_inner(), received.into_inner());
}

#[test]
fn one_value_goes_through_a_oneshot_or_comes_back() {
    for round in 0..ROUNDS {
        let (sender, receiver) = oneshot::channel();
        thread::scope(|scope| {
            let sending = scope.spawn(move || sender.send(Box::new(round)));
            let received =
                if round % 3 == 0 { receiver.recv_until(soon()).ok() } else { receiver.recv().ok() };
            let returned = sending.join().unwrap();
            if let Some(value) = received {
                assert_eq!(*value, round);
                assert!(returned.is_ok());
            }
        });
    }
}

#[test]
fn a_cell_is_initialised_once_and_seen_by_all() {
    for round in 0..ROUNDS.min(50) {
        let (cell, made) = (OnceCell::new(), AtomicU32::new(0));
        together(|_| {
            let value = cell.get_or_init(|| {
                made.fetch_add(1, Ordering::Relaxed);
                Box::new(round)
            });
            assert_eq!(**value, round);
        });
        assert_eq!(made.into_inner(), 1);
    }
}

#[test]
fn all_meet_at_a_barrier_and_a_group_is_waited_for() {
    let (barrier, group, leaders) = (Barrier::new(THREADS as usize), WaitGroup::new(), AtomicU32::new(0));
    together(|_| {
        for _ in 0..ROUNDS.min(200) {
            let _token = group.enter();
            if barrier.wait().is_leader() {
                leaders.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    group.wait();
    assert_eq!(leaders.into_inner(), ROUNDS.min(200));
}

#[test]
fn a_notification_is_kept_or_given_to_one() {
    let (notify, count) = (Notify::new(), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while count.load(Ordering::Acquire) < ROUNDS {
                notify.wait();
            }
        });
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                count.fetch_add(1, Ordering::Release);
                notify.notify_one();
            }
        });
    });
}

#[test]
fn watchers_see_the_last_value_and_listeners_all() {
    let (newest, mut watching) = watch::channel(0);
    let (sender, mut listening) = broadcast::channel(ROUNDS as usize);
    thread::scope(|scope| {
        scope.spawn(move || {
            for value in 1..=ROUNDS {
                newest.send(value).unwrap();
                sender.send(Box::new(value)).unwrap();
            }
        });
        scope.spawn(move || {
            let mut last = 0;
            while watching.changed().is_ok() {
                let now = *watching.borrow_and_update();
                assert!(now > last, "{now} after {last}");
                last = now;
            }
            assert_eq!(last, ROUNDS);
        });
        scope.spawn(move || {
            for value in 1..=ROUNDS {
                assert_eq!(*listening.recv().unwrap(), value);
            }
            assert!(listening.recv().is_err());
        });
    });
}
