//! A worker, as far as `scheduler/idle.rs` knows it.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use super::port::Port;
use super::ready::ReadyQueue;
use super::shared::Shared;
use crate::fiber::header::{Header, Unstarted};
use crate::metrics::Counters;
use crate::primitive::deque::Worker as Deque;
use crate::sys;

/// No simulation.
pub(crate) enum SimState {}

impl SimState {
    pub(crate) fn blocked_while_panicking(&self, _worker: &Worker, _fiber: &Header) {
        match *self {}
    }
}

/// One thread's worker.
pub(crate) struct Worker {
    pub(super) ready: ReadyQueue,
    pub(super) fresh: Deque<Unstarted>,
    pub(super) alone: bool,
    pub(super) next_timer: Cell<u64>,
    pub(super) alarm: Cell<u64>,
    pub(super) swept: Cell<bool>,
    pub(super) last_look: Cell<u64>,
    pub(super) last_poll: Cell<u64>,
    pub(super) budget: Cell<u32>,
    pub(super) interval: Cell<u32>,
    shared: Arc<Shared>,
    index: usize,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, fresh: Deque<Unstarted>) -> Self {
        Worker {
            ready: ReadyQueue::new(),
            fresh,
            alone: shared.ports().len() == 1,
            next_timer: Cell::new(u64::MAX),
            alarm: Cell::new(u64::MAX),
            swept: Cell::new(false),
            last_look: Cell::new(0),
            last_poll: Cell::new(0),
            budget: Cell::new(0),
            interval: Cell::new(0),
            shared,
            index,
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn port(&self) -> &'static Port {
        self.shared.ports()[self.index]
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn counters(&self) -> &'static Counters {
        &self.port().counters
    }

    pub(crate) fn sim(&self) -> Option<&SimState> {
        None
    }

    pub(crate) fn idle_simulated(&self, sim: &SimState) {
        match *sim {}
    }

    pub(crate) fn now_nanos(&self) -> u64 {
        0
    }

    pub(crate) fn fire_timers(&self, _now: u64) {}

    pub(crate) fn sweep(&self) {
        self.swept.set(true);
    }

    pub(crate) fn push_ready(&self, fiber: NonNull<Header>) {
        self.ready.push(fiber);
    }

    pub(super) fn publish(&self) {}

    pub(super) fn budget_after_sleep(&self) -> u32 {
        0
    }

    pub(super) fn trim_stacks(&self) -> bool {
        false
    }

    pub(crate) fn ready_is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// No fiber of a model has a hint of priority.
    pub(crate) fn has_low(&self) -> bool {
        false
    }

    /// A poll that sleeps ends with the eventfd only.
    pub(crate) fn poll(&self, sleep: bool, _now: u64, _deadline: Option<u64>) {
        if sleep {
            sys::wait_for_signal(self.port().eventfd().unwrap());
        }
    }

    /// As shipped, in `scheduler/run.rs`: fibers posted here, then those placed here for anybody.
    pub(crate) fn read_mail(&self) {
        self.port().take_fibers(|fiber| self.push_ready(fiber));
        while let Some(fiber) = self.shared.injector(self.index).steal_batch_and_pop(&self.fresh).success() {
            self.push_ready(fiber.0);
        }
    }

    /// Spawns a fiber that any worker may take. As shipped, in `Worker::place`.
    pub(crate) fn place(&self, fiber: Unstarted) {
        self.fresh.push(fiber);
        self.shared.wake_searcher();
    }

    /// The worker's loop: runs fibers until `until` holds.
    pub(crate) fn run_until(&self, until: &dyn Fn(&Worker) -> bool) {
        loop {
            match self.ready.pop().or_else(|| self.fresh.pop().map(|fiber| fiber.0)) {
                // SAFETY: a fiber outlives the model.
                Some(fiber) => unsafe { fiber.as_ref() }.run(),
                None if until(self) => return,
                None => {
                    self.idle(until);
                    // It may not have slept: work was there that somebody else is about to fetch. Let them.
                    loom::thread::yield_now();
                }
            }
        }
    }
}
