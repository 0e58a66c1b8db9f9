//! Deterministic simulation: the same runtime on one thread, a virtual clock and a seed.
//!
//! A [`Sim`] runs fibers on the calling thread with the scheduler, timers, parks and channels of a real worker. Three
//! things differ: the next fiber is chosen at random among the ready ones, by the seed; the clock stands still while
//! anything is ready and jumps to the next timer when nothing is; and there are no descriptors. So a run is a function
//! of its seed, a sleep of days takes no time, and when nothing is ready and no timer is armed, nothing can ever
//! happen again: the simulation panics and says what every fiber waits for.
//!
//! ```
//! use std::time::Duration;
//! use fiber_runtime::{sim::Sim, spawn, time};
//!
//! let elapsed = Sim::new(7).run(|| {
//!     let began = time::now();
//!     let sleeper = spawn(|| time::sleep(Duration::from_secs(86_400)));
//!     sleeper.join().unwrap();
//!     time::now() - began
//! });
//! assert!(elapsed >= Duration::from_secs(86_400));
//! ```
//!
//! [`explore`] runs a closure under many seeds and names the one that fails.
//!
//! What the seed decides: which of the ready fibers runs next. Everything that makes fibers ready at the same moment leaves
//! the order in which they go on to it: timers with equal deadlines, a notification of many, a channel with several
//! receivers, a spawn (the new fiber or its parent). What is first come, first served stays so: whoever runs first has
//! come first. Hints of [priority](crate::Priority) are ignored.

mod explore;
pub(crate) mod group;
mod random;
mod state;

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;

use crossbeam_deque::Worker as Deque;

pub use explore::{Explored, Explorer, Failure, explore, preemption_point};
pub use group::Group;
pub(crate) use state::SimState;

use crate::config::Config;
use crate::fiber::{Placement, SpawnOptions, Spawner, spawn_unchecked};
use crate::scheduler::port::Port;
use crate::scheduler::shared::Shared;
use crate::scheduler::worker::Worker;
use crate::stack::overflow;

/// One simulation, reproducible from its seed. See the [module's documentation](self).
#[derive(Debug)]
pub struct Sim {
    seed: u64,
    trace: Cell<u64>,
    steps: Cell<u64>,
}

impl Sim {
    /// A simulation in which everything random follows from `seed`.
    pub fn new(seed: u64) -> Self {
        crate::hook::link();
        Sim { seed, trace: Cell::new(0), steps: Cell::new(0) }
    }

    /// Runs `body` as the first fiber until it returns. Fibers that are left then are cancelled and end by unwinding.
    ///
    /// # Panics
    /// With the panic of `body`; with that of a fiber whose `JoinHandle` was dropped, for nobody else would see it; when
    /// nothing can ever happen again (a deadlock), with a list of the fibers and what they wait for; when called in a
    /// fiber.
    pub fn run<F, T>(&self, body: F) -> T
    where
        F: FnOnce() -> T,
    {
        overflow::install();
        crate::panic_hook::install();
        let config = Config::for_simulation();
        let port = Port::acquire();
        let fresh = Deque::new_fifo();
        let shared = Arc::new(Shared::new(config, Box::new([port]), Box::new([fresh.stealer()])));
        let worker = Worker::simulated(shared, fresh, Box::new(SimState::new(self.seed)));
        let _alternate = overflow::AlternateStack::for_this_thread();
        let entered = worker.enter();
        let options = SpawnOptions { name: Some("main".into()), ..SpawnOptions::default() };
        // SAFETY: the fiber stays on this thread, and this function returns only after it has ended: see `finish`,
        // which aborts otherwise.
        let main = unsafe { spawn_unchecked(&Spawner::Worker(&worker), options, Placement::Here, body) };
        worker.run_until(&|worker| main.is_finished() || worker.sim().is_some_and(SimState::has_failed));
        let sim = worker.sim().expect("the worker was made for a simulation");
        let failure = sim.take_failure();
        // What is recorded is the run, not the clearing up, whose length depends on when it was stopped.
        self.trace.set(sim.trace_hash());
        self.steps.set(sim.steps());
        finish(&worker);
        drop(entered);
        drop(worker);
        port.release();
        match main.join() {
            _ if failure.is_some() => panic!("{}", failure.unwrap_or_default()),
            Ok(value) => value,
            Err(crate::JoinError::Panicked(payload)) => resume_unwind(payload),
            Err(crate::JoinError::Cancelled) => panic!("the simulation's first fiber was cancelled"),
        }
    }

    /// A hash of everything the last [`run`](Sim::run) did: which fiber ran when, in which order. Equal for equal seeds.
    pub fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    /// How many times a fiber was given the processor in the last [`run`](Sim::run).
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// Resumes that a cancelled fiber may need to end: more, and it does not want to.
const CLEARING_STEPS: u64 = 1_000_000;

/// Ends every fiber that is left.
fn finish(worker: &Worker) {
    let sim = worker.sim().expect("the worker was made for a simulation");
    worker.shared().begin_cancel();
    let limit = sim.steps() + CLEARING_STEPS;
    sim.begin_clearing();
    worker.cancel_all();
    worker.run_until(&|worker| worker.shared().all_ended() || sim.steps() > limit || sim.has_failed());
    if !worker.shared().all_ended() {
        // They cannot be left: the first fiber may borrow from our caller.
        eprintln!("the simulation's fibers do not end when cancelled: {:?}", worker.leftovers());
        std::process::abort();
    }
    worker.shared().begin_shutdown();
}

/// Whether the caller is in a simulation.
pub fn is_simulated() -> bool {
    Worker::with_current(|worker| worker.sim().is_some()).unwrap_or(false)
}

/// A random number that follows from the simulation's seed.
///
/// # Panics
/// Outside a simulation.
pub fn random_u64() -> u64 {
    Worker::with_current(|worker| worker.sim().map(SimState::random_u64))
        .flatten()
        .expect("sim::random_u64 is called in a simulation")
}

#[cfg(test)]
mod tests;
