//! What a dump shows.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::symbols::Backtrace;

/// What a fiber was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FiberState {
    /// It has no stack yet.
    NotStarted,
    /// It can go on and waits for its worker.
    Ready,
    /// It has its worker, and has had it for long: a worker whose fibers give way answers with none running.
    Running,
    /// It waits.
    Parked {
        /// For what: `sleep`, `recv`, `mutex`, ...
        waits_for: &'static str,
        /// For how long. Too long by up to a tenth of a millisecond: a wait begins at its worker's last look at the clock.
        since: Duration,
    },
}

impl fmt::Display for FiberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FiberState::NotStarted => f.write_str("not started"),
            FiberState::Ready => f.write_str("ready"),
            FiberState::Running => f.write_str("running"),
            FiberState::Parked { waits_for, since } => write!(f, "waits for {waits_for}, {since:.1?}"),
        }
    }
}

/// One fiber.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FiberDump {
    /// Its number.
    pub id: u64,
    /// Its name, cut to 120 bytes.
    pub name: Option<String>,
    /// What it was doing.
    pub state: FiberState,
    /// The worker it belongs to; `None` if it has not started.
    pub worker: Option<usize>,
    /// Where it was. Empty if it has not started, on processors other than x86-64, and for the running fiber of a worker
    /// whose thread did not react.
    pub backtrace: Backtrace,
}

impl fmt::Display for FiberDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  fiber #{}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        if let Some(worker) = self.worker {
            write!(f, " on worker {worker}")?;
        }
        write!(f, ": {}", self.state)
    }
}

/// How a worker's fibers came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Its worker listed them between two fibers.
    Answered,
    /// It was in one fiber the whole time: its thread was interrupted.
    Interrupted,
    /// Its thread did not react: it is stopped, in an uninterruptible sleep, or blocks SIGURG. At most the fiber it
    /// runs is known.
    Silent,
    /// Nobody drives it: it is the caller's, between two calls of `block_on`. Its fibers are not listed.
    Away,
}

/// One worker.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WorkerDump {
    /// Its number, from 0.
    pub index: usize,
    /// How its fibers came to be known.
    pub answer: Answer,
}

/// The fibers of one runtime. Not of one instant: workers are asked one after the other, and go on meanwhile.
///
/// Displayed, fibers with the same backtrace stand together, those that are most of a kind last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeDump {
    /// The runtime's name.
    pub name: String,
    /// Its workers.
    pub workers: Vec<WorkerDump>,
    /// Its fibers.
    pub fibers: Vec<FiberDump>,
    /// Fibers that exist and are not listed: of workers that are away or silent, and those beyond the first few hundred of
    /// each worker that have not started.
    pub unlisted: u64,
}

impl RuntimeDump {
    /// The fiber with this name, if there is one.
    pub fn fiber(&self, name: &str) -> Option<&FiberDump> {
        self.fibers.iter().find(|fiber| fiber.name.as_deref() == Some(name))
    }
}

impl fmt::Display for RuntimeDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "runtime '{}': {} workers, {} fibers", self.name, self.workers.len(), self.fibers.len())?;
        for worker in &self.workers {
            match worker.answer {
                Answer::Answered => {}
                Answer::Interrupted => {
                    writeln!(f, "  worker {} does not answer; it was interrupted", worker.index)?;
                }
                Answer::Silent => {
                    writeln!(f, "  worker {} does not answer and does not react", worker.index)?;
                }
                Answer::Away => writeln!(f, "  worker {} has nobody who drives it", worker.index)?,
            }
        }
        let mut groups: Vec<Vec<&FiberDump>> = Vec::new();
        let mut places = HashMap::new();
        for fiber in &self.fibers {
            let place = *places.entry(fiber.backtrace.place()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[place].push(fiber);
        }
        // What is alone of its kind is what one looks for.
        groups.sort_by_key(Vec::len);
        for group in groups {
            for fiber in &group {
                writeln!(f, "{fiber}")?;
            }
            if let Some(first) = group.first() {
                fmt::Display::fmt(&first.backtrace, f)?;
            }
        }
        if self.unlisted > 0 {
            writeln!(f, "  and {} fibers that are not listed", self.unlisted)?;
        }
        Ok(())
    }
}

/// The fibers of every runtime of the process.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Dump {
    /// One dump a runtime.
    pub runtimes: Vec<RuntimeDump>,
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for runtime in &self.runtimes {
            fmt::Display::fmt(runtime, f)?;
        }
        Ok(())
    }
}
