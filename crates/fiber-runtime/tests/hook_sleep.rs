//! `std::thread::sleep` and its relatives park the fiber, not the worker.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::on_fibers;
use fiber_runtime::{hook, sim, spawn, spawn_local, time, yield_now};

#[test]
fn a_thousand_fibers_of_one_worker_sleep_at_the_same_time() {
    let start = Instant::now();
    on_fibers(1, || {
        let fibers: Vec<_> = (0..1_000)
            .map(|_| {
                spawn(|| {
                    let start = Instant::now();
                    thread::sleep(Duration::from_millis(100));
                    assert!(start.elapsed() >= Duration::from_millis(100));
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "one after the other would take 100 s, this took {took:?}");
}

#[test]
fn the_hooks_are_in_place() {
    assert_eq!(hook::self_test(), Ok(()));
    on_fibers(1, || {
        assert_eq!(hook::self_test(), Ok(()));
        assert!(hook::enabled());
    });
}

#[test]
fn outside_a_fiber_nothing_changes() {
    assert!(!hook::enabled());
    let start = Instant::now();
    thread::sleep(Duration::from_millis(20));
    assert!(start.elapsed() >= Duration::from_millis(20));
    thread::yield_now();
}

#[test]
fn disabled_hooks_hold_the_worker_and_come_back() {
    on_fibers(1, || {
        let ticks = Arc::new(AtomicUsize::new(0));
        let other = {
            let ticks = Arc::clone(&ticks);
            spawn_local(move || {
                for _ in 0..5 {
                    ticks.fetch_add(1, Ordering::Relaxed);
                    yield_now();
                }
            })
        };
        hook::disabled(|| {
            assert!(!hook::enabled());
            thread::sleep(Duration::from_millis(5));
        });
        assert_eq!(ticks.load(Ordering::Relaxed), 0, "no other fiber ran");
        assert!(hook::enabled());
        let unwound = std::panic::catch_unwind(|| hook::disabled(|| std::panic::panic_any("on purpose")));
        assert!(unwound.is_err() && hook::enabled(), "an unwinding scope restores the hooks");
        thread::sleep(Duration::from_millis(5));
        assert!(ticks.load(Ordering::Relaxed) > 0);
        other.join().unwrap();
    });
}

#[test]
fn every_sleeping_call_of_libc_parks() {
    /// Runs `call` in a fiber next to one that counts, and says how often that one ran.
    fn ticks_during(call: fn()) -> usize {
        on_fibers(1, move || {
            let sleeper = spawn_local(move || {
                let start = Instant::now();
                call();
                assert!(start.elapsed() >= Duration::from_millis(5));
            });
            let mut ticks = 0;
            while !sleeper.is_finished() {
                ticks += 1;
                time::sleep(Duration::from_micros(200));
            }
            sleeper.join().unwrap();
            ticks
        })
    }

    fn in_millis(clock: libc::clockid_t, millis: i64) -> libc::timespec {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the timespec lives through the call.
        unsafe { libc::clock_gettime(clock, &raw mut now) };
        let nanos = now.tv_nsec + millis * 1_000_000;
        libc::timespec { tv_sec: now.tv_sec + nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 }
    }

    fn absolute(clock: libc::clockid_t) {
        let until = in_millis(clock, 6);
        // SAFETY: the request lives through the call, and what remains is not asked for.
        let result = unsafe {
            libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &raw const until, std::ptr::null_mut())
        };
        assert_eq!(result, 0);
    }

    let calls: [(&str, fn()); 5] = [
        ("usleep", || {
            // SAFETY: takes a number.
            assert_eq!(unsafe { libc::usleep(6_000) }, 0);
        }),
        ("nanosleep", || {
            let request = libc::timespec { tv_sec: 0, tv_nsec: 6_000_000 };
            // SAFETY: the request lives through the call, and what remains is not asked for.
            assert_eq!(unsafe { libc::nanosleep(&raw const request, std::ptr::null_mut()) }, 0);
        }),
        ("clock_nanosleep, monotonic", || absolute(libc::CLOCK_MONOTONIC)),
        ("clock_nanosleep, real time", || absolute(libc::CLOCK_REALTIME)),
        ("sleep", || {
            // SAFETY: takes a number.
            assert_eq!(unsafe { libc::sleep(1) }, 0);
        }),
    ];
    for (name, call) in calls {
        let ticks = ticks_during(call);
        assert!(ticks >= 3, "{name}: the other fiber ran {ticks} times");
    }
}

#[test]
fn invalid_sleeps_fail_as_the_kernel_says() {
    let check = || {
        let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        // SAFETY: the request lives through the calls, and what remains is not asked for.
        unsafe {
            let monotonic = libc::CLOCK_MONOTONIC;
            // This one returns the error number.
            assert_eq!(
                libc::clock_nanosleep(monotonic, 0, &raw const bad, std::ptr::null_mut()),
                libc::EINVAL
            );
            assert_eq!(libc::nanosleep(&raw const bad, std::ptr::null_mut()), -1);
            assert_eq!(*libc::__errno_location(), libc::EINVAL);
        }
    };
    check();
    on_fibers(1, check);
}

#[test]
fn thread_yield_now_lets_other_fibers_run() {
    on_fibers(1, || {
        let ran = Arc::new(AtomicUsize::new(0));
        let other = {
            let ran = Arc::clone(&ran);
            spawn_local(move || ran.fetch_add(1, Ordering::Relaxed))
        };
        thread::yield_now();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        other.join().unwrap();
    });
}

#[test]
fn a_cancelled_sleeper_ends_early_and_unwinds_later() {
    on_fibers(1, || {
        let sleeper = spawn_local(|| {
            thread::sleep(Duration::from_secs(3600));
            yield_now();
            unreachable!("a cancelled fiber is unwound at its next suspension");
        });
        yield_now();
        sleeper.cancel();
        assert!(matches!(sleeper.join(), Err(fiber_runtime::JoinError::Cancelled)));
    });
}

#[test]
fn in_a_simulation_std_sleeps_in_virtual_time() {
    let start = Instant::now();
    let slept = sim::Sim::new(7).run(|| {
        let start = time::now();
        thread::sleep(Duration::from_secs(3600));
        time::now() - start
    });
    assert!(slept >= Duration::from_secs(3600));
    assert!(start.elapsed() < Duration::from_secs(10), "an hour passed for real");
}
