//! The locks of `std::sync` make a fiber wait, not its worker.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use common::{on_fibers, runtime, wait_for};
use fiber_runtime::{
    Fiber, JoinError, JoinHandle, current, hook, no_yield, sim, spawn, spawn_local, spawn_on, time,
    with_timeout, yield_now,
};

const MILLI: Duration = Duration::from_millis(1);

fn join<T>(fibers: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    fibers.into_iter().map(|fiber| fiber.join().unwrap()).collect()
}

/// A fiber of this worker that holds `lock` until `release` is set.
fn holder(lock: &Arc<Mutex<u32>>, release: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (lock, release) = (lock.clone(), release.clone());
    let holds = Arc::new(AtomicBool::new(false));
    let told = holds.clone();
    let fiber = spawn_local(move || {
        let mut guard = lock.lock().unwrap();
        told.store(true, Ordering::Relaxed);
        wait_for("the release", || release.load(Ordering::Relaxed));
        *guard += 1;
    });
    wait_for("the holder", || holds.load(Ordering::Relaxed));
    fiber
}

#[test]
fn a_mutex_that_is_held_across_sleeps_excludes_the_fibers_of_one_worker() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new((0, false)));
        let fibers: Vec<_> = (0..50)
            .map(|_| {
                let lock = lock.clone();
                spawn(move || {
                    for _ in 0..4 {
                        let mut guard = lock.lock().unwrap();
                        assert!(!std::mem::replace(&mut guard.1, true), "somebody else is in there");
                        thread::sleep(Duration::from_micros(50));
                        guard.0 += 1;
                        guard.1 = false;
                    }
                })
            })
            .collect();
        join(fibers);
        assert_eq!(lock.lock().unwrap().0, 200);
    });
}

#[test]
fn a_mutex_is_shared_by_fibers_of_two_workers_and_plain_threads() {
    let lock = Arc::new(Mutex::new(0_u32));
    let inside = Arc::new(AtomicUsize::new(0));
    let add = {
        let (lock, inside) = (lock.clone(), inside.clone());
        move || {
            for round in 0..20 {
                let mut guard = lock.lock().unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                if round % 4 == 0 {
                    thread::sleep(Duration::from_micros(20));
                }
                *guard += 1;
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(add.clone())).collect();
    on_fibers(2, move || {
        let fibers: Vec<_> = (0..40).map(|at| spawn_on(at % 2, add.clone())).collect();
        join(fibers);
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*lock.lock().unwrap(), 43 * 20);
}

#[test]
fn a_mutex_that_is_held_while_a_fiber_receives_makes_others_wait_and_their_worker_run() {
    on_fibers(1, || {
        let (mut here, there) = UnixStream::pair().unwrap();
        let lock = Arc::new(Mutex::new(there));
        let ticks = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let lock = lock.clone();
                spawn(move || {
                    let mut byte = [0];
                    lock.lock().unwrap().read_exact(&mut byte).unwrap();
                    byte[0]
                })
            })
            .collect();
        let ticker = {
            let ticks = ticks.clone();
            spawn(move || {
                for _ in 0..10 {
                    thread::sleep(MILLI);
                    ticks.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        ticker.join().unwrap();
        assert_eq!(ticks.load(Ordering::Relaxed), 10);
        assert!(readers.iter().all(|reader| !reader.is_finished()));
        here.write_all(&[7, 8]).unwrap();
        assert_eq!(join(readers), [7, 8], "the lock goes to who came first");
    });
}

#[test]
fn readers_share_a_lock_that_they_hold_across_sleeps_and_a_writer_excludes_them() {
    on_fibers(2, || {
        let lock = Arc::new(RwLock::new(0));
        let reading = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..40)
            .map(|at| {
                let (lock, reading, most) = (lock.clone(), reading.clone(), most.clone());
                spawn_on(at % 2, move || {
                    for _ in 0..5 {
                        if at % 8 == 0 {
                            let mut guard = lock.write().unwrap();
                            assert_eq!(reading.load(Ordering::Relaxed), 0, "a writer is alone");
                            thread::sleep(Duration::from_micros(100));
                            assert_eq!(reading.load(Ordering::Relaxed), 0, "a writer stays alone");
                            *guard += 1;
                        } else {
                            let guard = lock.read().unwrap();
                            let now = reading.fetch_add(1, Ordering::Relaxed) + 1;
                            most.fetch_max(now, Ordering::Relaxed);
                            let before = *guard;
                            thread::sleep(Duration::from_micros(100));
                            assert_eq!(*guard, before, "nobody writes meanwhile");
                            reading.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        join(fibers);
        assert_eq!(*lock.read().unwrap(), 25);
        assert!(most.load(Ordering::Relaxed) > 1, "readers share");
    });
}

#[test]
fn one_notification_wakes_one_fiber_and_all_wake_all() {
    on_fibers(1, || {
        let shared = Arc::new((Mutex::new(0_usize), Condvar::new()));
        let woken = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..10)
            .map(|_| {
                let (shared, woken, waiting) = (shared.clone(), woken.clone(), waiting.clone());
                spawn(move || {
                    let mut tickets = shared.0.lock().unwrap();
                    waiting.fetch_add(1, Ordering::Relaxed);
                    while *tickets == 0 {
                        tickets = shared.1.wait(tickets).unwrap();
                        woken.fetch_add(1, Ordering::Relaxed);
                    }
                    *tickets -= 1;
                })
            })
            .collect();
        wait_for("everybody to wait", || waiting.load(Ordering::Relaxed) == 10);
        *shared.0.lock().unwrap() = 1;
        shared.1.notify_one();
        wait_for("one to finish", || fibers.iter().filter(|fiber| fiber.is_finished()).count() == 1);
        time::sleep(5 * MILLI);
        assert_eq!(woken.load(Ordering::Relaxed), 1, "one notification, one fiber");
        *shared.0.lock().unwrap() = 9;
        shared.1.notify_all();
        join(fibers);
        assert_eq!(woken.load(Ordering::Relaxed), 10);
    });
}

#[test]
fn a_notification_reaches_a_fiber_from_a_thread_and_a_thread_from_a_fiber() {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let play = |mine: u32, shared: Arc<(Mutex<u32>, Condvar)>| {
        let mut turn = shared.0.lock().unwrap();
        while *turn < 200 {
            if *turn % 2 == mine {
                *turn += 1;
                shared.1.notify_one();
            }
            turn = shared.1.wait_while(turn, |turn| *turn < 200 && *turn % 2 != mine).unwrap();
        }
        shared.1.notify_one();
        *turn
    };
    let other = {
        let shared = shared.clone();
        thread::spawn(move || play(1, shared))
    };
    assert_eq!(on_fibers(1, move || play(0, shared)), 200);
    assert_eq!(other.join().unwrap(), 200);
}

#[test]
fn timed_waits_end_when_they_should_and_let_others_run() {
    on_fibers(1, || {
        let start = Instant::now();
        let fibers: Vec<_> = (0..100)
            .map(|_| {
                spawn(|| {
                    let shared = (Mutex::new(()), Condvar::new());
                    let start = Instant::now();
                    let guard = shared.0.lock().unwrap();
                    let (_guard, result) = shared.1.wait_timeout(guard, 20 * MILLI).unwrap();
                    assert!(result.timed_out());
                    start.elapsed()
                })
            })
            .collect();
        for took in join(fibers) {
            assert!(took >= 20 * MILLI, "not before its time: {took:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(1), "they wait together");
    });
}

#[test]
fn a_wait_without_time_ends_at_once_and_one_without_end_waits() {
    on_fibers(1, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let guard = shared.0.lock().unwrap();
        let (guard, result) = shared.1.wait_timeout(guard, Duration::ZERO).unwrap();
        assert!(result.timed_out());
        let notifier = {
            let shared = shared.clone();
            spawn_local(move || {
                *shared.0.lock().unwrap() = true;
                shared.1.notify_one();
            })
        };
        let (guard, result) = shared.1.wait_timeout_while(guard, Duration::MAX, |done| !*done).unwrap();
        assert!(*guard && !result.timed_out());
        drop(guard);
        notifier.join().unwrap();
    });
}

#[test]
fn who_asks_for_no_time_at_all_does_not_keep_the_worker() {
    on_fibers(1, || {
        let done = Arc::new(AtomicBool::new(false));
        let other = {
            let done = done.clone();
            spawn_local(move || done.store(true, Ordering::Relaxed))
        };
        let shared = (Mutex::new(()), Condvar::new());
        let mut asked = 0_u32;
        while !done.load(Ordering::Relaxed) {
            let guard = shared.0.lock().unwrap();
            drop(shared.1.wait_timeout(guard, Duration::ZERO));
            asked += 1;
            assert!(asked < 100_000, "the other fiber never runs");
        }
        other.join().unwrap();
    });
}

#[test]
fn who_locks_again_at_once_does_not_keep_a_neighbour_from_the_lock() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(0_u32));
        let got = Arc::new(AtomicBool::new(false));
        let neighbour = {
            let (lock, got) = (lock.clone(), got.clone());
            spawn_local(move || {
                *lock.lock().unwrap() += 1;
                got.store(true, Ordering::Relaxed);
            })
        };
        let mut rounds = 0_u32;
        while !got.load(Ordering::Relaxed) {
            let guard = lock.lock().unwrap();
            yield_now();
            drop(guard);
            rounds += 1;
            assert!(rounds < 10_000, "the neighbour starves");
        }
        neighbour.join().unwrap();
    });
}

#[test]
fn threads_and_fibers_that_wait_for_one_lock_both_get_it() {
    let lock = Arc::new(Mutex::new(()));
    let stop = Arc::new(AtomicBool::new(false));
    let by_thread = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (lock, stop, by_thread) = (lock.clone(), stop.clone(), by_thread.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _guard = lock.lock().unwrap();
                    by_thread.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(200));
                }
            })
        })
        .collect();
    let counted = by_thread.clone();
    on_fibers(1, move || {
        let by_fiber = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..4)
            .map(|_| {
                let (lock, stop, by_fiber) = (lock.clone(), stop.clone(), by_fiber.clone());
                spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let _guard = lock.lock().unwrap();
                        by_fiber.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_micros(200));
                    }
                })
            })
            .collect();
        wait_for("both kinds to have had the lock", || {
            by_fiber.load(Ordering::Relaxed) >= 20 && counted.load(Ordering::Relaxed) >= 20
        });
        stop.store(true, Ordering::Relaxed);
        join(fibers);
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(by_thread.load(Ordering::Relaxed) >= 20);
}

#[test]
fn whatever_is_made_once_is_made_once_while_its_maker_sleeps() {
    static LAZY: LazyLock<u32> = LazyLock::new(|| {
        thread::sleep(5 * MILLI);
        MADE.fetch_add(1, Ordering::Relaxed);
        7
    });
    static MADE: AtomicUsize = AtomicUsize::new(0);
    on_fibers(2, || {
        let once = Arc::new(Once::new());
        let cell = Arc::new(OnceLock::new());
        let count = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..20)
            .map(|at| {
                let (once, cell, count) = (once.clone(), cell.clone(), count.clone());
                spawn_on(at % 2, move || {
                    let count = || {
                        thread::sleep(2 * MILLI);
                        count.fetch_add(1, Ordering::Relaxed)
                    };
                    once.call_once(|| {
                        count();
                    });
                    let number = *cell.get_or_init(&count);
                    assert!(once.is_completed());
                    (number, *LAZY)
                })
            })
            .collect();
        assert!(join(fibers).iter().all(|made| *made == (1, 7)));
        assert_eq!((count.load(Ordering::Relaxed), MADE.load(Ordering::Relaxed)), (2, 1));
    });
}

#[test]
fn a_barrier_lets_all_its_fibers_pass_together() {
    on_fibers(2, || {
        let barrier = Arc::new(Barrier::new(30));
        let before = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..30)
            .map(|at| {
                let (barrier, before) = (barrier.clone(), before.clone());
                spawn_on(at % 2, move || {
                    before.fetch_add(1, Ordering::Relaxed);
                    let leads = barrier.wait().is_leader();
                    assert_eq!(before.load(Ordering::Relaxed), 30);
                    leads
                })
            })
            .collect();
        assert_eq!(join(fibers).into_iter().filter(|leads| *leads).count(), 1);
    });
}

#[test]
fn a_lock_that_a_panicking_fiber_held_is_poisoned_and_passed_on() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(1));
        let panicking = {
            let lock = lock.clone();
            spawn_local(move || {
                let _guard = lock.lock().unwrap();
                time::sleep(2 * MILLI);
                std::panic::panic_any("on purpose");
            })
        };
        yield_now();
        let waiting = {
            let lock = lock.clone();
            spawn_local(move || *lock.lock().unwrap_err().into_inner())
        };
        assert!(matches!(panicking.join(), Err(JoinError::Panicked(_))));
        assert_eq!(waiting.join().unwrap(), 1);
        assert!(lock.is_poisoned());
    });
}

#[test]
fn a_cancelled_fiber_goes_on_waiting_for_its_lock_and_ends_at_its_next_wait() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let holder = holder(&lock, &release);
        let locked = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (lock, locked) = (lock.clone(), locked.clone());
            spawn_local(move || {
                let guard = lock.lock().unwrap();
                locked.store(true, Ordering::Relaxed);
                drop(guard);
                time::sleep(Duration::from_secs(60));
            })
        };
        yield_now();
        waiter.cancel();
        let switches = || fiber_runtime::Handle::current().metrics().total().switches;
        let before = switches();
        time::sleep(10 * MILLI);
        assert!(!waiter.is_finished() && !locked.load(Ordering::Relaxed), "the lock is held");
        assert!(switches() - before < 1_000, "it waits, it does not spin");
        release.store(true, Ordering::Relaxed);
        holder.join().unwrap();
        assert!(matches!(waiter.join(), Err(JoinError::Cancelled)));
        assert!(locked.load(Ordering::Relaxed) && !lock.is_poisoned());
    });
}

#[test]
fn a_fiber_that_is_cancelled_before_it_locks_waits_as_well() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let holder = holder(&lock, &release);
        let waiter = {
            let lock = lock.clone();
            spawn_local(move || {
                current().cancel();
                *lock.lock().unwrap()
            })
        };
        yield_now();
        release.store(true, Ordering::Relaxed);
        holder.join().unwrap();
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

#[test]
fn the_deadline_of_a_scope_does_not_end_a_wait_for_a_lock() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let holder = holder(&lock, &release);
        let later = {
            let release = release.clone();
            spawn_local(move || {
                time::sleep(20 * MILLI);
                release.store(true, Ordering::Relaxed);
            })
        };
        let within = with_timeout(2 * MILLI, || *lock.lock().unwrap());
        assert_eq!(within.ok(), Some(1), "a lock is not an operation that a deadline ends");
        join([holder, later]);
    });
}

/// Runs a closure when it goes.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Has a lock held by fiber of worker 1 for a while, and `body` run on worker 0, which is to wait for it; there another
/// fiber waits for the lock as well, and comes first.
fn while_a_neighbour_waits(body: impl FnOnce(&Mutex<u32>) + Send + 'static) {
    on_fibers(2, move || {
        let lock = Arc::new(Mutex::new(0));
        let held = Arc::new(AtomicBool::new(false));
        let holder = {
            let (lock, held) = (lock.clone(), held.clone());
            spawn_on(1, move || {
                let mut guard = lock.lock().unwrap();
                held.store(true, Ordering::Relaxed);
                time::sleep(20 * MILLI);
                *guard += 1;
            })
        };
        wait_for("the holder", || held.load(Ordering::Relaxed));
        let other = lock.clone();
        let fiber = spawn_on(0, move || {
            let neighbour = {
                let lock = other.clone();
                spawn_local(move || *lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1)
            };
            yield_now();
            body(&other);
            neighbour.join().unwrap();
        });
        holder.join().unwrap();
        drop(fiber.join());
        assert_eq!(*lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), 3);
    });
}

#[test]
fn a_lock_is_waited_for_while_a_fiber_unwinds() {
    while_a_neighbour_waits(|lock| {
        let caught = std::panic::catch_unwind(|| {
            let _at_end = AtEnd(|| *lock.lock().unwrap() += 1);
            std::panic::panic_any("on purpose");
        });
        assert!(caught.is_err());
    });
}

#[test]
fn a_wake_that_goes_to_a_fiber_which_cannot_run_does_not_hang_its_worker() {
    while_a_neighbour_waits(|lock| hook::disabled(|| *lock.lock().unwrap() += 1));
    while_a_neighbour_waits(|lock| no_yield(|| *lock.lock().unwrap() += 1));
}

#[test]
fn a_timed_wait_of_a_fiber_that_holds_its_worker_is_exact() {
    on_fibers(1, || {
        for wait in [MILLI / 2, 5 * MILLI, 30 * MILLI] {
            let shared = (Mutex::new(()), Condvar::new());
            let start = Instant::now();
            let timed_out = no_yield(|| {
                let guard = shared.0.lock().unwrap();
                shared.1.wait_timeout(guard, wait).unwrap().1.timed_out()
            });
            let took = start.elapsed();
            assert!(timed_out && took >= wait, "{took:?} instead of {wait:?}");
        }
    });
}

#[test]
fn a_wait_for_a_lock_is_seen_in_a_dump() {
    let runtime = runtime(1);
    let lock = Arc::new(Mutex::new(0));
    let guard = lock.lock().unwrap();
    let fiber = {
        let lock = lock.clone();
        let named = fiber_runtime::FiberBuilder::new().name("locker");
        runtime.handle().spawn_with(named, move || *lock.lock().unwrap())
    };
    wait_for("the fiber to be listed", || {
        runtime
            .dump()
            .fiber("locker")
            .is_some_and(|locker| locker.state.to_string().contains("std::sync lock"))
    });
    drop(guard);
    assert_eq!(fiber.join().unwrap(), 0);
}

#[test]
fn a_simulated_fiber_waits_for_a_lock_in_virtual_time() {
    for seed in 0..20 {
        sim::Sim::new(seed).run(|| {
            let start = (Instant::now(), time::now());
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            let fibers: Vec<_> = (0..5)
                .map(|_| {
                    let shared = shared.clone();
                    spawn(move || {
                        let mut guard = shared.0.lock().unwrap();
                        thread::sleep(Duration::from_secs(10));
                        *guard += 1;
                        shared.1.notify_all();
                    })
                })
                .collect();
            let all = shared.1.wait_while(shared.0.lock().unwrap(), |sum| *sum < 5).unwrap();
            assert_eq!(*all, 5);
            let hour = Duration::from_secs(3600);
            let (guard, result) = shared.1.wait_timeout(all, hour).unwrap();
            assert!(result.timed_out());
            drop(guard);
            join(fibers);
            let virtually = time::now() - start.1;
            assert!(virtually > hour && virtually < hour + Duration::from_secs(60), "{virtually:?}");
            assert!(start.0.elapsed() < Duration::from_secs(20));
        });
    }
}

#[test]
fn a_thread_local_stays_the_fibers_worker_s_while_it_waits_for_a_lock() {
    thread_local!(static WORKER: Cell<usize> = const { Cell::new(0) });
    on_fibers(2, || {
        let lock = Arc::new(Mutex::new(()));
        let fibers: Vec<_> = (0..20)
            .map(|at| {
                let lock = lock.clone();
                spawn_on(at % 2, move || {
                    WORKER.set(at % 2 + 1);
                    for _ in 0..10 {
                        let _guard = lock.lock().unwrap();
                        thread::sleep(Duration::from_micros(20));
                        assert_eq!(WORKER.get(), at % 2 + 1);
                    }
                })
            })
            .collect();
        join(fibers);
    });
}

#[test]
fn errno_is_as_it_was_after_a_wait_and_a_wake() {
    fn errno() -> i32 {
        std::io::Error::last_os_error().raw_os_error().unwrap()
    }
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(0));
        let release = Arc::new(AtomicBool::new(true));
        let holder = holder(&lock, &release);
        // Leaves an error number of its own.
        assert!(std::fs::metadata("/nonexistent").is_err());
        let before = errno();
        assert_eq!(before, libc::ENOENT);
        let guard = lock.lock().unwrap();
        assert_eq!(errno(), before);
        let waiter = {
            let lock = lock.clone();
            spawn_local(move || *lock.lock().unwrap())
        };
        drop(std::fs::metadata("/nonexistent"));
        yield_now();
        drop(guard);
        assert_eq!(errno(), before);
        holder.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn park_keeps_its_tokens_in_fibers_of_a_callers_worker_too() {
    // The thread drives a worker itself, and has a life before and after.
    let runtime = fiber_runtime::Runtime::builder().use_caller(true).workers(1).build().unwrap();
    let parked = thread::current();
    parked.unpark();
    runtime.block_on(move || {
        // The token from outside, or a wait: `park` may return early, but not never.
        thread::park();
        let done = Arc::new(AtomicBool::new(false));
        let thread = {
            let done = done.clone();
            thread::spawn(move || {
                thread::sleep(10 * MILLI);
                done.store(true, Ordering::Release);
                parked.unpark();
            })
        };
        while !done.load(Ordering::Acquire) {
            thread::park();
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_simulated_fiber_that_wants_a_lock_of_a_thread_outside_waits_for_it_as_if_nothing_was() {
    let run = |hold: bool| {
        let lock = Arc::new(Mutex::new(()));
        let held = Arc::new(Barrier::new(2));
        let outsider = {
            let (lock, held) = (lock.clone(), held.clone());
            thread::spawn(move || {
                let guard = hold.then(|| lock.lock().unwrap());
                held.wait();
                thread::sleep(5 * MILLI);
                drop(guard);
            })
        };
        held.wait();
        let order = sim::Sim::new(3).run(move || {
            let order = Arc::new(Mutex::new(Vec::new()));
            let fibers: Vec<_> = (0..10)
                .map(|at| {
                    let (lock, order) = (lock.clone(), order.clone());
                    spawn(move || {
                        drop(lock.lock().unwrap());
                        time::sleep(at * MILLI / 3);
                        order.lock().unwrap().push(at);
                        (0..5).for_each(|_| yield_now());
                        order.lock().unwrap().push(at);
                    })
                })
                .collect();
            join(fibers);
            (time::now(), Arc::try_unwrap(order).unwrap().into_inner().unwrap())
        });
        outsider.join().unwrap();
        order.1
    };
    let alone = run(false);
    assert_eq!(alone.len(), 20);
    for _ in 0..5 {
        assert_eq!(run(true), alone, "the seed decides, and not who else has the lock");
    }
}

#[test]
fn a_simulated_fiber_that_unwinds_waits_for_a_lock_of_a_thread_outside() {
    let lock = Arc::new(Mutex::new(0));
    let held = Arc::new(Barrier::new(2));
    let outsider = {
        let (lock, held) = (lock.clone(), held.clone());
        thread::spawn(move || {
            let _guard = lock.lock().unwrap();
            held.wait();
            thread::sleep(30 * MILLI);
        })
    };
    held.wait();
    sim::Sim::new(1).run(move || {
        let caught = std::panic::catch_unwind(|| {
            let _at_end = AtEnd(|| *lock.lock().unwrap() += 1);
            std::panic::panic_any("on purpose");
        });
        assert!(caught.is_err());
    });
    outsider.join().unwrap();
}

/// Fibers of two workers and plain threads at locks that are held across waits, for `duration`.
fn storm(duration: Duration) {
    const LOCKS: usize = 7;
    let state: Arc<Vec<(Mutex<[u64; 2]>, Condvar)>> =
        Arc::new((0..LOCKS).map(|_| (Mutex::new([0; 2]), Condvar::new())).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let work = {
        let (state, stop) = (state.clone(), stop.clone());
        move |me: usize, may_sleep: bool| {
            let mut random = me as u64 * 2 + 1;
            let mut done = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let choice = random >> 33;
                let (lock, changed) = &state[choice as usize % LOCKS];
                let mut guard = lock.lock().unwrap();
                guard[0] += 1;
                match choice / 7 % 8 {
                    0 if may_sleep => thread::sleep(Duration::from_micros(choice % 90)),
                    1 => thread::yield_now(),
                    2 => changed.notify_one(),
                    3 => changed.notify_all(),
                    4 => guard = changed.wait_timeout(guard, Duration::from_micros(choice % 300)).unwrap().0,
                    _ => {}
                }
                guard[1] += 1;
                drop(guard);
                done += 1;
            }
            done
        }
    };
    let threads: Vec<_> = (0..3)
        .map(|at| {
            let work = work.clone();
            thread::spawn(move || work(at, true))
        })
        .collect();
    let total = on_fibers(2, move || {
        let fibers: Vec<_> = (0..100)
            .map(|at| {
                let work = work.clone();
                spawn_on(at % 2, move || work(at + 100, true))
            })
            .collect();
        time::sleep(duration);
        stop.store(true, Ordering::Relaxed);
        let done = join(fibers);
        assert!(done.iter().all(|done| *done > 0), "everybody gets on: {done:?}");
        done.iter().sum::<u64>()
    });
    let by_threads: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(by_threads > 0);
    let sums = state
        .iter()
        .map(|(lock, _)| *lock.lock().unwrap())
        .fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    assert_eq!(sums, [total + by_threads; 2]);
}

#[test]
fn no_wake_is_lost_under_stress() {
    storm(Duration::from_secs(1));
}

#[test]
fn handles_of_fibers_that_wait_for_locks_may_be_used_meanwhile() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(0));
        let release = Arc::new(AtomicBool::new(false));
        let holder = holder(&lock, &release);
        let waiter = {
            let lock = lock.clone();
            spawn_local(move || *lock.lock().unwrap())
        };
        yield_now();
        // Tokens that are meant for `park`, not for the lock.
        let fiber: &Fiber = waiter.fiber();
        (0..10).for_each(|_| {
            fiber.unpark();
            yield_now();
        });
        assert!(!waiter.is_finished());
        release.store(true, Ordering::Relaxed);
        holder.join().unwrap();
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

/// A lock that is held across a wait, by fibers of one worker: with hooks or without, in a process of its own.
#[test]
fn the_same_program_hangs_without_the_hooks() {
    const CHILD: &str = "HOOK_STD_SYNC_CHILD";
    const NAME: &str = "the_same_program_hangs_without_the_hooks";

    fn program(hooks: bool) {
        let runtime = runtime(2);
        let lock = Arc::new(Mutex::new(0));
        let add = |lock: Arc<Mutex<u32>>| {
            move || {
                let mut sum = lock.lock().unwrap();
                time::sleep(MILLI);
                *sum += 1;
            }
        };
        let fibers: Vec<_> = (0..10)
            .map(|_| {
                let add = add(lock.clone());
                runtime.spawn(move || if hooks { add() } else { hook::disabled(add) })
            })
            .collect();
        join(fibers);
        assert_eq!(*lock.lock().unwrap(), 10);
    }
    if let Ok(mode) = std::env::var(CHILD) {
        return program(mode == "hooks");
    }
    let ends_within = |mode: &str, limit: Duration| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME]).env(CHILD, mode).stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{mode}: {status}");
                return true;
            }
            thread::sleep(5 * MILLI);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        false
    };
    assert!(ends_within("hooks", common::PATIENCE), "it ends with hooks");
    assert!(!ends_within("no hooks", Duration::from_secs(3)), "it hangs without them");
}
