//! Placement by load, for fibers that will stay: a started fiber never changes its worker, so it had better start on the
//! right one.
//!
//! A worker's load is what it has: fibers alive, those of them that are ready (counted once more, for they want the
//! processor now), and fibers that were sent there by load and have not begun. The last are what makes a burst spread:
//! the worker's own counters know of a fiber only when it starts.
//!
//! Fibers in its queues that have not started are not asked for. Those that were sent there by load would be counted twice,
//! and the worker says only now and then what is in its queues: after they had begun it would seem to have them once
//! more, and get too few of the next. Spawning on any worker ([`super::shared`]) needs none of this, since idle workers
//! steal what has not started.

use std::sync::atomic::Ordering;

use super::port::{Port, State};
use super::random::thread_random;
use super::shared::Shared;

/// With more workers than this, two taken at random are compared instead of all: the better of two is nearly as good,
/// and reading every worker's counters would cost more than the spawn.
const SCAN: usize = 8;

/// A fiber on its way to a worker. Dropped when it begins, or when it never will.
pub(crate) struct Arrival {
    port: &'static Port,
    worker: usize,
}

impl Arrival {
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // Relaxed, here and below: a count that decides nothing but where the next one goes.
        self.port.arriving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// The least loaded worker, which counts one fiber more from now on.
    pub(crate) fn least_loaded(&self) -> Arrival {
        let count = self.ports().len();
        let random = thread_random();
        let start = (random >> 32) as usize % count;
        let worker = if count <= SCAN {
            // From a random one on, so that equals get the same share.
            (0..count).map(|at| (start + at) % count).min_by_key(|&worker| self.load(worker)).unwrap_or(0)
        } else {
            let other = (start + 1 + random as u32 as usize % (count - 1)) % count;
            if self.load(other) < self.load(start) { other } else { start }
        };
        let port = self.ports()[worker];
        port.arriving.fetch_add(1, Ordering::Relaxed);
        Arrival { port, worker }
    }

    /// Smaller is better: a worker that nobody drives comes last, and of equal ones one that sleeps comes first.
    fn load(&self, worker: usize) -> (bool, u64, bool) {
        let port = self.ports()[worker];
        let counters = &port.counters;
        let alive = counters.started.get().saturating_sub(counters.ended.get());
        let state = port.state();
        let arriving = port.arriving.load(Ordering::Relaxed);
        (state == State::Away, alive + counters.runnable.get() + arriving, state != State::Parked)
    }
}
