//! The result of a run, beside what the seed promised and what the original did.

use std::time::Duration;

use moon_bench::conditions::Conditions;
use moon_bench::latency::{Latencies, Summary};
use moon_bench::nodes::Work;
use serde::Serialize;

use super::client::Tally;
use super::{Arguments, Mode};

#[derive(Serialize)]
pub(crate) struct Report {
    conditions: Conditions,
    conf: String,
    threads: u64,
    fibers: u64,
    ops_per_fiber: u64,
    mode: Mode,
    put_ratio: f64,
    value_bytes: u64,
    keys: u64,
    elapsed_ms: f64,
    /// Operations that were acknowledged.
    done: u64,
    operations_per_second: f64,
    errors: Errors,
    first_error: Option<String>,
    latency: Summary,
    puts: Summary,
    gets: Summary,
    appends: Summary,
    longest_pause_ms: f64,
    work: Option<Work>,
    fsyncs_per_operation: Option<f64>,
    wal_bytes_per_operation: Option<f64>,
    /// Acknowledged writes that were missing at the end; nothing if they were not looked for.
    lost: Option<u64>,
}

#[derive(Serialize)]
struct Errors {
    not_sent: u64,
    unknown: u64,
    rejected: u64,
    wrong: u64,
    unprepared: u64,
}

impl Errors {
    fn total(&self) -> u64 {
        self.not_sent + self.unknown + self.rejected + self.wrong + self.unprepared
    }
}

impl Report {
    pub(crate) fn new(
        conditions: Conditions,
        arguments: &Arguments,
        elapsed: Duration,
        tally: &Tally,
        longest_pause: Duration,
        work: Option<Work>,
        lost: Option<u64>,
    ) -> Report {
        let mut all = Latencies::new();
        [&tally.puts, &tally.gets, &tally.appends].into_iter().for_each(|latencies| all.merge(latencies));
        let done = all.count();
        let per_operation = |amount: u64| amount as f64 / done.max(1) as f64;
        Report {
            conditions,
            conf: arguments.conf.display().to_string(),
            threads: arguments.threads,
            fibers: arguments.fibers,
            ops_per_fiber: arguments.ops_per_fiber,
            mode: arguments.mode,
            put_ratio: arguments.put_ratio,
            value_bytes: arguments.value_bytes,
            keys: arguments.keys.max(arguments.fibers),
            elapsed_ms: elapsed.as_secs_f64() * 1000.0,
            done,
            operations_per_second: done as f64 / elapsed.as_secs_f64(),
            errors: Errors {
                not_sent: tally.not_sent,
                unknown: tally.unknown,
                rejected: tally.rejected,
                wrong: tally.wrong,
                unprepared: tally.unprepared,
            },
            first_error: tally.first_error.clone(),
            latency: all.summary(),
            puts: tally.puts.summary(),
            gets: tally.gets.summary(),
            appends: tally.appends.summary(),
            longest_pause_ms: longest_pause.as_secs_f64() * 1000.0,
            fsyncs_per_operation: work.map(|work| per_operation(work.fsyncs)),
            wal_bytes_per_operation: work.map(|work| per_operation(work.wal_bytes)),
            work,
            lost,
        }
    }

    /// Whether every operation was done and every acknowledged write is there.
    pub(crate) fn is_clean(&self) -> bool {
        self.errors.total() == 0 && self.lost.unwrap_or(0) == 0
    }

    pub(crate) fn print(&self) {
        println!();
        println!("{}", self.conditions);
        println!(
            "{}: {} fibers on {} threads, {} operations each, {:?}, put ratio {}, {} byte values, {} keys",
            self.conf,
            self.fibers,
            self.threads,
            self.ops_per_fiber,
            self.mode,
            self.put_ratio,
            self.value_bytes,
            self.keys
        );
        let asked = self.fibers * self.ops_per_fiber;
        println!("operations  {} of {asked} done in {:.0} ms", self.done, self.elapsed_ms);
        println!("throughput  {:.0} ops/s", self.operations_per_second);
        let Errors { not_sent, unknown, rejected, wrong, unprepared } = self.errors;
        println!(
            "errors      {} ({not_sent} not sent, {unknown} unknown, {rejected} rejected, {wrong} wrong reads, {unprepared} fibers without keys)",
            self.errors.total()
        );
        if let Some(error) = &self.first_error {
            println!("            first: {error}");
        }
        for (name, summary) in
            [("all", self.latency), ("put", self.puts), ("get", self.gets), ("append", self.appends)]
        {
            if summary.count > 0 {
                println!("{name:<11} {summary}");
            }
        }
        println!("pause       {:.0} ms without a finished operation at the longest", self.longest_pause_ms);
        match (self.work, self.fsyncs_per_operation, self.wal_bytes_per_operation) {
            (Some(work), Some(fsyncs), Some(bytes)) => println!(
                "nodes       {} fsyncs ({fsyncs:.4} per op, {:.0}/s), {bytes:.0} WAL bytes per op, on {} nodes; {} elections, {} restarted",
                work.fsyncs,
                work.fsyncs as f64 * 1000.0 / self.elapsed_ms,
                work.nodes,
                work.elections,
                work.restarted
            ),
            _ => println!("nodes       no node told its fsyncs over HTTP"),
        }
        if let Some(lost) = self.lost {
            println!("verified    {lost} acknowledged writes are missing");
        }
        self.print_promises();
    }

    /// The rows of others: the seed's are estimates that it never ran, the original's were measured on loopback.
    fn print_promises(&self) {
        let ms = |micros: f64| format!("{:.2}", micros / 1000.0);
        println!();
        println!("{:<34} {:>14} {:>12} {:>12}", "", "ops/s", "p50 ms", "p99 ms");
        for (clients, rate) in [(10, "2-3 k"), (100, "15-25 k"), (1000, "80-150 k"), (10_000, "200-400 k")] {
            let name = format!("seed promised, {clients} clients");
            println!("{name:<34} {rate:>14} {:>12} {:>12}", "put 3-5", "20-30");
        }
        println!("{:<34} {:>14} {:>12} {:>12}", "seed promised, gets", "", "2-3", "12-20");
        println!("{:<34} {:>14} {:>12} {:>12}", "original measured, 4 to 16 clients", "165", "24 (mean)", "");
        println!("{:<34} {:>14} {:>12} {:>12}", "original measured, 1 client", "42", "20.6", "33.3");
        println!(
            "{:<34} {:>14.0} {:>12} {:>12}",
            format!("here, {} clients", self.fibers),
            self.operations_per_second,
            ms(self.latency.p50_us),
            ms(self.latency.p99_us)
        );
    }
}
