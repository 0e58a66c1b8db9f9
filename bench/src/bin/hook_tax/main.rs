//! What does it cost that `std`'s calls go through the hooks?
//!
//! Each operation is done in four ways, in turns: by the bare system call (`rustix`, which issues it itself), by `std` on plain
//! threads, by `std` in fibers, and by the runtime's own types in fibers. Fibers have one worker. The time is that of an
//! operation; system calls are counted by strace, as the difference of two sizes over the difference of the operations.

mod cases;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;
use moon_bench::conditions::Conditions;
use serde::Serialize;

use cases::{Operation, Way};

/// What the outside of a fiber may pay for the hooks, in nanoseconds per call.
const TAX_LIMIT: f64 = 20.0;
/// What hooks must reach of the native types' rate.
const RATIO: f64 = 0.95;

/// Compares std's calls, hooked and plain, with bare system calls and with the runtime's own types.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How often each case is run; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Operations of a case in a round.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(100..))]
    operations: u64,
    /// Does not count system calls, although strace is installed.
    #[arg(long)]
    no_strace: bool,
    /// Small sizes: it works, no more.
    #[arg(long)]
    quick: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
    /// Runs one case, for counting: `operation/way`.
    #[arg(long, hide = true)]
    case: Option<String>,
}

#[derive(Serialize)]
struct Report {
    conditions: Conditions,
    rounds: u32,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    operation: &'static str,
    /// Median nanoseconds of an operation, by way.
    nanos: BTreeMap<&'static str, f64>,
    /// System calls of an operation, by way.
    system_calls: BTreeMap<&'static str, f64>,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.operations) = (1, 2_000);
    }
    if let Some(case) = &arguments.case {
        let (operation, way) = case.split_once('/').ok_or("a case is operation/way")?;
        let find = || Some((Operation::named(operation)?, Way::named(way)?));
        let (operation, way) = find().ok_or_else(|| format!("there is no case {case}"))?;
        cases::run(operation, way, arguments.operations)?;
        return Ok(());
    }
    fiber_runtime::hook::self_test()?;
    let report = measure(&arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report, arguments.no_strace);
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<Report, Failure> {
    let conditions = Conditions::now();
    let counting = !arguments.no_strace && has_strace();
    let mut rows = Vec::new();
    for operation in Operation::ALL {
        let ways: Vec<Way> = Way::ALL.into_iter().filter(|way| operation.is_done(*way)).collect();
        let mut taken: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for round in 0..arguments.rounds as usize {
            for turn in 0..ways.len() {
                let way = ways[(turn + round) % ways.len()];
                let count = operation.share(arguments.operations);
                let took = cases::run(operation, way, count)?;
                taken.entry(way.name()).or_default().push(per_operation(took, count));
            }
        }
        let nanos = taken.into_iter().map(|(way, mut taken)| (way, median(&mut taken))).collect();
        let mut system_calls = BTreeMap::new();
        for way in ways.iter().filter(|_| counting) {
            system_calls.insert(way.name(), calls_per_operation(operation, *way)?);
        }
        rows.push(Row { operation: operation.name(), nanos, system_calls });
    }
    Ok(Report { conditions, rounds: arguments.rounds, rows })
}

fn per_operation(took: Duration, count: u64) -> f64 {
    took.as_nanos() as f64 / count as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn has_strace() -> bool {
    Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn calls_per_operation(operation: Operation, way: Way) -> Result<f64, Failure> {
    const SIZES: [u64; 2] = [1_000, 5_000];
    let case = format!("{}/{}", operation.name(), way.name());
    let mut counts = [0.0; 2];
    for (count, size) in counts.iter_mut().zip(SIZES) {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-U", "calls,name", "-o", "/dev/stdout"]);
        strace
            .arg(std::env::current_exe()?)
            .arg("--case")
            .arg(&case)
            .arg("--operations")
            .arg(size.to_string());
        let output = strace.output()?;
        if !output.status.success() {
            return Err(format!("strace of {case}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        let total = summary.lines().find(|line| line.trim_end().ends_with(" total"));
        *count = total
            .and_then(|line| line.split_whitespace().next())
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| format!("strace of {case} has no total: {summary}"))?;
    }
    Ok((counts[1] - counts[0]) / (SIZES[1] - SIZES[0]) as f64)
}

fn print(report: &Report, no_strace: bool) {
    println!("{}, median of {}", report.conditions, report.rounds);
    println!();
    println!("| one operation, ns (system calls) | {} |", Way::ALL.map(Way::name).join(" | "));
    println!("|---|{}", "---|".repeat(Way::ALL.len()));
    for row in &report.rows {
        let cell = |way: Way| match (row.nanos.get(way.name()), row.system_calls.get(way.name())) {
            (Some(nanos), Some(calls)) => format!("{nanos:.0} ({calls:.2})"),
            (Some(nanos), None) => format!("{nanos:.0}"),
            (None, _) => "-".to_owned(),
        };
        println!("| {} | {} |", row.operation, Way::ALL.map(cell).join(" | "));
    }
    println!();
    for row in &report.rows {
        let nanos = |way: Way| row.nanos.get(way.name());
        if let (Some(bare), Some(threads)) = (nanos(Way::Bare), nanos(Way::Threads)) {
            let tax = threads - bare;
            let word = if tax <= TAX_LIMIT { "met" } else { "MISSED" };
            println!(
                "{}: outside a fiber {tax:+.0} ns over the bare call, at most {TAX_LIMIT}: {word}",
                row.operation
            );
        }
        if let (Some(hooks), Some(native)) = (nanos(Way::Hooks), nanos(Way::Native)) {
            let ratio = native / hooks;
            let word = if ratio >= RATIO { "met" } else { "MISSED" };
            println!(
                "{}: hooks reach {ratio:.2} of the native types, at least {RATIO}: {word}",
                row.operation
            );
        }
    }
    if report.rows.iter().all(|row| row.system_calls.is_empty()) {
        println!(
            "No system calls were counted: {}.",
            if no_strace { "as asked" } else { "strace is not installed" }
        );
    }
}
