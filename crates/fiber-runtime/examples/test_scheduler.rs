//! Four kinds of tasks on a scheduler: one that gives way, one that sleeps, one that ends at once, one that makes more.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Flag, numbers};
use fiber_runtime::{Handle, Runtime, spawn, yield_now};

fn main() -> ExitCode {
    let [workers, sleep_ms, rounds] = numbers(
        "Four kinds of tasks on a scheduler, which the main thread helps to run while it stops it.",
        [
            Flag { name: "--workers", default: 3, help: "worker threads, the main thread included" },
            Flag { name: "--sleep-ms", default: 1_000, help: "how long task 2 sleeps" },
            Flag { name: "--rounds", default: 3, help: "how many more tasks task 4 makes" },
        ],
    );
    println!("main begin");
    let built =
        Runtime::builder().workers(workers.max(1) as usize).use_caller(true).name("scheduler").build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting the scheduler: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = Arc::new(AtomicU64::new(0));
    let handle = runtime.handle();

    schedule(&handle, &ended, || {
        say("task 1 begin");
        yield_now();
        say("task 1 goes on after giving way");
    });
    schedule(&handle, &ended, move || {
        say("task 2 begin");
        // The plain sleep of std: it parks the task.
        thread::sleep(Duration::from_millis(sleep_ms));
        say("task 2 has slept");
    });
    schedule(&handle, &ended, || say("task 3"));
    let children = Arc::clone(&ended);
    schedule(&handle, &ended, move || {
        let more: Vec<_> = (1..=rounds)
            .map(|round| {
                let children = Arc::clone(&children);
                spawn(move || {
                    say(&format!("task 4, made in round {round}"));
                    children.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        for child in more {
            if child.join().is_err() {
                eprintln!("error: a task of task 4 failed");
            }
        }
    });

    let report = runtime.stop(Duration::from_millis(sleep_ms) + Duration::from_secs(10));
    println!("main end");
    if report.is_clean() && ended.load(Ordering::Relaxed) == 4 + rounds {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: not every task ended: {report}");
    ExitCode::FAILURE
}

/// Runs `task` on any worker and counts it when it has ended.
fn schedule(handle: &Handle, ended: &Arc<AtomicU64>, task: impl FnOnce() + Send + 'static) {
    let ended = Arc::clone(ended);
    handle
        .spawn(move || {
            task();
            ended.fetch_add(1, Ordering::Relaxed);
        })
        .detach();
}

fn say(what: &str) {
    println!("{what} (on {})", thread::current().name().unwrap_or("a thread without a name"));
}
