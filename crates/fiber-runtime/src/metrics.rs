//! Counters of the runtime.
//!
//! Each worker writes its own with plain stores (it is the only writer), and anybody reads them whenever: a counter
//! costs the fast path one addition. A reading is not a snapshot of one instant.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number with one writer and any number of readers.
#[derive(Default, Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; called by the writer only.
    #[inline]
    pub(crate) fn add(&self, amount: u64) {
        // Release pairs with the Acquire in `get`: `stop` concludes from counts that fibers have ended.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release);
    }

    /// Adds, where there are several writers.
    #[inline]
    pub(crate) fn add_shared(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Release);
    }

    /// Sets; called by the writer only.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Reads.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Bounds of run times: the first is this many nanoseconds, and each is twice the one before.
const FIRST_BOUND: u64 = 128;
/// The last counts everything longer than about two minutes.
const BUCKETS: usize = 32;

/// How often a run took how long, by powers of two.
#[derive(Default, Debug)]
pub(crate) struct Histogram([Counter; BUCKETS]);

impl Histogram {
    /// Counts a run of `nanos`; called by the writer only.
    #[inline]
    pub(crate) fn add(&self, nanos: u64) {
        // Bucket 0 is below the first bound, bucket 1 below twice that, and so on.
        let bucket = (nanos / FIRST_BOUND).checked_ilog2().map_or(0, |log| log as usize + 1);
        self.0[bucket.min(BUCKETS - 1)].add(1);
    }

    fn read(&self) -> RunTimes {
        RunTimes { buckets: std::array::from_fn(|at| self.0[at].get()) }
    }
}

/// How long fibers run before they give their worker back: a sample, by powers of two.
///
/// One run in many is timed (about one in a thousand of short ones, one in sixteen of those that take longer than a tenth
/// of a millisecond), so the shares of the buckets mean something and their sum does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTimes {
    buckets: [u64; BUCKETS],
}

impl RunTimes {
    /// The buckets that are not empty, shortest first: the time below which its runs were, and their number.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.all_buckets().filter(|&(_, count)| count > 0)
    }

    /// The buckets, the empty ones too.
    pub(crate) fn all_buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.buckets.into_iter().enumerate().map(|(at, count)| (RunTimes::bound(at), count))
    }

    /// The number of runs that were timed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// A time below which this share (0 to 1) of the runs was, at most twice too long. Zero without any.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bound, count) in self.buckets() {
            seen += count;
            if seen >= wanted {
                return bound;
            }
        }
        Duration::ZERO
    }

    /// The end of bucket `at`; that of the last is for ever.
    fn bound(at: usize) -> Duration {
        if at == BUCKETS - 1 { Duration::MAX } else { Duration::from_nanos(FIRST_BOUND << at) }
    }

    fn add(&mut self, other: &RunTimes) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
    }
}

/// What one worker counts.
#[derive(Default, Debug)]
pub(crate) struct Counters {
    pub(crate) spawned: Counter,
    pub(crate) started: Counter,
    pub(crate) ended: Counter,
    pub(crate) switches: Counter,
    pub(crate) ready: Counter,
    /// Of those that are ready, how many have started.
    pub(crate) runnable: Counter,
    pub(crate) stolen: Counter,
    pub(crate) polls: Counter,
    pub(crate) events: Counter,
    pub(crate) sleeps: Counter,
    pub(crate) timers: Counter,
    pub(crate) posts: Counter,
    pub(crate) parked: Counter,
    pub(crate) wakes: Counter,
    /// Written by wakers.
    pub(crate) signals: Counter,
    pub(crate) armed: Counter,
    pub(crate) pending_timers: Counter,
    pub(crate) stacks: Counter,
    /// Written by the monitor.
    pub(crate) hogs: Counter,
    pub(crate) blocking_waits: Counter,
    pub(crate) runs: Histogram,
}

impl Counters {
    /// For the next worker that uses them.
    pub(crate) fn reset(&self) {
        let Counters {
            spawned,
            started,
            ended,
            switches,
            ready,
            runnable,
            stolen,
            polls,
            events,
            sleeps,
            timers,
            posts,
            parked,
            wakes,
            signals,
            armed,
            pending_timers,
            stacks,
            hogs,
            blocking_waits,
            runs,
        } = self;
        let counts = [spawned, started, ended, switches, ready, stolen, polls, events, sleeps, timers, posts];
        let more = [runnable, parked, wakes, signals, armed, pending_timers, stacks, hogs, blocking_waits];
        for counter in counts.into_iter().chain(more).chain(&runs.0) {
            counter.set(0);
        }
    }
}

/// A reading of one worker's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerMetrics {
    /// Fibers that have started here and not ended.
    pub alive: u64,
    /// Fibers waiting for the processor, as of the worker's last look around.
    pub ready: u64,
    /// Fibers spawned by this worker's fibers.
    pub spawned: u64,
    /// Fibers started here.
    pub started: u64,
    /// Fibers ended here.
    pub ended: u64,
    /// Times a fiber was given the processor.
    pub switches: u64,
    /// Un-started fibers taken from other workers.
    pub stolen: u64,
    /// Times the kernel was asked for events.
    pub polls: u64,
    /// Events it reported.
    pub events: u64,
    /// Times the worker slept.
    pub sleeps: u64,
    /// Timers that fired.
    pub timers: u64,
    /// Timers that were armed: each later fires, is cancelled, or is one of the pending.
    pub timers_armed: u64,
    /// Timers that are armed, as of one of the worker's last looks around.
    pub timers_pending: u64,
    /// Fibers handed over by other threads.
    pub posts: u64,
    /// Fibers that wait for something, as of the worker's last look around.
    pub parked: u64,
    /// Times a fiber that waited was woken, other than by its timer.
    pub wakes: u64,
    /// Times another thread had to wake the worker itself, by a system call.
    pub signals: u64,
    /// Stacks that the worker keeps for its next fibers, as of one of its last looks around. In use are as many as fibers
    /// are alive.
    pub stacks_cached: u64,
    /// Fibers that held the worker longer than the limit.
    pub hogs: u64,
    /// Waits of fibers that blocked the worker, as far as the hooks see them:
    /// [`diagnostics::blocking_waits`](crate::diagnostics::blocking_waits) says which.
    pub blocking_waits: u64,
    /// How long fibers run at a time.
    pub runs: RunTimes,
}

impl WorkerMetrics {
    pub(crate) fn read(counters: &Counters) -> Self {
        let ended = counters.ended.get();
        let started = counters.started.get();
        WorkerMetrics {
            alive: started.saturating_sub(ended),
            ready: counters.ready.get(),
            spawned: counters.spawned.get(),
            started,
            ended,
            switches: counters.switches.get(),
            stolen: counters.stolen.get(),
            polls: counters.polls.get(),
            events: counters.events.get(),
            sleeps: counters.sleeps.get(),
            timers: counters.timers.get(),
            posts: counters.posts.get(),
            timers_armed: counters.armed.get(),
            timers_pending: counters.pending_timers.get(),
            parked: counters.parked.get(),
            wakes: counters.wakes.get(),
            signals: counters.signals.get(),
            stacks_cached: counters.stacks.get(),
            hogs: counters.hogs.get(),
            blocking_waits: counters.blocking_waits.get(),
            runs: counters.runs.read(),
        }
    }

    /// Timers that were disarmed before they fired; a little off while some are pending.
    pub fn timers_cancelled(&self) -> u64 {
        self.timers_armed.saturating_sub(self.timers + self.timers_pending)
    }

    /// Adds another worker's figures.
    fn add(&mut self, other: &WorkerMetrics) {
        let WorkerMetrics { runs, .. } = other;
        self.runs.add(runs);
        let pairs = [
            (&mut self.alive, other.alive),
            (&mut self.ready, other.ready),
            (&mut self.spawned, other.spawned),
            (&mut self.started, other.started),
            (&mut self.ended, other.ended),
            (&mut self.switches, other.switches),
            (&mut self.stolen, other.stolen),
            (&mut self.polls, other.polls),
            (&mut self.events, other.events),
            (&mut self.sleeps, other.sleeps),
            (&mut self.timers, other.timers),
            (&mut self.timers_armed, other.timers_armed),
            (&mut self.timers_pending, other.timers_pending),
            (&mut self.posts, other.posts),
            (&mut self.parked, other.parked),
            (&mut self.wakes, other.wakes),
            (&mut self.signals, other.signals),
            (&mut self.stacks_cached, other.stacks_cached),
            (&mut self.hogs, other.hogs),
            (&mut self.blocking_waits, other.blocking_waits),
        ];
        for (sum, count) in pairs {
            *sum += count;
        }
    }
}

/// A reading of a whole runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// One reading a worker, by index.
    pub workers: Vec<WorkerMetrics>,
    /// Fibers spawned from threads that are not workers.
    pub spawned_outside: u64,
    /// Threads of the blocking pool.
    pub blocking_threads: u64,
    /// Those of them that wait for a call.
    pub blocking_idle: u64,
    /// Calls waiting for a thread of the blocking pool.
    pub blocking_queued: u64,
    /// Calls the blocking pool has finished.
    pub blocking_done: u64,
    /// Times a caller found the queue of the blocking pool full and had to wait for room in it.
    pub blocking_full: u64,
    /// How long calls have waited in that queue, all together.
    pub blocking_wait: Duration,
    /// How long the call that waited longest did.
    pub blocking_wait_max: Duration,
}

impl Metrics {
    /// The figures of all workers together.
    pub fn total(&self) -> WorkerMetrics {
        let mut total = WorkerMetrics::default();
        self.workers.iter().for_each(|worker| total.add(worker));
        total
    }

    /// Fibers that were spawned and have not ended, started or not.
    pub fn alive(&self) -> u64 {
        let ended: u64 = self.workers.iter().map(|worker| worker.ended).sum();
        let spawned: u64 = self.workers.iter().map(|worker| worker.spawned).sum();
        (spawned + self.spawned_outside).saturating_sub(ended)
    }
}
