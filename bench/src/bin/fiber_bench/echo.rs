//! TCP echo: one load generator drives every server, server and generator on processors of their own.

use std::fs;
use std::time::Duration;

use crate::programs::{self, Contestant, Reading, SERVERS, Server, find};
use crate::table::{Better, Row, Table, Target};
use crate::{Session, last_processor};

const MESSAGE: &str = "64-byte messages, closed loop, one message under way per connection; one worker each";

/// Connections of the table's rows.
const CONNECTIONS: [u64; 3] = [1, 100, 1000];

/// Rates, waits and processor time at 1, 100 and 1000 connections, and the hooks against the native sockets.
pub(crate) fn measure(session: &Session) -> Table {
    let mut rows = Vec::new();
    let mut hooks = Vec::new();
    for connections in CONNECTIONS {
        let measured = at(session, connections, session.rounds);
        let mut hooked = Row::new(
            format!("std::net through the hooks, {connections} connections"),
            "req/s",
            Better::Higher,
            Some(Target::OfNative(0.95)),
        );
        for contestant in [Contestant::Moon, Contestant::MoonStd] {
            let runs = measured[0].cell(contestant).map_or(&[][..], |cell| &cell.runs);
            runs.iter().for_each(|run| hooked.add(contestant, Ok(*run)));
        }
        hooks.push(hooked);
        rows.extend(measured);
    }
    rows.extend(hooks);
    Table { title: "TCP echo".to_owned(), notes: vec![place(MESSAGE)], rows }
}

/// The rate alone, from one connection to ten thousand.
pub(crate) fn growth(session: &Session) -> Table {
    let counts: &[u64] = if session.quick { &[1, 100] } else { &[1, 10, 100, 1000, 5000, 10_000] };
    let rows = counts.iter().flat_map(|connections| {
        at(session, *connections, session.rounds.min(3)).into_iter().map(|row| Row { target: None, ..row })
    });
    Table {
        title: "How echo grows with connections".to_owned(),
        notes: vec![place(MESSAGE)],
        rows: rows.collect(),
    }
}

/// How the hog of one worker shows in the waits of a thousand connections, on two workers.
pub(crate) fn hog(session: &Session) -> Table {
    const SERVER: &str = "echo workers=2";
    const HOG: &str = " hog_ms=50 hog_period_ms=100";
    let contestants = [Contestant::Moon, Contestant::May, Contestant::TokioMulti];
    let mut rows = Vec::new();
    for (hog, what) in [("", "without a hog"), (HOG, "one fiber busy for 50 of every 100 ms")] {
        let row = |value: &str, unit, better| Row::new(format!("{what}: {value}"), unit, better, None);
        let mut measured = vec![
            row("requests", "req/s", Better::Higher),
            row("p50", "us", Better::Lower),
            row("p99", "us", Better::Lower),
            row("p99.9", "us", Better::Lower),
            row("max", "us", Better::Lower),
        ];
        for contestant in session.turns(&contestants, session.rounds.min(3)) {
            let load = session.load(1000, if session.quick { 300 } else { 2000 });
            let results = exchange(session, contestant, &format!("{SERVER}{hog}"), &load, None);
            for (row, name) in measured.iter_mut().zip(["rate", "p50", "p99", "p999", "max"]) {
                row.add(contestant, find(&results, name));
            }
        }
        rows.extend(measured);
    }
    let notes = vec![
        "1000 connections, 64 bytes; two workers, which share the two processors with the generator.".to_owned(),
        "tokio moves started tasks to the free worker; may steals them, too. Ours stay with their worker (what a fiber's"
            .to_owned(),
        "stack holds need not be `Send`), so that those that share it with the hog wait for it.".to_owned(),
    ];
    Table { title: "A hog among 1000 connections".to_owned(), notes, rows }
}

fn place(message: &str) -> String {
    format!(
        "{message}. Server on processor {}, generator on processor {}.",
        last_processor(),
        first_processor()
    )
}

fn first_processor() -> &'static str {
    "0"
}

/// Rate, waits and processor time at this many connections.
fn at(session: &Session, connections: u64, rounds: u32) -> Vec<Row> {
    let target = Target::Share(Contestant::Epoll, 0.97);
    let mut rows = vec![
        Row::new(format!("echo, {connections} connections"), "req/s", Better::Higher, Some(target)),
        Row::new("  p50", "us", Better::Lower, None),
        Row::new("  p99", "us", Better::Lower, None),
        Row::new("  processor time of the server, each", "us", Better::Lower, None),
    ];
    let load = session.load(connections, if session.quick { 150 } else { 1000 });
    for contestant in session.turns(SERVERS, rounds) {
        let processor = last_processor();
        let results = exchange(session, contestant, "echo workers=1", &load, Some(&processor));
        for (row, name) in rows.iter_mut().zip(["rate", "p50", "p99", "processor"]) {
            row.add(contestant, find(&results, name));
        }
    }
    rows
}

/// A contestant's server under load; its own processor time per request is added to what the generator says.
fn exchange(
    session: &Session,
    contestant: Contestant,
    ask: &str,
    load: &[String],
    processor: Option<&str>,
) -> Result<Vec<Reading>, String> {
    let server = Server::start(&session.programs.words(contestant, ask), processor)?;
    let mut words = load.to_vec();
    words.push(format!("address={}", server.address));
    let before = processor_time(server.id());
    let generator = processor.map(|_| first_processor());
    let mut results = programs::ask(&words, generator, Duration::from_secs(60))?;
    let spent = processor_time(server.id()).saturating_sub(before);
    // The generator's warm-up is a sixth of all requests.
    let requests = find(&Ok(results.clone()), "requests")? * 1.2;
    let value = spent.as_nanos() as f64 / 1000.0 / requests.max(1.0);
    results.push(Reading { name: "processor".to_owned(), value });
    Ok(results)
}

/// What all threads of a process have run on a processor so far.
fn processor_time(process: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Duration::ZERO };
    let nanos = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

impl Session {
    /// The generator's words, but for the address.
    fn load(&self, connections: u64, millis: u64) -> Vec<String> {
        vec![
            self.programs.ours("echo_load").to_string_lossy().into_owned(),
            "drive".to_owned(),
            format!("connections={connections}"),
            format!("millis={millis}"),
        ]
    }
}
