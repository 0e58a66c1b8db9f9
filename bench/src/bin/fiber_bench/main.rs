//! What does the fiber runtime cost, and how does it compare with may, tokio and a hand-written epoll loop?
//!
//! One sub-command per row of the targets for fibers. Each contestant answers in a process of its own, in turns, in
//! several rounds; one table at the end has medians, spread, how many times as good ours is, and the target. What
//! the contestants do is in `fiber_ours` and `bench/peers`; what is asked, in [`questions`].

mod counts;
mod echo;
mod growth;
mod idle;
mod programs;
mod questions;
mod table;

use std::error::Error;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use moon_bench::conditions::Conditions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use programs::{Contestant, Programs};
use questions::Case;
use table::{Row, Table};

/// Measures fiber-runtime beside may, tokio and an epoll loop.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to measure; everything but the growth tables without it.
    #[arg(value_enum)]
    questions: Vec<Question>,
    /// Rounds; in each, every contestant has one turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A look in seconds instead of a measurement: small sizes, one round.
    #[arg(long)]
    quick: bool,
    /// Only these contestants.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contestant>,
    /// Takes the rivals' programs as they are instead of building them first.
    #[arg(long)]
    no_build: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// `yield_now` among 2 and 10,000 ready fibers.
    Yield,
    /// Spawn and join of an empty fiber.
    Spawn,
    /// Round trip over two channels.
    PingPong,
    /// Resident memory of an idle parked fiber.
    Memory,
    /// A million guarded fibers alive at once.
    Million,
    /// The skynet tree: a million leaves, ten children each.
    Skynet,
    /// How late a sleep of 1 ms ends.
    Sleep,
    /// may's own benchmarks.
    May,
    /// tokio's own benchmarks of its scheduler.
    Tokio,
    /// A token in a ring of 1,000 fibers.
    Ring,
    /// How fast a fiber of a sleeping worker runs after a thread woke it.
    Wake,
    /// Deadlines, armed and cancelled: in a round trip, and a million at once.
    Timers,
    /// TCP echo at 1, 100 and 1000 connections; `std::net` through the hooks against the native sockets.
    Echo,
    /// The waits of 1000 connections while one fiber hogs a worker.
    Hog,
    /// 100,000 connections that say nothing.
    Idle,
    /// System calls and instructions per operation, with strace and callgrind.
    Counts,
    /// How cost grows with fibers, connections and workers; only when asked for.
    Growth,
}

#[derive(Serialize)]
struct Report {
    conditions: Conditions,
    rounds: u32,
    quick: bool,
    tables: Vec<Table>,
}

/// What every measurement needs to know.
#[derive(Debug)]
struct Session {
    programs: Programs,
    rounds: u32,
    quick: bool,
    only: Vec<Contestant>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let conditions = Conditions::now();
    let rivals = arguments.only.is_empty()
        || arguments.only.iter().any(|one| !matches!(one, Contestant::Moon | Contestant::MoonStd));
    let session = Session {
        programs: Programs::find(rivals && !arguments.no_build)?,
        rounds: if arguments.quick { 1 } else { arguments.rounds },
        quick: arguments.quick,
        only: arguments.only,
    };
    let asked = match arguments.questions.is_empty() {
        true => Question::value_variants().iter().copied().filter(|one| *one != Question::Growth).collect(),
        false => arguments.questions,
    };
    raise_descriptor_limit();
    let mut tables = Vec::new();
    let mut fibers = Table::new("Fibers, one worker");
    let mut ports = Table::new("What others measure themselves by; may's and tokio's own on two workers");
    for question in asked {
        eprintln!("measuring {question:?}");
        match question {
            Question::Yield => fibers.rows.extend(session.cases(questions::YIELD)),
            Question::Spawn => fibers.rows.extend(session.cases(questions::SPAWN)),
            Question::PingPong => fibers.rows.extend(session.cases(questions::PING_PONG)),
            Question::Memory => fibers.rows.extend(session.cases(questions::MEMORY)),
            Question::Million => fibers.rows.extend(session.cases(questions::MILLION)),
            Question::Skynet => fibers.rows.extend(session.cases(questions::SKYNET)),
            Question::Sleep => fibers.rows.extend(session.cases(questions::SLEEP)),
            Question::May => ports.rows.extend(session.cases(questions::MAY)),
            Question::Tokio => ports.rows.extend(session.cases(questions::TOKIO)),
            Question::Ring => ports.rows.extend(session.cases(questions::RING)),
            Question::Wake => ports.rows.extend(session.cases(questions::WAKE)),
            Question::Timers => ports.rows.extend(session.cases(questions::TIMERS)),
            Question::Echo => tables.push(echo::measure(&session)),
            Question::Hog => tables.push(echo::hog(&session)),
            Question::Idle => tables.push(idle::measure(&session)),
            Question::Counts => tables.push(counts::measure(&session)),
            Question::Growth => {
                tables.extend([growth::fibers(&session), echo::growth(&session), growth::workers(&session)]);
            }
        }
    }
    tables.splice(0..0, [fibers, ports]);
    tables.retain(|table| !table.rows.is_empty());
    if session.quick {
        tables.iter_mut().flat_map(|table| &mut table.rows).for_each(|row| row.target = None);
    }
    let report = Report { conditions, rounds: session.rounds, quick: session.quick, tables };
    let silent = report.tables.iter().flat_map(|table| &table.rows).find(|row| row.lacks_ours());
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    match silent {
        Some(row) => Err(format!("moon has no result for `{}`", row.what).into()),
        None => Ok(()),
    }
}

fn print(report: &Report) {
    println!("{}; load at the end {}", report.conditions, Conditions::now().load);
    println!(
        "{} rounds, one process each; median (lowest-highest); 2x: moon is twice as good",
        report.rounds
    );
    if report.quick {
        println!("--quick: a fraction of the sizes, so that no target can be judged");
    }
    for table in &report.tables {
        println!("\n{table}");
    }
}

impl Session {
    /// Whether a contestant takes part.
    fn takes_part(&self, contestant: Contestant) -> bool {
        self.only.is_empty() || self.only.contains(&contestant)
    }

    /// Asks every contestant in turns, every round beginning with another.
    fn turns(&self, contestants: &[Contestant], rounds: u32) -> Vec<Contestant> {
        let present: Vec<Contestant> =
            contestants.iter().copied().filter(|one| self.takes_part(*one)).collect();
        let mut turns = Vec::new();
        for round in 0..rounds as usize {
            let first = if present.is_empty() { 0 } else { round % present.len() };
            turns.extend(present.iter().cycle().skip(first).take(present.len()));
        }
        turns
    }

    /// The rows of these cases.
    fn cases(&self, cases: &[Case]) -> Vec<Row> {
        cases.iter().flat_map(|case| self.case(case)).collect()
    }

    fn case(&self, case: &Case) -> Vec<Row> {
        let row = |metric: &questions::Metric| {
            (metric.name, Row::new(metric.what, metric.unit, metric.better, metric.target))
        };
        let ask = format!("{} workers={}", case.ask[usize::from(self.quick)], case.workers);
        let rows = case.metrics.iter().map(row).collect();
        self.rows(&ask, case.bound, case.contestants, self.rounds, rows)
    }

    /// Fills rows, each given with the name that its result has, by asking every contestant once in every round.
    fn rows(
        &self,
        ask: &str,
        bound: bool,
        contestants: &[Contestant],
        rounds: u32,
        mut rows: Vec<(&str, Row)>,
    ) -> Vec<Row> {
        const LIMIT: Duration = Duration::from_secs(60);
        let processor = bound.then(last_processor);
        for contestant in self.turns(contestants, rounds) {
            let words = self.programs.words(contestant, ask);
            let results = programs::ask(&words, processor.as_deref(), LIMIT);
            for (name, row) in &mut rows {
                row.add(contestant, programs::find(&results, name));
            }
        }
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// As many descriptors as the system lets this process have, for itself and for those it starts.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A refusal shows in the number of connections that can be held.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The processor that single-worker programs are bound to: the last, which the system uses least.
fn last_processor() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors - 1).to_string()
}
