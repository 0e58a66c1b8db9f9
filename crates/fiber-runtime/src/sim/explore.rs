//! Running one closure under many seeds: a search for the schedule that breaks it.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::{Sim, SimState};
use crate::fiber::park;
use crate::scheduler::worker::Worker;

/// How often a long search says that it is alive.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs `body` in a [`Sim`] for each of the seeds `0..seeds`, each time with another order of everything that may happen in
/// another order: which ready fiber runs, whose equal deadline comes first, who of several is woken first.
///
/// The environment changes which seeds: `MOON_SEED=n` runs that one alone, `MOON_SEEDS=n` so many, `MOON_FIRST=n` begins
/// there.
///
/// ```
/// use fiber_runtime::{sim, spawn, sync::Mutex};
/// use std::sync::Arc;
///
/// let explored = sim::explore(200, || {
///     let total = Arc::new(Mutex::new(0));
///     let adders: Vec<_> = (0..3)
///         .map(|_| {
///             let total = total.clone();
///             spawn(move || *total.lock() += 1)
///         })
///         .collect();
///     adders.into_iter().for_each(|adder| adder.join().unwrap());
///     assert_eq!(*total.lock(), 3);
/// });
/// # if std::env::var_os("MOON_SEED").is_none() && std::env::var_os("MOON_SEEDS").is_none() {
/// assert_eq!(explored.runs, 200);
/// # }
/// ```
///
/// # Panics
/// With a [`Failure`] as text, when a seed fails; see there. When a number in the environment is none.
#[track_caller]
pub fn explore(seeds: u64, body: impl Fn()) -> Explored {
    Explorer::new(0..seeds).check(body)
}

/// A search with settings; [`explore`] is one without.
///
/// ```
/// use fiber_runtime::{sim::Explorer, spawn, yield_now};
/// use std::{cell::Cell, rc::Rc};
///
/// // A read, a chance for others, a write: an update can be lost.
/// let failure = Explorer::new(0..1000)
///     .run(|| {
///         let total = Rc::new(Cell::new(0));
///         let adders: Vec<_> = (0..2)
///             .map(|_| {
///                 let total = total.clone();
///                 fiber_runtime::spawn_local(move || {
///                     let before = total.get();
///                     yield_now();
///                     total.set(before + 1);
///                 })
///             })
///             .collect();
///         adders.into_iter().for_each(|adder| adder.join().unwrap());
///         assert_eq!(total.get(), 2, "an update was lost");
///     })
///     .unwrap_err();
/// assert!(failure.message.contains("an update was lost"));
/// assert!(failure.to_string().contains(&format!("MOON_SEED={}", failure.seed)));
/// ```
#[derive(Clone, Debug)]
#[must_use = "an explorer does nothing until `run` or `check`"]
pub struct Explorer {
    seeds: Range<u64>,
    time_budget: Option<Duration>,
    progress: Duration,
    twice: bool,
}

impl Explorer {
    /// A search through these seeds.
    pub fn new(seeds: Range<u64>) -> Self {
        Explorer { seeds, time_budget: None, progress: PROGRESS, twice: false }
    }

    /// Begins no further run after this long. Without it, the search ends with the seeds.
    pub fn time_budget(mut self, budget: Duration) -> Self {
        self.time_budget = Some(budget);
        self
    }

    /// How often the search says on standard error how far it is. Default: every 10 seconds.
    pub fn progress_every(mut self, interval: Duration) -> Self {
        self.progress = interval;
        self
    }

    /// Runs each seed twice and fails if the two runs differ: something that the seed does not decide, a clock, an
    /// address, a hash map's order, has a say in what the closure does.
    pub fn check_determinism(mut self) -> Self {
        self.twice = true;
        self
    }

    /// Runs `body` under each seed until one fails: it panics, deadlocks, or a fiber whose handle was dropped panics.
    ///
    /// `body` runs as a simulation's first fiber. What it captures is the same in every run; state that runs change
    /// belongs inside.
    ///
    /// # Errors
    /// The first seed that fails.
    pub fn run(&self, body: impl Fn()) -> Result<Explored, Failure> {
        let began = Instant::now();
        let mut said = Duration::ZERO;
        let mut explored = Explored { runs: 0, steps: 0, elapsed: Duration::ZERO };
        for seed in self.seeds.clone() {
            if self.time_budget.is_some_and(|budget| began.elapsed() >= budget) {
                break;
            }
            let run = Run::of(seed, &body);
            if let Err(message) = run.outcome {
                // Reproducible means: the same steps to the same end.
                let again = Run::of(seed, &body);
                let reproducible = again.trace == run.trace && again.outcome.as_ref() == Err(&message);
                return Err(Failure {
                    seed,
                    message,
                    steps: run.steps,
                    reproducible,
                    runs_before: explored.runs,
                });
            }
            if self.twice {
                let again = Run::of(seed, &body);
                if again.trace != run.trace || again.outcome.is_err() {
                    let message = format!(
                        "two runs of this seed differ: the first took {} steps, the second {}",
                        run.steps, again.steps
                    );
                    let runs_before = explored.runs;
                    return Err(Failure {
                        seed,
                        message,
                        steps: run.steps,
                        reproducible: false,
                        runs_before,
                    });
                }
            }
            explored.runs += 1;
            explored.steps += run.steps;
            explored.elapsed = began.elapsed();
            if explored.elapsed - said >= self.progress {
                said = explored.elapsed;
                eprintln!("{explored}, at seed {seed} of {}..{}", self.seeds.start, self.seeds.end);
            }
        }
        Ok(explored)
    }

    /// As [`run`](Explorer::run), for tests: the environment may choose the seeds, as for [`explore`], and a failure is a
    /// panic.
    ///
    /// # Panics
    /// As [`explore`].
    #[track_caller]
    pub fn check(mut self, body: impl Fn()) -> Explored {
        self.seeds = choose_seeds(self.seeds, |name| std::env::var(name).ok());
        match self.run(body) {
            Ok(explored) => explored,
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// What came of one seed.
struct Run {
    outcome: Result<(), String>,
    trace: u64,
    steps: u64,
}

impl Run {
    fn of(seed: u64, body: &impl Fn()) -> Run {
        let sim = Sim::new(seed);
        // Unwind safety is the closure's: a failure ends the search, but for one more run of the same seed.
        let outcome = catch_unwind(AssertUnwindSafe(|| sim.run(body))).map_err(|payload| {
            let text = payload.downcast_ref::<&'static str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            text.unwrap_or("a panic whose payload is not text").to_owned()
        });
        Run { outcome, trace: sim.trace_hash(), steps: sim.steps() }
    }
}

/// The seeds that the environment asks for, else `seeds`.
fn choose_seeds(seeds: Range<u64>, variable: impl Fn(&str) -> Option<String>) -> Range<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = variable(name)?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    if let Some(seed) = number("MOON_SEED") {
        return seed..seed.saturating_add(1);
    }
    let first = number("MOON_FIRST").unwrap_or(seeds.start);
    let count = number("MOON_SEEDS").unwrap_or(seeds.end.saturating_sub(seeds.start));
    first..first.saturating_add(count)
}

/// A search that found nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explored {
    /// Seeds that were run.
    pub runs: u64,
    /// How many times a fiber was given the processor, over all runs.
    pub steps: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "explored {} seeds, {} steps, in {:.1?}", self.runs, self.steps, self.elapsed)
    }
}

/// A seed that fails. Displayed, it says how to run that seed again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Failure {
    /// The seed: `Sim::new(seed).run(body)` fails in the same way.
    pub seed: u64,
    /// The panic's message, or the list of fibers in a deadlock.
    pub message: String,
    /// How many times a fiber was given the processor until then.
    pub steps: u64,
    /// Whether a second run took the same steps to the same end. If not, the closure depends on more than the seed.
    pub reproducible: bool,
    /// Seeds that did not fail before.
    pub runs_before: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, message, steps, reproducible, runs_before } = self;
        writeln!(
            f,
            "seed {seed} fails after {steps} steps ({runs_before} seeds before it did not): {message}"
        )?;
        if !reproducible {
            return write!(
                f,
                "and not in the same way again: something that the seed does not decide has a say"
            );
        }
        write!(f, "run it alone: MOON_SEED={seed} cargo test")?;
        // The test harness names its threads after the tests.
        match std::thread::current().name() {
            Some(test) if test != "main" => write!(f, " {test}"),
            Some(_) | None => Ok(()),
        }
    }
}

/// A place where another fiber may come in between: in a simulation the caller gives way at every second visit, as the
/// seed decides; elsewhere nothing happens.
///
/// A simulation runs fibers on one thread and changes between them only where they wait. Fibers of several workers run
/// truly at the same time. Code that shares atomics marks the gaps between its steps with this, for the search to try
/// them.
pub fn preemption_point() {
    let preempt = Worker::with_current(|worker| worker.sim().is_some_and(SimState::flip_coin));
    if preempt == Some(true) {
        park::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_the_seeds() {
        let choose = |variables: &[(&str, &str)]| {
            choose_seeds(10..20, |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(choose(&[]), 10..20);
        assert_eq!(choose(&[("MOON_SEED", "7")]), 7..8);
        assert_eq!(choose(&[("MOON_SEEDS", "3")]), 10..13);
        assert_eq!(choose(&[("MOON_FIRST", "100")]), 100..110);
        assert_eq!(choose(&[("MOON_SEED", "5"), ("MOON_SEEDS", "3")]), 5..6);
        let nonsense = catch_unwind(|| choose(&[("MOON_SEED", "seven")])).unwrap_err();
        assert!(nonsense.downcast_ref::<String>().is_some_and(|text| text.contains("MOON_SEED=seven")));
    }
}
