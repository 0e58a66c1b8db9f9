//! Where and how a benchmark ran: a figure without it cannot be compared with anything.

use std::fmt;
use std::fs;

use serde::Serialize;

/// The machine and the build.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// Model of the processor.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Version of the kernel.
    pub kernel: String,
    /// `release` or `debug`: figures of a debug build say nothing.
    pub build: &'static str,
    /// Processes that were running or wanted to when the benchmark started, over the last minute.
    pub load: String,
}

impl Conditions {
    /// Those of this process, now.
    pub fn now() -> Conditions {
        let first_line = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = first_line("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown".to_owned(), |(_, name)| name.trim().to_owned());
        Conditions {
            processor,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: first_line("/proc/sys/kernel/osrelease").trim().to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            load: first_line("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions { processor, processors, kernel, build, load } = self;
        write!(f, "{processors} x {processor}, Linux {kernel}, {build} build, load {load}")
    }
}
