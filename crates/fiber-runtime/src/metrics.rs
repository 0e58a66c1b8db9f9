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

/// What one worker counts.
#[derive(Default, Debug)]
pub(crate) struct Counters {
    pub(crate) spawned: Counter,
    pub(crate) started: Counter,
    pub(crate) ended: Counter,
    pub(crate) switches: Counter,
    pub(crate) ready: Counter,
    pub(crate) stolen: Counter,
    pub(crate) polls: Counter,
    pub(crate) events: Counter,
    pub(crate) sleeps: Counter,
    pub(crate) timers: Counter,
    pub(crate) posts: Counter,
    /// Written by the monitor.
    pub(crate) hogs: Counter,
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
            stolen,
            polls,
            events,
            sleeps,
            timers,
            posts,
            hogs,
        } = self;
        for counter in
            [spawned, started, ended, switches, ready, stolen, polls, events, sleeps, timers, posts, hogs]
        {
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
    /// Fibers handed over by other threads.
    pub posts: u64,
    /// Fibers that held the worker longer than the limit.
    pub hogs: u64,
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
            hogs: counters.hogs.get(),
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
    /// Fibers that were spawned and have not ended, started or not.
    pub fn alive(&self) -> u64 {
        let ended: u64 = self.workers.iter().map(|worker| worker.ended).sum();
        let spawned: u64 = self.workers.iter().map(|worker| worker.spawned).sum();
        (spawned + self.spawned_outside).saturating_sub(ended)
    }
}
