//! Two tasks on one worker sleep with `std::thread::sleep`, 2 and 6 seconds at a time. That their lines come at the
//! right times shows that a sleep parks its task and not the worker.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Flag, numbers};
use fiber_runtime::{IoManager, hook};

fn main() -> ExitCode {
    let [seconds, second_ms] = numbers(
        "Two tasks on one worker thread sleep 2 s and 6 s at a time, with std::thread::sleep.",
        [
            Flag {
                name: "--seconds",
                default: 6,
                help: "how long to run, in seconds of the next flag; 0 is for ever",
            },
            Flag { name: "--second-ms", default: 1_000, help: "milliseconds that a second lasts" },
        ],
    );
    if let Err(error) = hook::self_test() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let second = Duration::from_millis(second_ms);
    let slept = Arc::new(AtomicU64::new(0));
    let start = Instant::now();

    let manager = match IoManager::new(1, false, "test_hook") {
        Ok(manager) => manager,
        Err(error) => {
            eprintln!("error: starting the manager: {error}");
            return ExitCode::FAILURE;
        }
    };
    for (line, length) in [("task 1 sleep for 6s", 6), ("task2 sleep for 2s", 2)] {
        let slept = Arc::clone(&slept);
        manager.schedule(move || {
            let mut at = 0;
            while seconds == 0 || at + length <= seconds {
                thread::sleep(second * length as u32);
                at += length;
                slept.fetch_add(length, Ordering::Relaxed);
                println!("{line}");
            }
        });
    }
    let report = manager.stop(Duration::MAX);

    let took = start.elapsed();
    let asked = slept.load(Ordering::Relaxed) as f64 * second.as_secs_f64();
    println!("{asked:.1} s of sleep in {:.1} s on one worker", took.as_secs_f64());
    // Both tasks sleep all the time; one after the other they would take the sum.
    let together = took.as_secs_f64() < asked.max(second.as_secs_f64()) * 0.95 || seconds < 6;
    if report.is_clean() && together { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
