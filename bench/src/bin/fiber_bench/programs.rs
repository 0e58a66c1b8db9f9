//! The contestants: where their programs are, how they are built, and how one is asked a question.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fmt, io};

use bench_kit::NO_ANSWER;
use clap::ValueEnum;
use serde::Serialize;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contestant {
    /// fiber-runtime.
    Moon,
    /// fiber-runtime, with the sockets of `std::net` through the hooks.
    MoonStd,
    /// may 0.3.
    May,
    /// tokio 1, current-thread.
    Tokio,
    /// tokio 1, multi-thread.
    TokioMulti,
    /// A loop around epoll, written by hand.
    Epoll,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Contestant::Moon => "moon",
            Contestant::MoonStd => "moon, std::net",
            Contestant::May => "may",
            Contestant::Tokio => "tokio, current-thread",
            Contestant::TokioMulti => "tokio, multi-thread",
            Contestant::Epoll => "epoll loop",
        })
    }
}

/// Those who answer questions about fibers.
pub(crate) const RUNTIMES: &[Contestant] =
    &[Contestant::Moon, Contestant::May, Contestant::Tokio, Contestant::TokioMulti];

/// Those who serve echoes.
pub(crate) const SERVERS: &[Contestant] = &[
    Contestant::Moon,
    Contestant::MoonStd,
    Contestant::May,
    Contestant::Tokio,
    Contestant::TokioMulti,
    Contestant::Epoll,
];

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    ours: PathBuf,
    rivals: PathBuf,
}

impl Programs {
    /// Ours are beside this program, which cargo built; the rivals' are in their own workspace, built here.
    pub(crate) fn find(build: bool) -> io::Result<Self> {
        let this = env::current_exe()?;
        let ours =
            this.parent().ok_or_else(|| io::Error::other("this program is in no directory"))?.to_owned();
        for program in ["fiber_ours", "echo_load"] {
            if !ours.join(program).exists() {
                let lacks =
                    format!("{} has no {program}: build the whole package moon-bench", ours.display());
                return Err(io::Error::other(lacks));
            }
        }
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        if build {
            eprintln!("building {}", peers.display());
            let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
                .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
                .arg(peers.join("Cargo.toml"))
                .env("CARGO_TARGET_DIR", peers.join("target"))
                .status()?;
            if !status.success() {
                return Err(io::Error::other(format!("building {} failed: {status}", peers.display())));
            }
        }
        Ok(Programs { ours, rivals: peers.join("target/release") })
    }

    /// A program of ours.
    pub(crate) fn ours(&self, name: &str) -> PathBuf {
        self.ours.join(name)
    }

    /// The program of a contestant, and the words that make it answer this question.
    pub(crate) fn words(&self, contestant: Contestant, ask: &str) -> Vec<String> {
        let (program, fixed) = match contestant {
            Contestant::Moon | Contestant::MoonStd => (self.ours.join("fiber_ours"), None),
            Contestant::May => (self.rivals.join("peer-may"), None),
            Contestant::Tokio => (self.rivals.join("peer-tokio"), Some("flavor=current")),
            Contestant::TokioMulti => (self.rivals.join("peer-tokio"), Some("flavor=multi")),
            Contestant::Epoll => (self.rivals.join("peer-epoll"), None),
        };
        let question = match (contestant, ask.split_once(' ')) {
            (Contestant::MoonStd, Some((question, rest))) => format!("{question}_std {rest}"),
            (Contestant::MoonStd, None) => format!("{ask}_std"),
            _ => ask.to_owned(),
        };
        let mut words = vec![program.to_string_lossy().into_owned()];
        words.extend(question.split(' ').map(str::to_owned));
        words.extend(fixed.map(str::to_owned));
        words
    }
}

/// A result as a program printed it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// What was measured.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
}

/// Runs a program to its end and reads its results.
///
/// # Errors
/// What to print in place of a result: it has no such thing, it failed, it did not end in time.
pub(crate) fn ask(
    words: &[String],
    processors: Option<&str>,
    limit: Duration,
) -> Result<Vec<Reading>, String> {
    let mut child =
        command(words, processors).spawn().map_err(|error| format!("cannot start {}: {error}", words[0]))?;
    let mut output = child.stdout.take().expect("the output is a pipe");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _ = output.read_to_string(&mut text);
        text
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if start.elapsed() > limit => {
                end(&mut child);
                return Err(format!("no answer in {} s", limit.as_secs()));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = reader.join().map_err(|_| "the reader of the output panicked")?;
    match status.code() {
        Some(0) => Ok(text.lines().filter_map(reading).collect()),
        Some(NO_ANSWER) => Err("-".to_owned()),
        _ => Err("fails".to_owned()),
    }
}

/// The result of this name.
pub(crate) fn find(results: &Result<Vec<Reading>, String>, name: &str) -> Result<f64, String> {
    let results = results.as_ref().map_err(Clone::clone)?;
    let found = results.iter().find(|result| result.name == name);
    found.map(|result| result.value).ok_or_else(|| "fails".to_owned())
}

fn reading(line: &str) -> Option<Reading> {
    let mut words = line.split(' ');
    let (name, value, _unit) = (words.next()?, words.next()?, words.next()?);
    Some(Reading { name: name.to_owned(), value: value.parse().ok()? })
}

/// The command for these words, bound to these processors. What the contestants complain about is not for the reader of a table;
/// a complaint of the generator is.
pub(crate) fn command(words: &[String], processors: Option<&str>) -> Command {
    let generates = words[0].ends_with("echo_load");
    let mut command = match processors {
        Some(processors) => {
            let mut command = Command::new("taskset");
            command.args(["-c", processors]).args(words);
            command
        }
        None => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        }
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(if generates {
        Stdio::inherit()
    } else {
        Stdio::null()
    });
    command
}

/// A server that was started for a measurement; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts one and waits until it says where it listens.
    pub(crate) fn start(words: &[String], processors: Option<&str>) -> Result<Self, String> {
        let mut child = command(words, processors)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", words[0]))?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("the output is a pipe")).read_line(&mut line);
        let address = line.trim().strip_prefix("listening ").and_then(|address| address.parse().ok());
        match (read, address) {
            (Ok(_), Some(address)) => Ok(Server { child, address }),
            _ => {
                end(&mut child);
                Err("fails".to_owned())
            }
        }
    }

    /// Lets it end by itself, for those that have something to write at their end.
    pub(crate) fn finish(mut self) {
        drop(self.child.stdin.take());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a child that may have ended already.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
