//! Long runs: what a short test does not reach.
//!
//! The sizes are for `cargo test`. The full ones, in a release build:
//!
//! ```text
//! STRESS=full cargo test --release -p fiber-runtime --test stress -- --test-threads 1 --nocapture
//! ```
//! `STRESS_SPAWNS`, `STRESS_WORKERS`, `STRESS_CONNECTIONS`, `STRESS_ROUND_TRIPS`, `STRESS_STORM` (fibers) and
//! `STRESS_RUNTIMES` set one size each. The storm prints its seed; `STRESS_SEED` repeats it.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{on_fibers, runtime, wait_for};
use fiber_runtime::sync::channel;
use fiber_runtime::{Runtime, spawn, time};

/// A size: from its variable, else the full one or that for every day.
fn size(variable: &str, everyday: u64, full: u64) -> u64 {
    match std::env::var(variable) {
        Ok(number) => number.parse().unwrap_or_else(|_| panic!("{variable}={number} is not a number")),
        Err(_) if std::env::var("STRESS").is_ok_and(|word| word == "full") => full,
        Err(_) => everyday,
    }
}

/// Runs a test of this file alone in a process, where nobody else's memory and descriptors count. True: this is it.
#[track_caller]
fn alone(test: &str) -> bool {
    if std::env::var("STRESS_CHILD").is_ok_and(|role| role == test) {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]).env("STRESS_CHILD", test);
    let status = child.status().unwrap();
    assert!(status.success(), "{status}");
    false
}

/// What the process holds of the system.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    resident: u64,
    maps: usize,
    descriptors: usize,
    threads: usize,
}

impl Holdings {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Holdings {
            resident: field("VmRSS:") * 1024,
            maps: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: field("Threads:") as usize,
        }
    }
}

#[test]
fn memory_is_flat_over_many_spawns() {
    if !alone("memory_is_flat_over_many_spawns") {
        return;
    }
    let spawns = size("STRESS_SPAWNS", 200_000, 10_000_000);
    on_fibers(2, move || {
        let rounds = |count: u64| {
            for round in 0..count / 1000 {
                let fibers: Vec<_> = (0..1000).map(|number| spawn(move || number + round)).collect();
                let sum: u64 = fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum();
                assert_eq!(sum, 499_500 + 1000 * round);
            }
        };
        // What is kept for the next fibers: stacks, blocks, queues.
        rounds(spawns / 10);
        let (before, began) = (Holdings::now(), Instant::now());
        rounds(spawns);
        let (after, took) = (Holdings::now(), began.elapsed());
        let grown = after.resident.saturating_sub(before.resident);
        println!(
            "{spawns} spawns and joins in {took:.2?}, {} ns each: resident {} KiB before, {} KiB after",
            took.as_nanos() / u128::from(spawns),
            before.resident / 1024,
            after.resident / 1024
        );
        assert!(grown < 8 << 20, "{spawns} fibers left {grown} bytes behind");
        assert!(after.maps <= before.maps + 16, "{before:?}, then {after:?}");
    });
}

#[test]
fn many_workers_carry_many_round_trips() {
    if !alone("many_workers_carry_many_round_trips") {
        return;
    }
    let workers = size("STRESS_WORKERS", 16, 16) as usize;
    let connections = size("STRESS_CONNECTIONS", 64, 64);
    // Of each worker: 16 times 64 connections in all.
    let round_trips = size("STRESS_ROUND_TRIPS", 20, 100_000);
    let runtime = runtime(workers);
    let began = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let fibers: Vec<_> = (0..workers)
        .flat_map(|worker| (0..connections).map(move |connection| (worker, connection)))
        .map(|(worker, connection)| {
            let done = Arc::clone(&done);
            let handle = runtime.handle();
            runtime.spawn_on(worker, move || {
                let (mut near, mut far) = fiber_runtime::net::UnixStream::pair().unwrap();
                // The other end is on the next worker: every message wakes a fiber of another thread.
                let echo = handle.spawn_on((worker + 1) % handle.workers(), move || {
                    use std::io::{Read, Write};
                    let mut word = [0; 8];
                    while far.read_exact(&mut word).is_ok() {
                        far.write_all(&word).unwrap();
                    }
                });
                use std::io::{Read, Write};
                for round in 0..round_trips {
                    let sent = (connection << 40 | round).to_le_bytes();
                    near.write_all(&sent).unwrap();
                    let mut back = [0; 8];
                    near.read_exact(&mut back).unwrap();
                    assert_eq!(back, sent);
                }
                done.fetch_add(round_trips, Ordering::Relaxed);
                drop(near);
                echo.join().unwrap();
            })
        })
        .collect();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    let (took, total) = (began.elapsed(), done.load(Ordering::Relaxed));
    assert_eq!(total, workers as u64 * connections * round_trips);
    println!(
        "{workers} workers, {connections} connections each, {total} round trips in {took:.2?}: {:.0} a second",
        total as f64 / took.as_secs_f64()
    );
    assert!(runtime.stop(common::PATIENCE).is_clean());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Counts who is there: what unwinds must be dropped, once.
struct Present(Arc<AtomicU64>);

impl Present {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Present(Arc::clone(count))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

#[test]
fn a_storm_of_cancellations_and_timeouts_leaves_nothing_behind() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = size("STRESS_SEED", now.subsec_nanos().into(), 1);
    let count = size("STRESS_STORM", 4_000, 400_000);
    println!("STRESS_SEED={seed}");
    let runtime = runtime(4);
    let began = Instant::now();
    let present = Arc::new(AtomicU64::new(0));
    let lock = Arc::new(fiber_runtime::sync::Mutex::new(0_u64));
    let permits = Arc::new(fiber_runtime::sync::Semaphore::new(3));
    let mut random = Random(seed);
    let mut handles = Vec::new();
    for number in 0..count {
        let (what, pause) = (random.below(7), Duration::from_micros(random.below(300)));
        let limit = (random.below(2) == 0).then(|| Duration::from_micros(random.below(300)));
        let (here, lock, permits) = (Present::new(&present), Arc::clone(&lock), Arc::clone(&permits));
        let body = move || {
            let _here = here;
            let work = || match what {
                0 => time::sleep(pause),
                1 => {
                    let mut sum = lock.lock();
                    *sum += 1;
                    time::sleep(pause / 16);
                }
                2 => {
                    let _permit = permits.acquire();
                    time::sleep(pause / 16);
                }
                3 => {
                    let (sender, receiver) = channel::bounded(1);
                    let _child = spawn(move || {
                        time::sleep(pause);
                        let _ = sender.send(number);
                    });
                    let _ = receiver.recv();
                }
                4 => {
                    let (one, _other) = fiber_runtime::net::UnixStream::pair().unwrap();
                    let mut one = one;
                    // Nothing ever comes: an error ends it, by cancellation or deadline.
                    let _ = std::io::Read::read(&mut one, &mut [0]);
                }
                5 => fiber_runtime::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| time::sleep(pause));
                    }
                }),
                _ => fiber_runtime::park(),
            };
            match limit {
                Some(limit) => drop(fiber_runtime::with_timeout(limit, work)),
                None => work(),
            }
        };
        handles.push(runtime.spawn(body));
        // Somebody spawned a while ago is cancelled, whatever it does; now and then nobody is.
        let victim = random.below(handles.len() as u64 + 4) as usize;
        if let Some(handle) = handles.get(victim) {
            handle.cancel();
        }
        if handles.len() > 500 {
            // Everybody left of these is cancelled: some wait for ever.
            for handle in handles.drain(..) {
                handle.cancel();
                let _ = handle.join();
            }
        }
    }
    for handle in handles {
        handle.cancel();
        let _ = handle.join();
    }
    wait_for("every fiber's stack to be empty", || present.load(Ordering::Acquire) == 0);
    // Whoever was unwound gave back what it held.
    runtime.block_on(|| {
        drop(lock.lock());
        let permits: Vec<_> = (0..3).map(|_| permits.try_acquire()).collect();
        assert!(permits.iter().all(Option::is_some), "a permit was lost");
    });
    println!("{count} fibers through the storm in {:.2?}", began.elapsed());
    let report = runtime.stop(common::PATIENCE);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn runtimes_come_and_go_without_a_trace() {
    if !alone("runtimes_come_and_go_without_a_trace") {
        return;
    }
    let runtimes = size("STRESS_RUNTIMES", 100, 1000);
    let one = |number: u64| {
        let runtime = Runtime::builder()
            .workers(1 + number as usize % 4)
            .use_caller(number.is_multiple_of(3))
            .build()
            .unwrap();
        let sum: u64 = runtime.block_on(|| {
            let fibers: Vec<_> = (0..10)
                .map(|value| {
                    spawn(move || {
                        time::sleep(Duration::from_micros(10));
                        fiber_runtime::offload(move || value)
                    })
                })
                .collect();
            fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum()
        });
        assert_eq!(sum, 45);
        assert!(runtime.stop(common::PATIENCE).is_clean());
    };
    (0..20).for_each(one);
    settle();
    let (before, began) = (Holdings::now(), Instant::now());
    (0..runtimes).for_each(one);
    let took = began.elapsed();
    settle();
    let after = Holdings::now();
    println!("{runtimes} runtimes in {took:.2?}\nbefore {before:?}\nafter  {after:?}");
    assert!(after.threads <= before.threads + 1, "{before:?}, then {after:?}");
    assert!(after.descriptors <= before.descriptors + 2, "{before:?}, then {after:?}");
    assert!(after.maps <= before.maps + 32, "{before:?}, then {after:?}");
    assert!(after.resident < before.resident + (16 << 20), "{before:?}, then {after:?}");
}

/// Waits until the threads that were told to end have.
fn settle() {
    let mut last = Holdings::now().threads;
    let mut same = 0;
    while same < 10 {
        std::thread::sleep(Duration::from_millis(10));
        let now = Holdings::now().threads;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
}
