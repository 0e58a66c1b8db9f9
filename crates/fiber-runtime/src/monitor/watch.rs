//! What the monitor knows of one worker.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::report::{HogReport, Reporter};
use super::thread_time;
use crate::dump::capture::{Capture, Wanted};
use crate::dump::interrupt::{self, Interrupted};
use crate::scheduler::port::{Port, State};
use crate::scheduler::shared::{Shared, SharedRef};

/// A fiber that goes on is reported again when it has held its worker this many times as long.
const AGAIN: u32 = 10;

/// See the module's documentation.
pub(super) struct Watch {
    shared: Weak<Shared>,
    port: &'static Port,
    index: usize,
    limit: Duration,
    /// The worker's count of resumes at the last look, and since when it is that at least.
    switches: u64,
    since: Instant,
    /// What the worker's thread had used of a processor at that time.
    used_before: Option<Duration>,
    /// How long it had waited for one at the next look.
    waited_before: Option<Duration>,
    is_suspect: bool,
    /// Held this long, the fiber is to be reported.
    next_report: Duration,
}

impl Watch {
    /// One for each worker of a runtime.
    pub(super) fn of(shared: &SharedRef) -> impl Iterator<Item = Watch> {
        let limit = shared.config().hog_limit;
        shared.ports().iter().enumerate().map(move |(index, &port)| Watch {
            shared: Arc::downgrade(shared),
            port,
            index,
            limit,
            switches: u64::MAX,
            since: Instant::now(),
            used_before: None,
            waited_before: None,
            is_suspect: false,
            next_report: limit,
        })
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the worker has nothing to do, or nobody who drives it.
    pub(super) fn is_asleep(&self) -> bool {
        matches!(self.port.state(), State::Parked | State::Away)
    }

    /// Looks at the worker. False: its runtime is gone.
    pub(super) fn look(&mut self, now: Instant, reporter: &mut Reporter) -> bool {
        if self.shared.strong_count() == 0 {
            return false;
        }
        let switches = self.port.counters.switches.get();
        if switches != self.switches || self.is_asleep() {
            if switches != self.switches {
                self.used_before = thread_time::used(self.port.thread());
            }
            self.switches = switches;
            self.since = now;
            self.next_report = self.limit;
            self.is_suspect = false;
            return true;
        }
        if !self.is_suspect {
            self.is_suspect = true;
            self.waited_before = thread_time::waited(self.port.thread());
        }
        let held = now - self.since;
        if held < self.limit {
            return true;
        }
        let Some(shared) = self.shared.upgrade() else { return false };
        if shared.has_fresh() {
            shared.wake_searcher();
        }
        if held >= self.next_report {
            self.next_report = held.saturating_mul(AGAIN);
            self.report(&shared, held, reporter);
        }
        true
    }

    fn report(&mut self, shared: &Shared, held: Duration, reporter: &mut Reporter) {
        let thread = self.port.thread();
        let used = thread_time::between(self.used_before, thread_time::used(thread));
        let waited = thread_time::between(self.waited_before, thread_time::waited(thread));
        // The thread was ready and the system ran others: that is not the fiber's doing.
        if waited.is_some_and(|waited| held.saturating_sub(waited) < self.limit) {
            self.next_report = held + self.limit;
            return;
        }
        if !reporter.is_heard(shared) {
            self.port.counters.hogs.add(1);
            return;
        }
        let mut capture = Capture::new(Wanted::Running);
        let interrupted = interrupt::capture(self.port, &mut capture);
        if self.port.counters.switches.get() != self.switches {
            // It gave way just now, and what was captured may be another.
            return;
        }
        let mut report = HogReport {
            runtime: shared.config().name.clone(),
            worker: self.index,
            fiber: 0,
            name: None,
            held,
            processor: used,
            backtrace: Default::default(),
        };
        match (interrupted, capture.records.first()) {
            (Interrupted::Filled, Some(record)) => {
                report.fiber = record.id;
                report.name = record.name.as_ref().map(|name| name.text().to_owned());
                if let Some(stack) = &record.stack {
                    report.backtrace = reporter.backtrace(&capture, stack);
                }
            }
            (Interrupted::Silent, _) => match self.port.running.identify() {
                Some((id, name)) => (report.fiber, report.name) = (id, name),
                None => return,
            },
            // The worker is busy with something of its own.
            (Interrupted::Filled | Interrupted::NoFiber, _) => return,
        }
        self.port.counters.hogs.add(1);
        reporter.publish(shared, &report);
    }
}
