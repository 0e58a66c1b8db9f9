//! The end of a runtime.
//!
//! ```text
//!   1. wait until no fiber is left, at most until the deadline
//!   2. cancel every fiber: each unwinds from its suspension; wait for that, at most GRACE
//!   3. workers without fibers end, and their threads are joined; the others are left to run, and reported
//! ```
//! A worker never ends before its fibers, and a fiber is never torn down from outside: a suspended stack may hold
//! borrows of the thread's own storage, and destructors that nobody else may run.

use std::fmt;
use std::time::{Duration, Instant};

use super::Runtime;
use crate::dump::{self, FiberDump, RuntimeDump};
use crate::scheduler::worker::Worker;

/// How long cancelled fibers may take to unwind.
const GRACE: Duration = Duration::from_secs(1);
/// How long a worker without fibers may take to end its thread.
const THREAD_GRACE: Duration = Duration::from_millis(200);
/// The stopping thread is told of fibers' ends; it looks by itself as often as this.
const LOOK: Duration = Duration::from_millis(5);

/// What [`Runtime::stop`] found.
///
/// Displayed, it lists the fibers that would not end, each with what it waits for, since when, and where:
///
/// ```
/// use std::time::Duration;
/// use fiber_runtime::{FiberBuilder, Runtime, shielded, time};
///
/// let runtime = Runtime::builder().workers(1).build().unwrap();
/// let stubborn = || shielded(|| time::sleep(Duration::from_secs(3600)));
/// runtime.handle().spawn_with(FiberBuilder::new().name("stubborn"), stubborn).detach();
/// # while runtime.metrics().workers[0].switches == 0 { std::thread::yield_now(); }
///
/// let report = runtime.stop(Duration::ZERO);
/// assert_eq!(report.leftover[0].name.as_deref(), Some("stubborn"));
/// println!("{report}");
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StopReport {
    /// Fibers that had not ended by the deadline and were cancelled.
    pub cancelled: u64,
    /// Fibers that did not end when they were cancelled. Their workers' threads run on.
    pub leftover: Vec<FiberDump>,
    /// Fibers that did not end and about which nothing is known, because nobody drives their worker: it is that of the
    /// thread that built the runtime, and another one stopped it.
    pub unlisted: u64,
}

impl StopReport {
    /// Whether every fiber ended by itself, in time.
    pub fn is_clean(&self) -> bool {
        self.cancelled == 0 && self.leftover.is_empty() && self.unlisted == 0
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fibers cancelled, {} left over", self.cancelled, self.leftover.len())?;
        for fiber in &self.leftover {
            write!(f, "\n{fiber}")?;
            if !fiber.backtrace.is_empty() {
                write!(f, "\n{}", fiber.backtrace.to_string().trim_end())?;
            }
        }
        match self.unlisted {
            0 => Ok(()),
            unlisted => write!(f, "\n  and {unlisted} fibers of a worker that nobody drives"),
        }
    }
}

impl Runtime {
    /// Waits until every fiber has ended, at most for `deadline`; then cancels those that are left; then ends the workers.
    /// Fibers that do not end when cancelled are reported, and their workers left to run.
    ///
    /// With `use_caller`, on the thread that built the runtime, the thread is worker 0 meanwhile. Called in a fiber of
    /// this very runtime it cancels and does not wait, for it would wait for itself.
    pub fn stop(mut self, deadline: Duration) -> StopReport {
        self.stop_now(deadline)
    }

    pub(super) fn stop_now(&mut self, deadline: Duration) -> StopReport {
        if std::mem::replace(&mut self.stopped, true) {
            return StopReport::default();
        }
        let shared = self.shared.clone();
        let mut report = StopReport::default();
        let inside = Worker::with_current(|worker| std::ptr::eq(worker.shared(), &*shared)) == Some(true);
        shared.begin_stop(std::thread::current());
        if inside {
            report.cancelled = shared.metrics().alive();
            shared.begin_cancel();
            shared.begin_shutdown();
            // A thread handle that is dropped detaches.
            self.threads.clear();
            self.caller.take().map(|caller| Box::leak(caller.worker));
            return report;
        }
        if !self.wait_for_fibers(deadline) {
            report.cancelled = shared.metrics().alive();
            shared.begin_cancel();
            if !self.wait_for_fibers(GRACE) {
                let left = self.dump_leftovers();
                (report.leftover, report.unlisted) = (left.fibers, left.unlisted);
            }
        }
        shared.pool.close();
        shared.begin_shutdown();
        let patience = Instant::now() + THREAD_GRACE;
        let mut all_gone = true;
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            while !thread.is_finished() && Instant::now() < patience {
                std::thread::park_timeout(Duration::from_micros(100));
            }
            if thread.is_finished() {
                // A worker's panic is a bug of the runtime and has been printed.
                drop(thread.join());
            } else {
                all_gone = false;
            }
        }
        if let Some(caller) = self.caller.take() {
            let here = caller.owner == std::thread::current().id();
            if !(here && caller.worker.is_empty()) {
                // Its fibers cannot run any more, and must not be torn down.
                Box::leak(caller.worker);
                all_gone = false;
            }
        }
        if all_gone {
            for port in shared.ports() {
                port.release();
            }
        }
        report
    }

    /// True when all fibers have ended in time.
    fn wait_for_fibers(&self, patience: Duration) -> bool {
        let shared = &self.shared;
        let began = Instant::now();
        let time_is_up = || began.elapsed() >= patience;
        if let Some(caller) = self.caller_here() {
            let _driving = caller.drive();
            // The caller's worker sleeps until somebody ends; a fiber of its own sees to the deadline.
            let worker = &caller.worker;
            worker.run_until(&|_| {
                worker.set_alarm(LOOK);
                shared.all_ended() || time_is_up()
            });
            return shared.all_ended();
        }
        while !shared.all_ended() {
            if time_is_up() {
                return false;
            }
            std::thread::park_timeout(LOOK.min(patience.saturating_sub(began.elapsed())));
        }
        true
    }

    /// The fibers that are left. Those of the caller's worker, which the calling thread does not drive at the moment, stand
    /// still.
    fn dump_leftovers(&self) -> RuntimeDump {
        dump::dump_with(&self.shared, self.caller_here().map(|caller| &*caller.worker))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let report = self.stop_now(super::DROP_DEADLINE);
        if !report.leftover.is_empty() {
            tracing::warn!("a runtime was dropped and runs on: {report}");
        }
    }
}
