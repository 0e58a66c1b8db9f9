//! What a simulated worker has instead of a clock, a kernel and luck.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use super::random::Random;
use crate::fiber::header::Header;
use crate::scheduler::ready::ReadyQueue;
use crate::scheduler::worker::Worker;

/// Virtual time begins a while after the clock's base, so that code may subtract from it.
const BEGIN_NANOS: u64 = 1_000_000_000_000;

/// See the module's documentation.
pub(crate) struct SimState {
    now: Cell<u64>,
    /// Chooses among ready fibers. Its own sequence, so that what user code draws does not change the schedule.
    schedule: Random,
    random: Random,
    next_id: Cell<u64>,
    trace: Cell<u64>,
    steps: Cell<u64>,
    /// Fibers of a cancelled group: they run before anything else, oldest first.
    urgent: RefCell<Vec<u64>>,
    failure: RefCell<Option<String>>,
    clearing: Cell<bool>,
}

impl SimState {
    pub(super) fn new(seed: u64) -> Self {
        let root = Random::new(seed);
        SimState {
            now: Cell::new(BEGIN_NANOS),
            schedule: Random::new(root.next()),
            random: Random::new(root.next()),
            next_id: Cell::new(1),
            trace: Cell::new(seed),
            steps: Cell::new(0),
            urgent: RefCell::new(Vec::new()),
            failure: RefCell::new(None),
            clearing: Cell::new(false),
        }
    }

    /// Virtual nanoseconds.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn next_fiber_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    pub(super) fn random_u64(&self) -> u64 {
        let value = self.random.next();
        self.mix(value);
        value
    }

    /// A choice of the schedule.
    pub(super) fn flip_coin(&self) -> bool {
        self.schedule.next() & 1 == 0
    }

    /// Takes the next fiber to run out of the ready ones.
    pub(crate) fn choose(&self, ready: &ReadyQueue) -> Option<NonNull<Header>> {
        let mut urgent = self.urgent.borrow_mut();
        while let Some(&id) = urgent.first() {
            // SAFETY: the ready queue owns a reference to each of its fibers.
            let has_id = |fiber: NonNull<Header>| unsafe { fiber.as_ref() }.id == id;
            match (0..ready.len()).find(|&ahead| ready.peek(ahead).is_some_and(has_id)) {
                Some(ahead) => return ready.swap_remove(ahead),
                None => drop(urgent.remove(0)),
            }
        }
        match ready.len() {
            0 | 1 => ready.pop(),
            count => ready.swap_remove(self.schedule.below(count)),
        }
    }

    /// A number below `count`, which is not zero, for a choice of the runtime's: part of the schedule.
    pub(crate) fn below(&self, count: usize) -> usize {
        self.schedule.below(count)
    }

    /// From now on these fibers run first.
    pub(super) fn hurry(&self, ids: impl IntoIterator<Item = u64>) {
        self.urgent.borrow_mut().extend(ids);
    }

    /// A fiber is about to run.
    pub(crate) fn trace(&self, id: u64) {
        self.steps.set(self.steps.get() + 1);
        self.mix(id);
        self.mix(self.now.get());
    }

    fn mix(&self, value: u64) {
        let hash = (self.trace.get().rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.trace.set(hash ^ (hash >> 29));
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The clock jumps to the next timer.
    pub(crate) fn advance_to(&self, nanos: u64) {
        if nanos > self.now.get() {
            self.now.set(nanos);
        }
    }

    /// A fiber panicked and nobody holds its handle.
    pub(crate) fn detached_panic(&self, fiber: String) {
        // While everything is torn down, what fails in a destructor is not the run's failure.
        if self.clearing.get() {
            return;
        }
        self.fail(format!("fiber {fiber} panicked, and its JoinHandle was dropped; its message is above"));
    }

    /// The simulation ends with this message.
    pub(crate) fn fail(&self, message: String) {
        self.failure.borrow_mut().get_or_insert(message);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(super) fn take_failure(&self) -> Option<String> {
        self.failure.borrow_mut().take()
    }

    pub(super) fn begin_clearing(&self) {
        self.clearing.set(true);
    }

    /// A fiber waits in a destructor while it unwinds: no other fiber may run, so only a timer can end the wait.
    pub(crate) fn blocked_while_panicking(&self, worker: &Worker, fiber: &Header) {
        let Some(deadline) = worker.next_deadline().filter(|_| fiber.timer.is_armed()) else {
            eprintln!(
                "fiber {} waits ({}) while it unwinds or holds its worker, and in a simulation nothing can wake it",
                fiber.describe(),
                fiber.label.get()
            );
            std::process::abort();
        };
        // The thread would sleep past other fibers' timers as well.
        let mut next = Some(deadline);
        while let Some(deadline) = next.filter(|_| !fiber.timed_out.get()) {
            self.advance_to(deadline);
            worker.fire_timers(self.now());
            next = worker.next_deadline();
        }
    }
}

impl Worker {
    /// Nothing is ready: time passes.
    pub(crate) fn idle_simulated(&self, sim: &SimState) {
        self.read_mail();
        if !self.ready_is_empty() || sim.has_failed() {
            return;
        }
        match self.next_deadline() {
            Some(deadline) => {
                sim.advance_to(deadline);
                self.fire_timers(sim.now());
            }
            None => {
                let fibers = self.leftovers();
                let when = if sim.clearing.get() { " after everything was cancelled" } else { "" };
                sim.fail(format!(
                    "deadlock{when}: {} fibers wait for each other and no timer is armed\n  {}",
                    fibers.len(),
                    fibers.join("\n  ")
                ));
            }
        }
    }
}
