//! What locks cost: those of `std::sync` in fibers and in threads, and those of `fiber_runtime::sync`. Nanoseconds, the
//! median of five runs.
//!
//! - *lock and unlock*: a mutex that nobody else wants.
//! - *hand-over*: two who take turns by a mutex and a condition variable, per turn.
//! - *wake nobody*: the system call of a wake when no fiber waits for anything, with and without the question whether one does.

mod common;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Flag, numbers};
use fiber_runtime::{Runtime, spawn_local, sync};

fn main() -> ExitCode {
    let [turns] = numbers(
        "What locks of std::sync cost in fibers and threads.",
        [Flag { name: "--turns", default: 200_000, help: "turns in a run" }],
    );
    let runtime = match Runtime::builder().workers(1).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let in_fiber = |measured: fn(u64) -> Duration| {
        median(turns, || runtime.spawn(move || measured(turns)).join().unwrap_or_default())
    };
    println!("lock and unlock, std, thread      {:>8.1}", median(turns, || uncontended(turns)));
    println!("lock and unlock, std, fiber       {:>8.1}", in_fiber(uncontended));
    println!("hand-over, std, two fibers        {:>8.1}", in_fiber(fibers_by_std));
    println!("hand-over, sync, two fibers       {:>8.1}", in_fiber(fibers_by_sync));
    println!("hand-over, std, two threads       {:>8.1}", median(turns, || threads_by_std(turns)));
    let asked = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let plain = libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG;
    println!("wake nobody, fibers asked first   {:>8.1}", median(turns, || wake_nobody(turns, asked)));
    println!("wake nobody, kernel only          {:>8.1}", median(turns, || wake_nobody(turns, plain)));
    ExitCode::SUCCESS
}

/// Nanoseconds a turn.
fn median(turns: u64, run: impl Fn() -> Duration) -> f64 {
    let mut runs: Vec<_> = (0..5).map(|_| run().as_nanos() as f64 / turns as f64).collect();
    runs.sort_by(f64::total_cmp);
    runs[2]
}

fn uncontended(turns: u64) -> Duration {
    let lock = black_box(Mutex::new(0_u64));
    let began = Instant::now();
    for _ in 0..turns {
        *lock.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
    black_box(&lock);
    began.elapsed()
}

/// Every other turn of `turns`, beginning with `mine`.
fn play_by_std(mine: u64, turns: u64, shared: &(Mutex<u64>, Condvar)) {
    let mut turn = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    while *turn < turns {
        if *turn % 2 == mine {
            *turn += 1;
            shared.1.notify_one();
        } else {
            turn = shared.1.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn fibers_by_std(turns: u64) -> Duration {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let began = Instant::now();
    let other = {
        let shared = Arc::clone(&shared);
        spawn_local(move || play_by_std(1, turns, &shared))
    };
    play_by_std(0, turns, &shared);
    drop(other.join());
    began.elapsed()
}

fn fibers_by_sync(turns: u64) -> Duration {
    fn play(mine: u64, turns: u64, shared: &(sync::Mutex<u64>, sync::Condvar)) {
        let mut turn = shared.0.lock();
        while *turn < turns {
            if *turn % 2 == mine {
                *turn += 1;
                shared.1.notify_one();
            } else {
                turn = shared.1.wait(turn);
            }
        }
    }

    let shared = Arc::new((sync::Mutex::new(0), sync::Condvar::new()));
    let began = Instant::now();
    let other = {
        let shared = Arc::clone(&shared);
        spawn_local(move || play(1, turns, &shared))
    };
    play(0, turns, &shared);
    drop(other.join());
    began.elapsed()
}

fn threads_by_std(turns: u64) -> Duration {
    let shared = (Mutex::new(0), Condvar::new());
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| play_by_std(1, turns, &shared));
        play_by_std(0, turns, &shared);
    });
    began.elapsed()
}

fn wake_nobody(turns: u64, op: libc::c_int) -> Duration {
    let word = AtomicU32::new(0);
    let nothing = std::ptr::null::<u32>();
    let began = Instant::now();
    for _ in 0..turns {
        // SAFETY: a wake touches no memory; the fourth and fifth arguments are not looked at, the sixth says: any.
        unsafe { libc::syscall(libc::SYS_futex, &raw const word, op, 1, nothing, nothing, !0_u32) };
    }
    began.elapsed()
}
