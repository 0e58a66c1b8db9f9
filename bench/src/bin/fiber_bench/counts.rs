//! System calls (strace) and instructions (callgrind) per operation: figures that do not depend on how busy the machine is.
//!
//! Each program runs at two sizes; the difference of the counts over the difference of the operations leaves out what
//! starting and stopping costs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, process};

use crate::Session;
use crate::programs::{self, Contestant, RUNTIMES, SERVERS, Server};
use crate::table::{Better, Row, Table, Target};

/// A program must end within this, though it runs fifty times as slow as it would alone.
const LIMIT: Duration = Duration::from_secs(120);

/// None: a worker looks for I/O at bounded intervals however busy it is, which is less often than this.
const NONE: f64 = 0.01;

/// What is counted: a question, the parameter that says how often, and how many operations one of it is.
struct Operation {
    what: &'static str,
    question: &'static str,
    parameter: &'static str,
    each: f64,
}

/// The warm-up is a tenth of what is measured, and is counted, too.
const OPERATIONS: [Operation; 4] = [
    Operation { what: "yield_now", question: "yield", parameter: "turns", each: 2.0 },
    Operation { what: "spawn + join", question: "spawn", parameter: "count", each: 1.1 },
    Operation { what: "spawn_local + join", question: "spawn_local", parameter: "count", each: 1.1 },
    Operation {
        what: "local wake (half a channel round trip)",
        question: "ping_pong",
        parameter: "count",
        each: 2.2,
    },
];

/// The table; without the tools, its reason.
pub(crate) fn measure(session: &Session) -> Table {
    let mut table = Table::new("System calls and instructions per operation");
    let directory = Scratch::new();
    if found("strace") {
        for operation in &OPERATIONS {
            let row = Row::new(
                format!("system calls per {}", operation.what),
                "",
                Better::Lower,
                Some(Target::AtMost(NONE)),
            );
            table.rows.push(fill(session, row, |contestant| {
                difference(operation, if session.quick { [500, 2500] } else { [2000, 20_000] }, |ask| {
                    calls(&session.programs.words(contestant, ask), &directory)
                })
            }));
        }
        for connections in [1, 100] {
            table.rows.extend(echo(session, connections, &directory));
        }
    } else {
        table.notes.push("No system calls were counted: strace is not installed.".to_owned());
    }
    if found("valgrind") {
        for operation in &OPERATIONS {
            let row = Row::new(format!("instructions per {}", operation.what), "", Better::Lower, None);
            let sizes = if session.quick { [500, 2500] } else { [2000, 22_000] };
            table.rows.push(fill(session, row, |contestant| {
                difference(operation, sizes, |ask| {
                    instructions(&session.programs.words(contestant, ask), &directory)
                })
            }));
        }
    } else {
        table.notes.push("No instructions were counted: valgrind is not installed.".to_owned());
    }
    table
}

fn fill(session: &Session, mut row: Row, count: impl Fn(Contestant) -> Result<f64, String>) -> Row {
    for contestant in session.turns(RUNTIMES, 1) {
        row.add(contestant, count(contestant));
    }
    row
}

fn difference(
    operation: &Operation,
    sizes: [u64; 2],
    count: impl Fn(&str) -> Result<f64, String>,
) -> Result<f64, String> {
    let Operation { question, parameter, each, .. } = operation;
    let [low, high] = sizes.map(|size| count(&format!("{question} {parameter}={size} workers=1")));
    Ok((high? - low?).max(0.0) / ((sizes[1] - sizes[0]) as f64 * each))
}

/// All system calls of a program.
fn calls(words: &[String], directory: &Scratch) -> Result<f64, String> {
    let output = directory.file("strace");
    programs::ask(&under_strace(words, &output), None, LIMIT)?;
    Ok(counted(&output)?.iter().map(|(_, count)| count).sum())
}

fn under_strace(words: &[String], output: &Path) -> Vec<String> {
    let mut all: Vec<String> = ["strace", "-f", "-c", "-o"].map(str::to_owned).to_vec();
    all.push(output.to_string_lossy().into_owned());
    all.extend_from_slice(words);
    all
}

/// The lines of strace's summary: `% time, seconds, usecs/call, calls, [errors,] name`.
fn counted(output: &Path) -> Result<Vec<(String, f64)>, String> {
    let text = fs::read_to_string(output).map_err(|error| format!("strace left nothing: {error}"))?;
    Ok(text.lines().filter_map(summary_line).collect())
}

fn summary_line(line: &str) -> Option<(String, f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = words.last().filter(|name| **name != "total")?;
    Some(((*name).to_owned(), words.get(3)?.parse().ok()?))
}

/// Instructions of a program, in user space.
fn instructions(words: &[String], directory: &Scratch) -> Result<f64, String> {
    let output = directory.file("callgrind");
    let mut all = vec!["valgrind".to_owned(), "--tool=callgrind".to_owned()];
    all.push(format!("--callgrind-out-file={}", output.display()));
    all.extend_from_slice(words);
    programs::ask(&all, None, LIMIT)?;
    let text = fs::read_to_string(output).map_err(|error| format!("callgrind left nothing: {error}"))?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    totals.and_then(|count| count.trim().parse().ok()).ok_or_else(|| "fails".to_owned())
}

/// System calls of the echo servers per request, by kind.
fn echo(session: &Session, connections: u64, directory: &Scratch) -> Vec<Row> {
    // A traced server is slow, so that with one connection its next request may be there before it looks.
    const KINDS: [(&str, &[&str]); 5] = [
        ("receive", &["recvfrom", "read", "recvmsg", "readv"]),
        ("send", &["sendto", "write", "sendmsg", "writev"]),
        ("epoll_wait", &["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
        ("epoll_ctl", &["epoll_ctl"]),
        ("fcntl", &["fcntl"]),
    ];
    let new = |what: String, target| Row::new(what, "", Better::Lower, target);
    let mut rows = vec![new(format!("system calls per echo, {connections} connections"), None)];
    rows.extend(
        KINDS.iter().map(|(kind, _)| {
            new(format!("  {kind}"), (*kind == "epoll_ctl").then_some(Target::AtMost(NONE)))
        }),
    );
    let sizes: [u64; 2] = if session.quick { [200, 1200] } else { [2000, 12_000] };
    for contestant in session.turns(SERVERS, 1) {
        let [low, high] = sizes.map(|requests| {
            let output = directory.file("strace");
            let words = session.programs.words(contestant, "echo workers=1");
            let server = Server::start(&under_strace(&words, &output), None)?;
            let load = [
                session.programs.ours("echo_load").to_string_lossy().into_owned(),
                "count".to_owned(),
                format!("connections={connections}"),
                format!("requests={requests}"),
                format!("address={}", server.address),
            ];
            programs::ask(&load, None, LIMIT)?;
            server.finish();
            counted(&output)
        });
        let per_request = |names: Option<&[&str]>| {
            let sum = |counts: &Result<Vec<(String, f64)>, String>| {
                let counts = counts.as_ref().map_err(Clone::clone)?;
                let chosen = counts
                    .iter()
                    .filter(|(name, _)| names.is_none_or(|names| names.contains(&name.as_str())));
                Ok::<f64, String>(chosen.map(|(_, count)| count).sum())
            };
            Ok((sum(&high)? - sum(&low)?).max(0.0) / (sizes[1] - sizes[0]) as f64)
        };
        rows[0].add(contestant, per_request(None));
        for (row, (_, names)) in rows[1..].iter_mut().zip(KINDS) {
            row.add(contestant, per_request(Some(names)));
        }
    }
    rows
}

fn found(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A directory for what the tools write, gone with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("fiber-bench-{}", process::id()));
        // A failure shows when a tool cannot write.
        let _ = fs::create_dir_all(&path);
        Scratch(path)
    }

    /// A file that is not there yet.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let _ = fs::remove_file(&path);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_summary_is_read_with_and_without_errors() {
        let with = "  6.80    0.000083           6        13         1 read";
        assert_eq!(summary_line(with), Some(("read".to_owned(), 13.0)));
        assert_eq!(
            summary_line("  9.10    0.000111           6        17           mmap"),
            Some(("mmap".to_owned(), 17.0))
        );
        for other in ["% time     seconds  usecs/call     calls    errors syscall", "------ -----------", ""]
        {
            assert_eq!(summary_line(other), None);
        }
        assert_eq!(summary_line("100.00    0.001220           8       138         3 total"), None);
    }
}
