//! What is said of a hog, and to whom.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dump::capture::{Capture, StackCopy};
use crate::dump::symbols::{Backtrace, Symboliser};
use crate::scheduler::shared::Shared;

/// Warnings are at least this far apart.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// Modules may be loaded meanwhile, and what is known of their functions takes memory: forgotten when unused for long.
const SYMBOLS_KEPT: Duration = Duration::from_secs(60);

/// A fiber that has held its worker longer than the limit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HogReport {
    /// The runtime's name.
    pub runtime: String,
    /// The worker, from 0.
    pub worker: usize,
    /// The fiber's number.
    pub fiber: u64,
    /// Its name, cut to 120 bytes.
    pub name: Option<String>,
    /// How long it has held the worker, at least; it began up to half a limit earlier.
    pub held: Duration,
    /// How much of that its thread had a processor. Far less than `held`: it is blocked in a system call or by a lock.
    pub processor: Option<Duration>,
    /// Where it was when the limit had passed. Empty when its thread did not react to the signal, and on processors other
    /// than x86-64.
    pub backtrace: Backtrace,
}

impl fmt::Display for HogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fiber #{}", self.fiber)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        write!(f, " has held worker {} of '{}' for {:.1?}", self.worker, self.runtime, self.held)?;
        if let Some(processor) = self.processor {
            write!(f, " ({processor:.1?} of it on a processor)")?;
        }
        write!(f, "\n{}", self.backtrace)
    }
}

/// Who wants to hear of hogs.
#[derive(Clone)]
pub(crate) struct OnHog(pub(crate) Arc<dyn Fn(&HogReport) + Send + Sync>);

impl fmt::Debug for OnHog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnHog")
    }
}

/// Tells of hogs, and keeps what it needs for that.
pub(super) struct Reporter {
    symboliser: Option<(Symboliser, Instant)>,
    last_warning: Option<Instant>,
    /// Hogs that were not warned of since, because they came too fast.
    suppressed: u64,
}

impl Reporter {
    pub(super) fn new() -> Self {
        Reporter { symboliser: None, last_warning: None, suppressed: 0 }
    }

    /// Whether anybody wants to know more than the number of hogs.
    pub(super) fn is_heard(&self, shared: &Shared) -> bool {
        shared.config().on_hog.is_some() || tracing::enabled!(tracing::Level::WARN)
    }

    pub(super) fn backtrace(&mut self, capture: &Capture, stack: &StackCopy) -> Backtrace {
        let kept = self.symboliser.take().filter(|(_, made)| made.elapsed() < SYMBOLS_KEPT);
        let (mut symboliser, made) = kept.unwrap_or_else(|| (Symboliser::new(), Instant::now()));
        let backtrace = symboliser.backtrace(capture, stack);
        self.symboliser = Some((symboliser, made));
        backtrace
    }

    pub(super) fn publish(&mut self, shared: &Shared, report: &HogReport) {
        if let Some(OnHog(callback)) = &shared.config().on_hog {
            // A callback that panics has been heard of through the panic hook; the monitor goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| callback(report)));
        }
        if self.last_warning.is_some_and(|last| last.elapsed() < WARNING_INTERVAL) {
            self.suppressed += 1;
            return;
        }
        self.last_warning = Some(Instant::now());
        tracing::warn!(
            runtime = %report.runtime,
            worker = report.worker,
            fiber = report.fiber,
            name = report.name.as_deref().unwrap_or_default(),
            held_ms = report.held.as_millis() as u64,
            processor_ms = report.processor.map(|processor| processor.as_millis() as u64),
            suppressed = std::mem::take(&mut self.suppressed),
            "a fiber holds its worker and does not give way:\n{}",
            report.backtrace,
        );
    }
}
