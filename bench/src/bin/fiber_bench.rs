//! What do the runtime's own operations cost?
//!
//! One worker; each row is one question, measured in several runs after a warm-up, median and spread printed:
//! a yield among 2 and among 10,000 ready fibers, spawn and join of an empty fiber, a channel round trip between two fibers
//! (two wakes), how late a sleep ends, and what an idle parked fiber keeps resident.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use fiber_runtime::sync::channel;
use fiber_runtime::{Runtime, spawn_local, time, yield_now};
use moon_bench::conditions::Conditions;
use moon_bench::latency::Latencies;
use serde::Serialize;

/// Measures the operations of fiber-runtime on one worker.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to measure; everything without it.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Runs of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// `yield_now` among 2 ready fibers.
    Yield2,
    /// `yield_now` among 10,000 ready fibers.
    Yield10k,
    /// Spawn and join of an empty fiber.
    Spawn,
    /// Round trip over two channels.
    Pingpong,
    /// How late `sleep(1 ms)` ends.
    Sleep,
    /// Resident memory of an idle parked fiber.
    Parked,
}

/// One row of the table.
#[derive(Serialize)]
struct Row {
    what: &'static str,
    unit: &'static str,
    median: f64,
    lowest: f64,
    highest: f64,
}

#[derive(Serialize)]
struct Report {
    conditions: Conditions,
    runs: u64,
    rows: Vec<Row>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let conditions = Conditions::now();
    let chosen: Vec<What> =
        if arguments.what.is_empty() { What::value_variants().to_vec() } else { arguments.what.clone() };
    let mut rows = Vec::new();
    for what in chosen {
        let (name, unit, measure): (_, _, fn() -> f64) = match what {
            What::Yield2 => ("yield_now, 2 ready fibers", "ns", || yields(2, 500_000)),
            What::Yield10k => ("yield_now, 10,000 ready fibers", "ns", || yields(10_000, 100)),
            What::Spawn => ("spawn + join of an empty fiber", "ns", spawns),
            What::Pingpong => ("channel ping-pong, round trip", "ns", ping_pong),
            What::Sleep => ("sleep of 1 ms ends late by (p99)", "us", sleeps),
            What::Parked => ("idle parked fiber, resident", "bytes", parked),
        };
        rows.push(row(name, unit, arguments.runs, measure)?);
    }
    let report = Report { conditions, runs: arguments.runs, rows };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!("{}; one worker, {} runs, median (lowest to highest)", report.conditions, report.runs);
    for Row { what, unit, median, lowest, highest } in &report.rows {
        println!("{what:<36} {median:>9.1} {unit:<5} ({lowest:.1} to {highest:.1})");
    }
    Ok(())
}

/// Runs a measurement on a fresh runtime each time, once more than asked for to warm up.
fn row(
    what: &'static str,
    unit: &'static str,
    runs: u64,
    measure: fn() -> f64,
) -> Result<Row, Box<dyn Error>> {
    let mut results = Vec::new();
    for run in 0..=runs {
        let runtime = Runtime::builder().workers(1).name("bench").build()?;
        let result = runtime.block_on(measure);
        if run > 0 {
            results.push(result);
        }
    }
    results.sort_by(f64::total_cmp);
    let (lowest, highest) = (results[0], results[results.len() - 1]);
    Ok(Row { what, unit, median: results[results.len() / 2], lowest, highest })
}

/// Nanoseconds of one yield when `fibers` take turns, `turns` each.
fn yields(fibers: u64, turns: u64) -> f64 {
    let handles: Vec<_> = (0..fibers)
        .map(|_| {
            spawn_local(move || {
                yield_now(); // all are started before the clock is
                let start = Instant::now();
                for _ in 0..turns {
                    yield_now();
                }
                (start, Instant::now())
            })
        })
        .collect();
    let times: Vec<_> =
        handles.into_iter().map(|handle| handle.join().expect("a yielding fiber ends")).collect();
    let start = times.iter().map(|(start, _)| *start).min().expect("there are fibers");
    let end = times.iter().map(|(_, end)| *end).max().expect("there are fibers");
    (end - start).as_nanos() as f64 / (fibers * turns) as f64
}

/// Nanoseconds of a spawn with its join.
fn spawns() -> f64 {
    const COUNT: u32 = 200_000;
    let start = Instant::now();
    for _ in 0..COUNT {
        spawn_local(|| ()).join().expect("an empty fiber ends");
    }
    start.elapsed().as_nanos() as f64 / f64::from(COUNT)
}

/// Nanoseconds from sending a number to having it back.
fn ping_pong() -> f64 {
    const COUNT: u32 = 200_000;
    let (ping, pings) = channel::bounded::<u32>(1);
    let (pong, pongs) = channel::bounded::<u32>(1);
    let echo = spawn_local(move || {
        while let Ok(number) = pings.recv() {
            pong.send(number).expect("the other side waits for it");
        }
    });
    let start = Instant::now();
    for number in 0..COUNT {
        ping.send(number).expect("the echo is there");
        assert_eq!(pongs.recv(), Ok(number));
    }
    let nanos = start.elapsed().as_nanos() as f64 / f64::from(COUNT);
    drop(ping);
    echo.join().expect("the echo ends with its channel");
    nanos
}

/// Microseconds by which the latest in a hundred of many concurrent sleeps is late.
fn sleeps() -> f64 {
    const SLEEP: Duration = Duration::from_millis(1);
    let handles: Vec<_> = (0..100)
        .map(|_| {
            // The histograms are made before the first sleep, and touched in a warm-up that does not count.
            let mut late = Latencies::new();
            spawn_local(move || {
                time::sleep(SLEEP);
                for _ in 0..50 {
                    let start = Instant::now();
                    time::sleep(SLEEP);
                    late.record(start.elapsed().saturating_sub(SLEEP));
                }
                late
            })
        })
        .collect();
    let mut all = Latencies::new();
    handles.into_iter().for_each(|handle| all.merge(&handle.join().expect("a sleeping fiber ends")));
    all.summary().p99_us
}

/// Bytes that one more parked fiber makes resident.
fn parked() -> f64 {
    const COUNT: usize = 20_000;
    let resident = || kvserver::metrics::process::usage().resident_bytes as f64;
    let before = resident();
    let handles: Vec<_> = (0..COUNT).map(|_| spawn_local(fiber_runtime::park)).collect();
    yield_now();
    let after = resident();
    handles.iter().for_each(|handle| handle.fiber().unpark());
    handles.into_iter().for_each(|handle| handle.join().expect("an unparked fiber ends"));
    (after - before) / COUNT as f64
}
