//! Stackful fibers for Rust that make ordinary blocking code scale.
//!
//! A fiber is a function with a stack of its own that gives way where a thread would block. A [`Runtime`] runs any number
//! of them on a few worker threads. [`spawn`] is safe: a fiber stays on the worker that first runs it, so what its stack
//! holds never changes threads; only fibers that have not started are stolen by idle workers.
//!
//! ```
//! use fiber_runtime::{Runtime, spawn, time};
//! use std::time::Duration;
//!
//! let runtime = Runtime::builder().workers(2).build().unwrap();
//! let total: u64 = runtime.block_on(|| {
//!     let sleepers: Vec<_> = (0..1000)
//!         .map(|n| spawn(move || { time::sleep(Duration::from_millis(5)); n }))
//!         .collect();
//!     sleepers.into_iter().map(|sleeper| sleeper.join().unwrap()).sum()
//! });
//! assert_eq!(total, 499_500);
//! ```
//!
//! What is where:
//! - [`spawn`], [`spawn_local`], [`spawn_on`], [`FiberBuilder`], [`JoinHandle`], [`Fiber`]: fibers;
//!   [`park`], [`yield_now`], [`time`]: waiting; [`offload`]: blocking work.
//! - [`scope`](scope()): fibers that borrow; [`JoinSet`]: many, joined as they end; [`fiber_local!`]: what each has for itself.
//! - [`Fiber::cancel`], [`CancelToken`], [`Cancelled`], [`shielded`], [`with_deadline`], [`with_timeout`]: ending what waits.
//! - [`Runtime`], [`Handle`], [`Metrics`] (as a table, or for Prometheus): the runtime.
//! - [`sync`], [`select!`], [`net`], [`hook`]: locks and channels, waiting for several at once, sockets, and the libc calls
//!   of code that knows nothing of fibers.
//! - [`pipe`], [`process`], [`signal`], [`fs`], [`fd`]: the rest of the system; descriptors of any other kind.
//! - [`io_manager`]: Moon's surface, descriptor events and timers with callbacks.
//! - [`diagnostics`]: what every fiber does and where, who holds a worker, how deep stacks are used; [`trace`]: `tracing` spans that belong to fibers.
//! - [`sim`]: the same runtime on virtual time, from a seed.
//! - [`soundness`]: why all this is safe, and which test shows it.

mod blocking;
mod config;
pub mod diagnostics;
mod dump;
mod exposition;
pub mod fd;
mod fiber;
mod forked;
pub mod fs;
pub mod hook;
pub mod io_manager;
mod metrics;
mod monitor;
pub mod net;
mod panic_hook;
pub mod pipe;
mod primitive;
pub mod process;
mod reactor;
mod runtime;
mod scheduler;
pub mod signal;
pub mod sim;
#[doc = include_str!("soundness.md")]
pub mod soundness {}
mod stack;
pub mod sync;
mod sys;
pub mod time;
mod timer;
pub mod trace;
mod waiter;

pub use blocking::offload;
pub use fiber::{
    AccessError, CancelToken, Cancelled, Elapsed, Fiber, FiberBuilder, FiberLocal, JoinError, JoinHandle,
    JoinSet, Priority, Scope, ScopedJoinHandle, Wake, current, current_deadline, in_fiber, no_yield, park,
    park_until, scope, shielded, try_current, with_deadline, with_timeout, yield_now,
};
pub use io_manager::IoManager;
pub use metrics::{Metrics, RunTimes, WorkerMetrics};
pub use runtime::{Builder, Handle, Runtime, StopReport};

/// Spawns a fiber on the current runtime. It may start on another worker, and stays where it starts.
///
/// Fibers that can go on come before those that have not started. Among the latter, what was spawned last starts first, so
/// that trees of fibers are walked in depth and need few stacks at a time; now and then the oldest starts, so that none
/// is left behind. On one worker, siblings start in the order in which they were spawned.
///
/// # Panics
/// Outside a fiber: use [`Runtime::spawn`] or [`Handle::spawn`] there.
#[track_caller]
#[inline]
pub fn spawn<F, T>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    FiberBuilder::new().spawn(body)
}

/// Spawns a fiber on the calling worker; neither the closure nor its result need be `Send`.
///
/// # Panics
/// Outside a fiber.
#[track_caller]
#[inline]
pub fn spawn_local<F, T>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    FiberBuilder::new().spawn_local(body)
}

/// Spawns a fiber on worker `worker` of the current runtime.
///
/// # Panics
/// Outside a fiber; when that worker does not exist.
#[track_caller]
#[inline]
pub fn spawn_on<F, T>(worker: usize, body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    FiberBuilder::new().worker(worker).spawn(body)
}
