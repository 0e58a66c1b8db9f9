//! What does the fiber runtime cost, and how does it compare with may, tokio and a hand-written epoll loop?
//!
//! One sub-command per row of the targets for fibers. Each contestant answers in a process of its own, in turns, in
//! several rounds; one table at the end has medians, spread, how many times as good ours is, and the target. What
//! the contestants do is in `fiber_ours` and `bench/peers`; what is asked, in [`questions`].

#[allow(dead_code, reason = "servers and what is asked of them follow")]
mod programs;
mod questions;
#[allow(dead_code, reason = "servers and what is asked of them follow")]
mod table;

use std::error::Error;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use moon_bench::conditions::Conditions;
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
        true => Question::value_variants().to_vec(),
        false => arguments.questions,
    };
    let mut fibers = Table { title: "Fibers, one worker".to_owned(), notes: Vec::new(), rows: Vec::new() };
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
        }
    }
    if session.quick {
        fibers.rows.iter_mut().for_each(|row| row.target = None);
    }
    let tables = vec![fibers];
    let report = Report { conditions, rounds: session.rounds, quick: session.quick, tables };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!("{}; load at the end {}", report.conditions, Conditions::now().load);
    println!(
        "{} rounds, one process each; median (lowest-highest); 2x: moon is twice as good",
        report.rounds
    );
    if report.quick {
        println!("--quick: a fraction of the sizes, so that no target can be judged");
    }
    for table in report.tables.iter().filter(|table| !table.rows.is_empty()) {
        println!("\n{table}");
    }
    Ok(())
}

impl Session {
    /// Whether a contestant takes part.
    fn takes_part(&self, contestant: Contestant) -> bool {
        self.only.is_empty() || self.only.contains(&contestant)
    }

    /// Asks every contestant in turns, every round beginning with another.
    fn turns(&self, contestants: &[Contestant]) -> Vec<Contestant> {
        let present: Vec<Contestant> =
            contestants.iter().copied().filter(|one| self.takes_part(*one)).collect();
        let mut turns = Vec::new();
        for round in 0..self.rounds as usize {
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
        const LIMIT: Duration = Duration::from_secs(60);
        let new =
            |metric: &questions::Metric| Row::new(metric.what, metric.unit, metric.better, metric.target);
        let mut rows: Vec<Row> = case.metrics.iter().map(new).collect();
        // The column order is that of the list, whoever begins.
        let processor = (case.workers == 1).then(last_processor);
        for contestant in self.turns(case.contestants) {
            let ask = format!("{} workers={}", case.ask[usize::from(self.quick)], case.workers);
            let words = self.programs.words(contestant, &ask);
            let results = programs::ask(&words, processor.as_deref(), LIMIT);
            for (row, metric) in rows.iter_mut().zip(case.metrics) {
                let value = results.as_ref().map_err(Clone::clone).and_then(|results| {
                    let named = results.iter().find(|result| result.name == metric.name);
                    named.map(|result| result.value).ok_or_else(|| "fails".to_owned())
                });
                row.add(contestant, value);
            }
        }
        rows
    }
}

/// The processor that single-worker programs are bound to: the last, which the system uses least.
fn last_processor() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors - 1).to_string()
}
