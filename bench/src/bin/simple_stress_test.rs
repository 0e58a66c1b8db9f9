//! What does the original's processor stress test give here?
//!
//! Four threads, a thousand operations each; one operation draws about three thousand numbers from a Mersenne Twister, fills and
//! sums a vector of a thousand integers, and sleeps 10 us. There are no fibers, no RPC and no Raft in it: the
//! figure says how fast the machine draws random numbers and how late its timers are. It is here because the original
//! reports it; `--fibers` runs the same work as fibers on as many workers.

use std::time::{Duration, Instant};

use clap::Parser;
use fiber_runtime::Runtime;
use moon_bench::conditions::Conditions;
use moon_bench::latency::{Latencies, Summary};
use moon_bench::random::MersenneTwister;
use serde::Serialize;

/// Runs the original's processor stress test: random numbers, vectors and short sleeps on some threads.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Threads.
    #[arg(default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,
    /// Operations of each thread.
    #[arg(default_value_t = 1000)]
    operations: u64,
    /// Runs the same as fibers, on as many workers.
    #[arg(long)]
    fibers: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    conditions: Conditions,
    threads: u64,
    fibers: bool,
    operations: u64,
    elapsed_ms: f64,
    operations_per_second: f64,
    latency: Summary,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let conditions = Conditions::now();
    let (threads, operations) = (arguments.threads, arguments.operations);
    let start = Instant::now();
    let latencies: Vec<Latencies> = if arguments.fibers {
        let runtime = Runtime::builder().workers(threads as usize).name("stress").build()?;
        let fibers: Vec<_> = (0..threads)
            .map(|thread| runtime.spawn_on(thread as usize, move || work(thread as u32, operations)))
            .collect();
        fibers.into_iter().map(|fiber| fiber.join()).collect::<Result<_, _>>()?
    } else {
        let threads: Vec<_> =
            (0..threads).map(|thread| std::thread::spawn(move || work(thread as u32, operations))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panicked"))
            .collect::<Result<_, _>>()?
    };
    let elapsed = start.elapsed();
    let mut all = Latencies::new();
    latencies.iter().for_each(|latencies| all.merge(latencies));
    let report = Report {
        conditions,
        threads,
        fibers: arguments.fibers,
        operations: all.count(),
        elapsed_ms: elapsed.as_secs_f64() * 1000.0,
        operations_per_second: all.count() as f64 / elapsed.as_secs_f64(),
        latency: all.summary(),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// The operations of one thread.
fn work(thread: u32, operations: u64) -> Latencies {
    let mut random = MersenneTwister::new(5489 + thread);
    let mut latencies = Latencies::new();
    let mut total = 0_u64;
    for _ in 0..operations {
        let start = Instant::now();
        let mut numbers: Vec<u32> = (0..1000).map(|_| random.from_one_to(1000)).collect();
        for _ in 0..1000 {
            let (index, number) = (random.from_one_to(1000), random.from_one_to(1000));
            numbers[index as usize - 1] ^= number;
        }
        total = total.wrapping_add(numbers.iter().map(|number| u64::from(*number)).sum());
        std::thread::sleep(Duration::from_micros(10));
        latencies.record(start.elapsed());
    }
    std::hint::black_box(total);
    latencies
}

fn print(report: &Report) {
    let Report { conditions, threads, operations, elapsed_ms, operations_per_second, latency, .. } = report;
    let kind = if report.fibers { "fibers on as many workers" } else { "threads" };
    println!("{conditions}");
    println!(
        "{threads} {kind}, {operations} operations: 3,000 random numbers, 1,000-integer vector, 10 us sleep each"
    );
    println!("elapsed     {elapsed_ms:.0} ms");
    println!("throughput  {operations_per_second:.1} ops/s");
    println!("latency     {latency}");
    println!();
    println!(
        "the original, on 10 ARM64 cores: 345 ms, 11,594 ops/s. Its 0.086 ms per operation is 345 ms / 4,000; what one"
    );
    println!(
        "operation took was 0.345 ms, as each of the four threads did 1,000. Random numbers, not a key-value store."
    );
}
