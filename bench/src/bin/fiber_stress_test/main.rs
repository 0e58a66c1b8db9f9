//! What does a running cluster give to many clients at once, and does it keep what it acknowledged?
//!
//! The original's acceptance test, `fiber_stress_test <conf> <threads> <fibers> <ops_per_fiber> [mode] [put_ratio]`:
//! each client is a fiber with a closed loop of its own, all of them share one clerk and its connections. Every fiber
//! has keys of its own, so it knows what a read must return and checks it. An operation that was cut short counts as *not sent* or *unknown*,
//! never as done; with `--verify` every acknowledged write is read back at the end.

mod client;

mod report;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use fiber_runtime::sync::WaitGroup;
use fiber_runtime::{Runtime, time};
use kvserver::clerk::{Clerk, ClerkConfig};
use kvserver::config::Config;
use moon_bench::conditions::Conditions;
use moon_bench::nodes::Sample;
use serde::Serialize;

use client::{Client, Tally};
use report::Report;

/// Drives a running cluster with clients that are fibers, and checks what it answers.
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The cluster's conf file.
    conf: PathBuf,
    /// Threads of this program, the workers that run the fibers.
    #[arg(value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// Fibers, each a client with one operation under way.
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    fibers: u64,
    /// Operations of each fiber.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    ops_per_fiber: u64,
    /// What the fibers do; `mixed` is puts and gets.
    #[arg(value_enum, default_value_t = Mode::Mixed)]
    mode: Mode,
    /// Share of puts in `mixed`.
    #[arg(default_value_t = 0.7, value_parser = ratio)]
    put_ratio: f64,
    /// Bytes of a value, or of what an append adds.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(24..=1 << 20))]
    value_bytes: u64,
    /// Keys of all fibers together; each fiber has at least one.
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    /// Seconds that one operation may take, with all its attempts.
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
    /// Reads back every acknowledged write at the end.
    #[arg(long)]
    verify: bool,
    /// Prints the result as JSON, and the progress on standard error.
    #[arg(long)]
    json: bool,
}

/// What the fibers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Sets keys.
    Put,
    /// Reads keys that are there.
    Get,
    /// Adds to values.
    Append,
    /// Sets and reads.
    Mixed,
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or("must be from 0 to 1".to_owned())
}

/// What the fibers tell those that watch them.
#[derive(Default)]
struct Progress {
    done: AtomicU64,
    failed: AtomicU64,
    over: AtomicBool,
}

/// The longest time without a finished operation, watched every few milliseconds.
const PAUSE_STEP: Duration = Duration::from_millis(5);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (config, _) = Config::load(&arguments.conf, [], [])?;
    let endpoints: Vec<SocketAddr> = config.nodes.values().map(|node| node.rpc).collect();
    let http: Vec<SocketAddr> = config.nodes.values().filter_map(|node| node.http).collect();
    let runtime = Runtime::builder().workers(arguments.threads as usize).name("stress").build()?;
    let json = arguments.json;
    let report =
        runtime.block_on(move || run(arguments, endpoints, &http).map_err(|error| error.to_string()))?;
    runtime.stop(Duration::from_secs(1));
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    if !report.is_clean() {
        std::process::exit(1);
    }
    Ok(())
}

fn run(
    arguments: Arguments,
    endpoints: Vec<SocketAddr>,
    http: &[SocketAddr],
) -> Result<Report, Box<dyn Error>> {
    let conditions = Conditions::now();
    let timeout = Duration::from_secs_f64(arguments.timeout);
    let config = ClerkConfig {
        timeout,
        max_idle_sessions: arguments.fibers as usize,
        attempt_timeout: ClerkConfig::default().attempt_timeout.min(timeout),
        ..ClerkConfig::default()
    };
    let clerk = Clerk::new(endpoints, config)?;
    let arguments = Arc::new(arguments);
    let progress = Arc::new(Progress::default());

    // Every key is put once before the clock starts: gets find something, appends start from a known value, and
    // sessions and connections are there.
    let prepared = WaitGroup::new();
    let go = Arc::new(StartSignal::default());
    let fibers: Vec<_> = (0..arguments.fibers)
        .map(|number| {
            let mut client = Client::new(number, clerk.clone(), arguments.clone());
            let (progress, ready, go) = (progress.clone(), prepared.enter(), go.clone());
            fiber_runtime::spawn(move || {
                let prepared = client.prepare();
                drop(ready);
                go.wait();
                if let Err(reason) = prepared {
                    client.tally.note_preparation(reason);
                    return client;
                }
                client.run(&progress);
                client
            })
        })
        .collect();
    prepared.wait();
    let before = Sample::take(http);
    let start = time::now();
    let watcher = {
        let (progress, arguments) = (progress.clone(), arguments.clone());
        fiber_runtime::spawn(move || watch(&progress, &arguments, start))
    };
    go.give();
    let mut clients = Vec::new();
    for fiber in fibers {
        clients.push(fiber.join()?);
    }
    let elapsed = time::now() - start;
    progress.over.store(true, Ordering::Relaxed);
    let longest_pause = watcher.join()?;
    let after = Sample::take(http);

    let mut tally = Tally::default();
    clients.iter().for_each(|client| tally.merge(&client.tally));
    let lost = arguments.verify.then(|| verify(clients)).transpose()?;
    let work = (!before.is_empty()).then(|| before.work_until(&after));
    Ok(Report::new(conditions, &arguments, elapsed, &tally, longest_pause, work, lost))
}

/// Prints a line each second; gives the longest time without a finished operation.
fn watch(progress: &Progress, arguments: &Arguments, start: Instant) -> Duration {
    let total = arguments.fibers * arguments.ops_per_fiber;
    let mut longest = Duration::ZERO;
    let (mut moved_at, mut seen) = (start, 0);
    let (mut printed_at, mut printed) = (start, 0);
    while !progress.over.load(Ordering::Relaxed) {
        time::sleep(PAUSE_STEP);
        let now = time::now();
        let done = progress.done.load(Ordering::Relaxed);
        if done != seen {
            (moved_at, seen) = (now, done);
        }
        longest = longest.max(now - moved_at);
        let since = now - printed_at;
        if since >= Duration::from_secs(1) {
            let failed = progress.failed.load(Ordering::Relaxed);
            let rate = (done - printed) as f64 / since.as_secs_f64();
            let line = format!(
                "{:>4.0} s  {:>5.1} %  {done} done, {failed} failed, {rate:.0} ops/s",
                (now - start).as_secs_f64(),
                (done + failed) as f64 * 100.0 / total as f64,
            );
            if arguments.json {
                eprintln!("{line}");
            } else {
                println!("{line}");
            }
            (printed_at, printed) = (now, done);
        }
    }
    longest
}

/// Reads back every key; gives how many acknowledged writes are missing.
fn verify(clients: Vec<Client>) -> Result<u64, Box<dyn Error>> {
    let checks: Vec<_> =
        clients.into_iter().map(|mut client| fiber_runtime::spawn(move || client.count_lost())).collect();
    let mut lost = 0;
    for check in checks {
        lost += check.join()??;
    }
    Ok(lost)
}

/// Lets all fibers begin at once.
#[derive(Default)]
struct StartSignal {
    given: AtomicBool,
    waiting: fiber_runtime::sync::Spin<Vec<fiber_runtime::Fiber>>,
}

impl StartSignal {
    fn wait(&self) {
        self.waiting.lock(|waiting| waiting.push(fiber_runtime::current()));
        // The flag is set before the list is read, and read after the list is joined: one of the two sees the other.
        while !self.given.load(Ordering::SeqCst) {
            fiber_runtime::park();
        }
    }

    fn give(&self) {
        self.given.store(true, Ordering::SeqCst);
        let waiting = self.waiting.lock(std::mem::take);
        waiting.iter().for_each(fiber_runtime::Fiber::unpark);
    }
}
