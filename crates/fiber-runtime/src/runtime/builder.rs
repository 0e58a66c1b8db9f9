//! Settings of a runtime, and its start.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_deque::Worker as Deque;

use super::{CallerWorker, Runtime};
use crate::config::Config;
use crate::fiber::header::Unstarted;
use crate::monitor::{HogReport, OnHog};
use crate::scheduler::port::{Port, State};
use crate::scheduler::shared::Shared;
use crate::scheduler::worker::Worker;
use crate::stack::{self, overflow};

/// Settings for a [`Runtime`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    config: Config,
}

impl Builder {
    pub(super) fn new() -> Self {
        Builder { config: Config::default() }
    }

    /// The number of workers, 1 to 1024. Default: one per available processor.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Whether the thread that calls [`build`](Builder::build) is worker 0, while it is inside `block_on` or `stop`,
    /// so that one thread fewer is started. Default: no. Fibers of worker 0 rest while nobody drives it.
    pub fn use_caller(mut self, use_caller: bool) -> Self {
        self.config.use_caller = use_caller;
        self
    }

    /// The name, from which those of the threads derive. Default: `moon`.
    pub fn name(mut self, name: &str) -> Self {
        self.config.name = name.to_owned();
        self
    }

    /// Bytes of stack a fiber gets, the guard page not counted, rounded up to a power of two between 16 KiB and 64 MiB.
    /// Default: 64 KiB, in unoptimised builds 256 KiB. Only what is touched costs memory.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.config.stack_class = stack::class_of(bytes);
        self
    }

    /// The most threads [`offload`](crate::offload) may use. Default: 16. They start when needed.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.config.blocking_threads = threads;
        self
    }

    /// The most calls that may wait for a thread of the blocking pool; further callers wait for room. Default: 1024.
    pub fn blocking_queue(mut self, calls: usize) -> Self {
        self.config.blocking_queue = calls;
        self
    }

    /// How long a thread of the blocking pool waits for work before it leaves. Default: 10 seconds.
    pub fn blocking_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.config.blocking_keep_alive = keep_alive;
        self
    }

    /// Whether the libc calls of this runtime's fibers are hooked ([`hook`](crate::hook)). Default: yes, if the crate was
    /// built with its feature `hook`. Without, ordinary blocking code blocks the worker, and only this crate's own types
    /// park; a fiber cannot switch them on again.
    pub fn hooks(mut self, hooks: bool) -> Self {
        self.config.hooks = hooks;
        self
    }

    /// Whether to measure how deep fibers use their stacks, for [`Handle::stack_usage`](crate::Handle::stack_usage).
    /// Default: no. It makes the end of each fiber cost some microseconds more; see
    /// [`diagnostics`](crate::diagnostics#stack-sizes).
    pub fn stack_probe(mut self, probe: bool) -> Self {
        self.config.stack_probe = probe;
        self
    }

    /// Whether SIGUSR1 makes the process write a dump of its fibers to the standard error. Default: no. See
    /// [`diagnostics::dump_on_signal`](crate::diagnostics::dump_on_signal), which takes other signals too.
    pub fn dump_on_signal(mut self, dump: bool) -> Self {
        self.config.dump_on_signal = dump;
        self
    }

    /// How long a fiber may hold its worker before it is a hog: reported with its backtrace as a warning through
    /// `tracing`, to [`on_hog`](Builder::on_hog), and in [`WorkerMetrics::hogs`](crate::WorkerMetrics::hogs). Zero switches
    /// it off. Default: 10 ms. See [`diagnostics`](crate::diagnostics).
    pub fn hog_limit(mut self, limit: Duration) -> Self {
        self.config.hog_limit = limit;
        self
    }

    /// Calls `callback` for every hog, on the monitor's thread. It must not block for long, for the monitor sees nothing
    /// meanwhile.
    pub fn on_hog(mut self, callback: impl Fn(&HogReport) + Send + Sync + 'static) -> Self {
        self.config.on_hog = Some(OnHog(Arc::new(callback)));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// `InvalidInput` for settings outside their limits; what the system says when it has no threads or descriptors.
    pub fn build(self) -> io::Result<Runtime> {
        let config = self.config;
        config.validate()?;
        overflow::install();
        crate::panic_hook::install();
        crate::forked::install();
        crate::hook::link();
        if config.hooks {
            crate::hook::check_at_start();
        }
        if config.dump_on_signal {
            crate::dump::dump_on_signal(libc::SIGUSR1)?;
        }
        let count = config.workers;
        let use_caller = config.use_caller;
        let name = config.name.clone();
        let ports: Box<[&'static Port]> = (0..count).map(|_| Port::acquire()).collect();
        let deques: Vec<Deque<Unstarted>> = (0..count).map(|_| Deque::new_lifo()).collect();
        let stealers = deques.iter().map(Deque::stealer).collect();
        let shared = Arc::new(Shared::new(config, ports, stealers));
        crate::dump::register(&shared);
        // From here on dropping `runtime` ends the workers started so far.
        let mut runtime = Runtime { shared, threads: Vec::new(), caller: None, stopped: false };
        for (index, deque) in deques.into_iter().enumerate() {
            if index == 0 && use_caller {
                let worker = Box::new(Worker::new(runtime.shared.clone(), 0, deque)?);
                runtime.caller = Some(CallerWorker {
                    worker,
                    owner: std::thread::current().id(),
                    driven: Cell::new(false),
                    not_sync: PhantomData,
                });
                continue;
            }
            // The eventfd exists before anybody can post.
            runtime.shared.ports()[index].eventfd()?;
            // Its thread will drive it, perhaps a while from now: fibers placed by load may be sent there already.
            runtime.shared.ports()[index].set_state(crate::scheduler::port::State::Running);
            let shared = runtime.shared.clone();
            let (report, started) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                let worker = match Worker::new(shared, index, deque) {
                    Ok(worker) => worker,
                    Err(error) => return drop(report.send(Err(error))),
                };
                drop(report.send(Ok(())));
                drop(report);
                run_worker(&worker);
            })?;
            runtime.threads.push(Some(thread));
            started.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended before it started")))?;
        }
        if !runtime.shared.config().hog_limit.is_zero() {
            crate::monitor::watch(&runtime.shared)?;
        }
        Ok(runtime)
    }
}

/// A worker thread's life.
fn run_worker(worker: &Worker) {
    let _alternate = overflow::AlternateStack::for_this_thread();
    let _entered = worker.enter();
    worker.port().set_state(State::Running);
    worker.run_until(&|worker| worker.shared().is_shut_down() && worker.is_empty());
    worker.port().set_state(State::Away);
}
