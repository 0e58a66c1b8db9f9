//! Named threads and fibers that share one lock: five threads say who they are, and each counts together with a fiber.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{Flag, numbers};
use fiber_runtime::Runtime;
use fiber_runtime::sync::{Mutex, WaitGroup};

fn main() -> ExitCode {
    let [threads, rounds] = numbers(
        "Named threads, each with a fiber that counts under the same lock.",
        [
            Flag { name: "--threads", default: 5, help: "how many threads" },
            Flag { name: "--rounds", default: 10_000, help: "how often each thread and each fiber counts" },
        ],
    );
    match run(threads, rounds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(threads: u64, rounds: u64) -> std::io::Result<bool> {
    let runtime = Runtime::builder().workers(2).name("test_thread").build()?;
    let counter = Arc::new(Mutex::new(0_u64));
    // Nobody begins before all are there.
    let started = WaitGroup::new();
    started.add(threads as usize);
    let mut joins = Vec::new();
    for number in 0..threads {
        let count = {
            let counter = Arc::clone(&counter);
            move || (0..rounds).for_each(|_| *counter.lock() += 1)
        };
        runtime.spawn(count.clone()).detach();
        let started = started.clone();
        joins.push(thread::Builder::new().name(format!("name_{number}")).spawn(move || {
            let this = thread::current();
            println!("name: {} id: {:?}", this.name().unwrap_or("none"), this.id());
            started.done();
            started.wait();
            count();
        })?);
    }
    let mut clean = joins.into_iter().all(|thread| thread.join().is_ok());
    clean &= runtime.stop(Duration::from_secs(60)).is_clean();
    let counted = *counter.lock();
    println!("counted {counted} of {}", 2 * threads * rounds);
    println!("-----thread_test end-----");
    Ok(clean && counted == 2 * threads * rounds)
}
