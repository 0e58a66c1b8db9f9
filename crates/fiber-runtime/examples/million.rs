//! A million fibers: starts them, parks each on a channel of its own, wakes them all, joins them, and says what each phase
//! took and what memory it needed.
//!
//! ```text
//! cargo run --release -p fiber-runtime --example million -- 1000000
//! ```

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fiber_runtime::sync::oneshot;
use fiber_runtime::{FiberBuilder, JoinHandle, Runtime, time};

const HELP: &str = "\
Starts COUNT fibers, each parked on a channel, wakes them all and joins them.

Usage: million [OPTIONS] [COUNT]

  COUNT             how many fibers (default 1000000)
  --workers N       worker threads (default: one a processor)
  --stack KIB       stack of each fiber in KiB; only what is touched costs memory (default 16)
  -h, --help        this text

Memory is checked before the start: a fiber that waits needs about 5 KiB, most of it the one page of its stack that it
has touched.";

/// What a parked fiber needs at most, of memory, with its channel and its handles; measured, and rounded up.
const BYTES_A_FIBER: u64 = 6 * 1024;

struct Arguments {
    count: usize,
    workers: Option<usize>,
    stack: usize,
}

impl Arguments {
    /// `None` asks for help.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = Arguments { count: 1_000_000, workers: None, stack: 16 << 10 };
        while let Some(word) = words.next() {
            let mut value = |name: &str| {
                let word = words.next().ok_or_else(|| format!("{name} needs a number"))?;
                number(&word)
            };
            match word.as_str() {
                "-h" | "--help" => return Ok(None),
                "--workers" => arguments.workers = Some(value("--workers")?),
                "--stack" => arguments.stack = value("--stack")?.saturating_mul(1024),
                word if word.starts_with('-') => return Err(format!("unknown option {word}")),
                word => arguments.count = number(word)?,
            }
        }
        if arguments.count == 0 {
            return Err("no fibers are not worth starting: COUNT is at least 1".to_owned());
        }
        Ok(Some(arguments))
    }
}

fn number(word: &str) -> Result<usize, String> {
    word.replace('_', "").parse().map_err(|_| format!("{word:?} is not a number"))
}

/// A number of a file in /proc, in the unit it has there.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The least of what the machine and the control group of this process have to give, in bytes.
fn available() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemAvailable:")? * 1024;
    let read = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let group = read("/sys/fs/cgroup/memory.max")
        .zip(read("/sys/fs/cgroup/memory.current"))
        .map_or(u64::MAX, |(limit, used)| limit.saturating_sub(used));
    let address_space = fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits.lines().find(|line| line.starts_with("Max address space"))?;
            line.split_whitespace().nth(3)?.parse::<u64>().ok()
        })
        .unwrap_or(u64::MAX);
    Some(machine.min(group).min(address_space))
}

/// Why so many fibers would not fit, if they would not.
fn check_memory(arguments: &Arguments) -> Result<(), String> {
    let needed = (arguments.count as u64).saturating_mul(BYTES_A_FIBER);
    match available() {
        Some(available) if needed > available => Err(format!(
            "{} fibers need about {} MiB, and {} MiB are available; about {} fibers would fit",
            arguments.count,
            needed >> 20,
            available >> 20,
            available / BYTES_A_FIBER
        )),
        _ => Ok(()),
    }
}

/// Resident memory in bytes, and the number of mappings.
fn memory() -> (u64, usize) {
    let maps = fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
    (field("/proc/self/status", "VmRSS:").unwrap_or(0) * 1024, maps)
}

/// One line of the table.
fn report(phase: &str, took: Duration, count: usize) {
    let (resident, maps) = memory();
    println!(
        "{phase:<8} {:>9.1} ms {:>8} ns a fiber {:>9.1} MiB resident {:>6} maps",
        took.as_secs_f64() * 1e3,
        took.as_nanos() / count as u128,
        resident as f64 / f64::from(1 << 20),
        maps
    );
}

fn run(arguments: &Arguments) -> Result<(), String> {
    check_memory(arguments)?;
    let (count, stack) = (arguments.count, arguments.stack);
    let mut builder = Runtime::builder().name("million");
    if let Some(workers) = arguments.workers {
        builder = builder.workers(workers);
    }
    let runtime = builder.build().map_err(|error| format!("cannot start the runtime: {error}"))?;
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    println!("{count} fibers on {} workers; vm.max_map_count is {}", runtime.workers(), limit.trim());
    let (before, _) = memory();
    report("begin", Duration::ZERO, count);

    runtime.block_on(|| {
        let arrived = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut senders = Vec::with_capacity(count);
        let mut fibers: Vec<JoinHandle<usize>> = Vec::with_capacity(count);
        for _ in 0..count {
            let (sender, receiver) = oneshot::channel();
            let arrived = Arc::clone(&arrived);
            // Small stacks for these only: this fiber prints and reads files, which takes more.
            fibers.push(FiberBuilder::new().stack_size(stack).spawn(move || {
                arrived.fetch_add(1, Ordering::Relaxed);
                receiver.recv().unwrap_or(0)
            }));
            senders.push(sender);
        }
        report("spawn", began.elapsed(), count);

        let began = Instant::now();
        let mut last = (0, Instant::now());
        while arrived.load(Ordering::Relaxed) < count {
            time::sleep(Duration::from_millis(1));
            let now = arrived.load(Ordering::Relaxed);
            if now > last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(5) {
                // Without its value a fiber ends only when it got no stack.
                let failed = fibers.into_iter().find(JoinHandle::is_finished).map(JoinHandle::join);
                return Err(format!("{now} of {count} fibers started; of the others, one: {failed:?}"));
            }
        }
        report("park", began.elapsed(), count);
        let (resident, _) = memory();
        println!("         {} bytes resident a parked fiber", resident.saturating_sub(before) / count as u64);

        let began = Instant::now();
        for (number, sender) in senders.into_iter().enumerate() {
            let _ = sender.send(number);
        }
        report("wake", began.elapsed(), count);

        let began = Instant::now();
        let mut sum = 0;
        for fiber in fibers {
            sum += fiber.join().map_err(|error| error.to_string())?;
        }
        report("join", began.elapsed(), count);
        let expected = count * (count - 1) / 2;
        if sum != expected {
            return Err(format!("the fibers returned {sum} in all, not {expected}"));
        }
        Ok(())
    })?;
    let report = runtime.stop(Duration::from_secs(10));
    if report.is_clean() { Ok(()) } else { Err(format!("{report}")) }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse(std::env::args().skip(1)) {
        Ok(None) => {
            println!("{HELP}");
            Ok(())
        }
        Ok(Some(arguments)) => run(&arguments),
        Err(error) => Err(format!("{error}\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("million: {error}");
            ExitCode::FAILURE
        }
    }
}
