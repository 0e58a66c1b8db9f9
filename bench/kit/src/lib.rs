//! What the measured programs have in common: the question on their command line, the results on their output.
//!
//! `fiber_bench` runs one process per contestant and question, so that no runtime meets what another left behind:
//!
//! ```text
//! peer-may yield fibers=2 turns=500000       the question, then numbers or words by name
//! ns_per_yield 61.3 ns                       a result: name, value, unit
//! listening 127.0.0.1:40123                  a server, ready; it ends when its standard input does
//! ```
//!
//! There are no dependencies, so that both workspaces, Moon's and the rivals', can use it.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{env, fs, io, process};

/// A question and its parameters, as `name=value`.
#[derive(Clone, Debug)]
pub struct Arguments {
    question: String,
    parameters: Vec<(String, String)>,
}

impl Arguments {
    /// Those of this process. Ends it with a message when they cannot be understood.
    pub fn from_env() -> Self {
        Self::parse(env::args().skip(1)).unwrap_or_else(|wrong| fail(&wrong))
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let question = arguments.next().ok_or("the first argument is the question")?;
        let pair = |text: String| match text.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("`{text}` is not name=value")),
        };
        Ok(Arguments { question, parameters: arguments.map(pair).collect::<Result<_, _>>()? })
    }

    /// What is asked.
    pub fn question(&self) -> &str {
        &self.question
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter as number, `default` without it. Ends the process when it is something else.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).map_or(default, |text| {
            text.parse().unwrap_or_else(|_| fail(&format!("{name}={text}: not a number")))
        })
    }
}

/// Ends the process: it was asked for something that it cannot do.
pub fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    process::exit(2)
}

/// Ends the process with the status that says: this contestant has no such thing.
pub fn unknown(arguments: &Arguments) -> ! {
    eprintln!("no answer to `{}`", arguments.question);
    process::exit(NO_ANSWER)
}

/// The exit status of a contestant that does not know the concept it is asked about.
pub const NO_ANSWER: i32 = 3;

/// Prints a result.
pub fn report(name: &str, value: f64, unit: &str) {
    println!("{name} {value} {unit}");
    // Whoever reads may want it before the process ends, or may have gone, which is no concern of ours.
    let _ = io::stdout().flush();
}

/// Prints the time each of `count` operations took.
pub fn report_each(name: &str, took: Duration, count: u64) {
    report(name, took.as_nanos() as f64 / count.max(1) as f64, "ns");
}

/// Runs `work` and gives the time it took.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Prints the median, the 99th percentile and the maximum of some waits.
pub fn report_waits(mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let Some(last) = waits.len().checked_sub(1) else { fail("there were no waits to report") };
    let micros = |wait: Duration| wait.as_nanos() as f64 / 1000.0;
    report("p50", micros(waits[last / 2]), "us");
    report("p99", micros(waits[last * 99 / 100]), "us");
    report("max", micros(waits[last]), "us");
}

/// Says where a server listens, and waits until whoever started it closes its standard input or ends.
pub fn serve_until_told(address: SocketAddr) {
    println!("listening {address}");
    let _ = io::stdout().flush();
    // An error is an end, too.
    let _ = io::stdin().read_to_end(&mut Vec::new());
}

/// Physical memory of this process, in bytes; what is only reserved or shared with the page cache as it stands in `statm`.
pub fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}

/// What a skynet tree adds up to: its leaves are numbered from 0, and there are a power of ten.
pub fn skynet_sum(leaves: u64) -> u64 {
    leaves * leaves.saturating_sub(1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn parameters_are_found_by_name() {
        let arguments = parse(&["yield", "fibers=2", "flavor=multi"]).unwrap();
        assert_eq!((arguments.question(), arguments.number("fibers", 7)), ("yield", 2));
        assert_eq!((arguments.text("flavor"), arguments.number("turns", 9)), (Some("multi"), 9));
    }

    #[test]
    fn arguments_without_a_question_or_a_name_are_refused() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["yield", "2"]).unwrap_err().contains("`2`"));
    }

    #[test]
    fn the_sum_of_a_million_leaves_is_the_one_everybody_knows() {
        assert_eq!(skynet_sum(1_000_000), 499_999_500_000);
    }
}
