//! The runtime: workers, who may spawn on them, and how they end.
//!
//! - [`builder`]: settings and start; [`stop`]: the end.

mod builder;
mod stop;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::{JoinHandle as ThreadHandle, ThreadId};
use std::time::Duration;

pub use builder::Builder;
pub use stop::StopReport;

use crate::dump::RuntimeDump;
use crate::fiber::{
    CancelToken, FiberBuilder, JoinError, JoinHandle, Placement, SpawnOptions, Spawner, cancel,
    spawn_unchecked,
};
use crate::metrics::Metrics;
use crate::scheduler::port::State;
use crate::scheduler::shared::{Shared, SharedRef};
use crate::scheduler::worker::{Entered, Worker};
use crate::stack::overflow::AlternateStack;
use crate::stack::probe::{self, StackUsageTable};

/// How long dropping a runtime waits for its fibers before it cancels them.
const DROP_DEADLINE: Duration = Duration::from_millis(100);

/// Worker threads and everything that runs on them.
///
/// ```
/// let runtime = fiber_runtime::Runtime::builder().workers(2).name("demo").build().unwrap();
/// let sum = runtime.block_on(|| {
///     let halves: Vec<_> = (0..2).map(|half| fiber_runtime::spawn(move || half * 21)).collect();
///     halves.into_iter().map(|half| half.join().unwrap()).sum::<i32>() * 2
/// });
/// assert_eq!(sum, 42);
/// let report = runtime.stop(std::time::Duration::from_secs(1));
/// assert!(report.is_clean());
/// ```
///
/// Dropping a runtime stops it, with a short deadline.
pub struct Runtime {
    shared: SharedRef,
    threads: Vec<Option<ThreadHandle<()>>>,
    caller: Option<CallerWorker>,
    stopped: bool,
}

/// The worker that the building thread drives, inside `block_on` and `stop` only.
struct CallerWorker {
    worker: Box<Worker>,
    owner: ThreadId,
    driven: Cell<bool>,
    not_sync: PhantomData<*mut ()>,
}

// SAFETY: the worker is touched by the thread `owner` only (`Runtime::caller_here`); elsewhere it is never looked into,
// and dropped only when no fiber of it is left (`stop`).
unsafe impl Send for CallerWorker {}
// SAFETY: as above.
unsafe impl Sync for CallerWorker {}

impl Runtime {
    /// Settings for a runtime.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A handle that spawns here and can be kept, cloned and sent.
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Spawns a fiber on the less loaded of two workers.
    pub fn spawn<F, T>(&self, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_from_outside(&self.shared, FiberBuilder::new(), body)
    }

    /// Spawns a fiber on worker `worker`.
    ///
    /// # Panics
    /// When that worker does not exist.
    #[track_caller]
    pub fn spawn_on<F, T>(&self, worker: usize, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_from_outside(&self.shared, FiberBuilder::new().worker(worker), body)
    }

    /// Runs `body` as a fiber, waits for it and returns its result. With `use_caller`, and on the thread that built the
    /// runtime, the thread is worker 0 meanwhile; otherwise it sleeps. Called in a fiber, it parks that fiber.
    ///
    /// If the calling fiber is cancelled, or the deadline of a scope around the call passes, the fiber that runs `body`
    /// is cancelled; the call ends when that fiber has.
    ///
    /// # Panics
    /// With the panic of `body`; when the fiber is cancelled because the runtime stops; in a simulation, whose clock
    /// cannot wait for threads.
    #[track_caller]
    pub fn block_on<F, T>(&self, body: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        assert!(!crate::sim::is_simulated(), "Runtime::block_on is called in a simulation");
        let options = SpawnOptions { name: Some("block_on".into()), ..SpawnOptions::default() };
        let result = match self.caller_here() {
            Some(caller) => {
                let _driving = caller.drive();
                // SAFETY: this function does not return before the fiber has ended, and the fiber stays on this thread.
                let main = unsafe {
                    spawn_unchecked(&Spawner::Worker(&caller.worker), options, Placement::Here, body)
                };
                let main = AbortOnUnwind::guard(main);
                caller.worker.run_until(&|_| main.is_finished());
                main.release().join()
            }
            None => {
                // SAFETY: `body` and `T` are `Send`, and this function does not return before the fiber has ended.
                let main = unsafe {
                    spawn_unchecked(&Spawner::Outside(&self.shared), options, Placement::Anywhere, body)
                };
                let main = AbortOnUnwind::guard(main);
                let cut_short = main.wait_lent();
                let result = main.release().join();
                if cut_short && matches!(result, Err(JoinError::Cancelled)) {
                    cancel::unwind();
                }
                result
            }
        };
        result.unwrap_or_else(|error| error.resume())
    }

    /// A token that is cancelled when the runtime begins to stop, while its fibers still have until the deadline to end by
    /// themselves: for those that would serve for ever. Cancelling it by hand stops nothing.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
    /// let stop = runtime.stop_token();
    /// let server = runtime.spawn(move || stop.cancelled());
    /// assert!(runtime.stop(Duration::from_secs(10)).is_clean());
    /// server.join().unwrap();
    /// ```
    pub fn stop_token(&self) -> CancelToken {
        self.shared.stop_token()
    }

    /// A reading of the counters.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Describes every fiber; see [`diagnostics::dump`](crate::diagnostics::dump).
    pub fn dump(&self) -> RuntimeDump {
        crate::dump::dump_one(&self.shared)
    }

    /// How deep fibers have used their stacks, by name. Empty unless the runtime was built with
    /// [`stack_probe`](Builder::stack_probe).
    pub fn stack_usage(&self) -> StackUsageTable {
        probe::table(&self.shared)
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.shared.ports().len()
    }

    /// The caller's worker, if the calling thread may drive it now.
    fn caller_here(&self) -> Option<&CallerWorker> {
        let caller = self.caller.as_ref()?;
        let free = caller.owner == std::thread::current().id()
            && !caller.driven.get()
            && Worker::with_current(|_| ()).is_none();
        free.then_some(caller)
    }
}

/// Holds a join handle whose fiber borrows from the caller: leaving by unwinding would be unsound.
struct AbortOnUnwind<T>(Option<JoinHandle<T>>);

impl<T> AbortOnUnwind<T> {
    fn guard(handle: JoinHandle<T>) -> Self {
        AbortOnUnwind(Some(handle))
    }

    fn release(mut self) -> JoinHandle<T> {
        self.0.take().expect("the handle is there until it is released")
    }
}

impl<T> std::ops::Deref for AbortOnUnwind<T> {
    type Target = JoinHandle<T>;

    fn deref(&self) -> &JoinHandle<T> {
        self.0.as_ref().expect("the handle is there until it is released")
    }
}

impl<T> Drop for AbortOnUnwind<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            eprintln!("block_on unwinds while its fiber runs");
            std::process::abort();
        }
    }
}

/// The caller's worker while a thread drives it.
struct Driving<'a> {
    caller: &'a CallerWorker,
    _entered: Entered<'a>,
    _alternate: AlternateStack,
}

impl CallerWorker {
    fn drive(&self) -> Driving<'_> {
        self.driven.set(true);
        let alternate = AlternateStack::for_this_thread();
        let entered = self.worker.enter();
        self.worker.port().set_state(State::Running);
        crate::monitor::worker_awake();
        Driving { caller: self, _entered: entered, _alternate: alternate }
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.caller.worker.port().set_state(State::Away);
        self.caller.driven.set(false);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("name", &self.shared.config().name)
            .field("workers", &self.workers())
            .finish()
    }
}

/// The right to spawn on a runtime. A handle does not keep the runtime running: after its stop, fibers spawned
/// through it do not run.
#[derive(Clone)]
pub struct Handle {
    shared: SharedRef,
}

impl Handle {
    /// The runtime of the calling fiber.
    ///
    /// # Panics
    /// Outside a fiber.
    #[track_caller]
    pub fn current() -> Handle {
        Handle::try_current().expect("Handle::current() is called in a fiber")
    }

    /// The runtime of the calling fiber, if the caller is in one.
    pub fn try_current() -> Option<Handle> {
        Worker::with_current(|worker| Handle { shared: worker.shared_ref().clone() })
    }

    /// Spawns a fiber: from a fiber of this runtime as [`spawn`](crate::spawn) does, from elsewhere on the less loaded
    /// of two workers.
    pub fn spawn<F, T>(&self, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_with(FiberBuilder::new(), body)
    }

    /// Spawns a fiber on worker `worker`.
    ///
    /// # Panics
    /// When that worker does not exist.
    #[track_caller]
    pub fn spawn_on<F, T>(&self, worker: usize, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_with(FiberBuilder::new().worker(worker), body)
    }

    /// Spawns a fiber with settings.
    ///
    /// # Panics
    /// When the worker asked for does not exist.
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: FiberBuilder, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let here = Worker::with_current(|worker| Arc::ptr_eq(worker.shared_ref(), &self.shared));
        if here == Some(true) { builder.spawn(body) } else { spawn_from_outside(&self.shared, builder, body) }
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.shared.ports().len()
    }

    /// Whether both are of the same runtime.
    pub(crate) fn is_of(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// As [`Runtime::stop_token`].
    pub fn stop_token(&self) -> CancelToken {
        self.shared.stop_token()
    }

    /// A reading of the counters.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Describes every fiber; see [`diagnostics::dump`](crate::diagnostics::dump).
    pub fn dump(&self) -> RuntimeDump {
        crate::dump::dump_one(&self.shared)
    }

    /// How deep fibers have used their stacks, by name. Empty unless the runtime was built with
    /// [`stack_probe`](Builder::stack_probe).
    pub fn stack_usage(&self) -> StackUsageTable {
        probe::table(&self.shared)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.config().name)
            .field("workers", &self.workers())
            .finish()
    }
}

#[track_caller]
fn spawn_from_outside<F, T>(shared: &Shared, builder: FiberBuilder, body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    builder.spawn_by(&Spawner::Outside(shared), body)
}

#[cfg(test)]
mod tests;
