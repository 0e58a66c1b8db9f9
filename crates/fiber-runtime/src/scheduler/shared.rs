//! What the workers of one runtime have in common.

use std::sync::Arc;
use std::thread::Thread;

use crossbeam_utils::CachePadded;

use super::port::{Port, State};
use super::random::thread_random;
use crate::blocking::Pool;
use crate::config::Config;
use crate::fiber::header::Unstarted;
use crate::fiber::{CancelToken, Placement};
use crate::metrics::{Metrics, WorkerMetrics};
use crate::primitive::deque::{Injector, Steal, Stealer, Worker};
use crate::primitive::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::stack::probe::Probe;
use crate::sync::Spin;
use crate::sys;

/// See the module's documentation.
pub(crate) struct Shared {
    config: Config,
    ports: Box<[&'static Port]>,
    stealers: Box<[Stealer<Unstarted>]>,
    /// Per worker, fibers placed there from outside that any worker may take: while the worker is stuck in a fiber,
    /// others do.
    injectors: Box<[Injector<Unstarted>]>,
    /// Workers that sleep or are about to; a hint, exact when nothing moves.
    idle: CachePadded<AtomicUsize>,
    /// Workers that look for work, or were woken to.
    searching: CachePadded<AtomicUsize>,
    /// `stop` was called: it wants to hear of every fiber that ends.
    stopping: AtomicBool,
    /// Every fiber is to be cancelled.
    cancelling: AtomicBool,
    /// Workers without fibers are to end.
    shutdown: AtomicBool,
    stopper: Spin<Option<Thread>>,
    /// For fibers that want to hear of the stop: cancelled when it begins.
    stop_token: CancelToken,
    /// Twice the number of threads that are placing a fiber from outside, plus one when no more may.
    gate: AtomicUsize,
    spawned_outside: AtomicU64,
    pub(crate) pool: Pool,
    /// Measures how deep stacks are used, if that was asked for.
    pub(crate) probe: Option<Probe>,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        ports: Box<[&'static Port]>,
        stealers: Box<[Stealer<Unstarted>]>,
    ) -> Self {
        assert_eq!(ports.len(), config.workers);
        let pool = Pool::new(&config);
        let probe = config.stack_probe.then(Probe::default);
        let injectors = ports.iter().map(|_| Injector::new()).collect();
        Shared {
            config,
            ports,
            stealers,
            injectors,
            idle: CachePadded::new(AtomicUsize::new(0)),
            searching: CachePadded::new(AtomicUsize::new(0)),
            stopping: AtomicBool::new(false),
            cancelling: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            stopper: Spin::new(None),
            stop_token: CancelToken::new(),
            gate: AtomicUsize::new(0),
            spawned_outside: AtomicU64::new(0),
            pool,
            probe,
        }
    }

    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    #[inline]
    pub(crate) fn ports(&self) -> &[&'static Port] {
        &self.ports
    }

    /// The fibers placed on worker `worker` from outside.
    #[inline]
    pub(crate) fn injector(&self, worker: usize) -> &Injector<Unstarted> {
        &self.injectors[worker]
    }

    /// Takes about half of the un-started fibers of worker `victim` into `fresh`, and one to run.
    pub(crate) fn steal(&self, victim: usize, fresh: &Worker<Unstarted>) -> Steal<Unstarted> {
        self.stealers[victim]
            .steal_batch_and_pop(fresh)
            .or_else(|| self.injectors[victim].steal_batch_and_pop(fresh))
    }

    /// Takes the oldest un-started fiber of worker `owner`, the caller, as a thief would.
    pub(crate) fn steal_own(&self, owner: usize) -> Option<Unstarted> {
        self.stealers[owner].steal().success()
    }

    /// Whether some worker has un-started fibers that another may take.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.stealers.iter().all(Stealer::is_empty) || !self.injectors.iter().all(Injector::is_empty)
    }

    /// # Panics
    /// When the placement names a worker that does not exist.
    #[track_caller]
    pub(crate) fn check_placement(&self, placement: Placement) {
        if let Placement::On(worker) = placement {
            assert!(worker < self.ports.len(), "worker {worker} of {} was asked for", self.ports.len());
        }
    }

    /// Puts a fiber spawned outside on a worker: the one asked for, or the less loaded of two.
    pub(crate) fn place(&self, fiber: Unstarted, placement: Placement) {
        // Acquire and Release pair with `begin_shutdown`: after it has seen the gate empty, no post is under way.
        if self.gate.fetch_add(2, Ordering::Acquire) & 1 == 0 {
            // Before the fiber can end: `all_ended` reads ends first.
            self.spawned_outside.fetch_add(1, Ordering::Release);
            match placement {
                // SAFETY: the runtime's reference goes to the inbox, which is the first to get it.
                Placement::On(worker) => unsafe { self.ports[worker].post(fiber.0) },
                Placement::Anywhere | Placement::Here => {
                    let worker = self.choose();
                    self.injectors[worker].push(fiber);
                    // If the worker does not sleep, it may be stuck: then somebody else is to take the fiber.
                    if !self.ports[worker].notify_as(State::Notified) {
                        self.wake_searcher();
                    }
                }
            }
        } else {
            fiber.abandon();
        }
        self.gate.fetch_sub(2, Ordering::Release);
    }

    /// The less loaded of two workers taken at random, preferring one that sleeps to one that somebody drives to one
    /// that nobody does.
    pub(crate) fn choose(&self) -> usize {
        let count = self.ports.len();
        if count == 1 {
            return 0;
        }
        let random = thread_random();
        let first = (random >> 32) as usize % count;
        let second = (first + 1 + (random as u32 as usize) % (count - 1)) % count;
        let load = |worker: usize| {
            let port = self.ports[worker];
            let counters = &port.counters;
            let alive = counters.started.get().saturating_sub(counters.ended.get());
            let state = port.state();
            (state == State::Away, state != State::Parked, counters.ready.get() * 2 + alive)
        };
        if load(second) < load(first) { second } else { first }
    }

    /// Work that any worker may take has appeared: wakes one sleeper, unless somebody searches already and will find
    /// it. (Go's rule: at most one worker is woken per searcher, and the last one to find work wakes the next.)
    #[inline]
    pub(crate) fn wake_searcher(&self) {
        // Pairs with the fence in `Port::park`: either the sleeper's last look finds the work, or we find it idle.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) > 0 && self.searching.load(Ordering::Relaxed) == 0 {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        if self.searching.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return;
        }
        let start = thread_random() as usize % self.ports.len();
        let (before, after) = self.ports.split_at(start);
        for port in after.iter().chain(before) {
            if port.notify_as(State::NotifiedToSearch) {
                return;
            }
        }
        self.searching.fetch_sub(1, Ordering::SeqCst);
    }

    /// The caller wants to search. False: enough others do.
    pub(crate) fn begin_search(&self) -> bool {
        if self.searching.load(Ordering::Relaxed) * 2 >= self.ports.len() {
            return false;
        }
        self.searching.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// The caller has stopped searching. True: it was the last.
    pub(crate) fn end_search(&self) -> bool {
        self.searching.fetch_sub(1, Ordering::SeqCst) == 1
    }

    pub(crate) fn add_idle(&self) {
        self.idle.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn remove_idle(&self) {
        self.idle.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes every worker, for them to look at the flags below.
    pub(crate) fn notify_all(&self) {
        for port in &self.ports {
            port.notify();
        }
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_cancelling(&self) -> bool {
        self.cancelling.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_shut_down(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }

    /// From now on every fiber's end is told to `stopper`.
    pub(crate) fn begin_stop(&self, stopper: Thread) {
        self.stopper.lock(|slot| *slot = Some(stopper));
        self.stopping.store(true, Ordering::SeqCst);
        self.stop_token.cancel();
        self.notify_all();
    }

    /// A token that is cancelled when the runtime begins to stop, and whose own cancellation stops nothing.
    pub(crate) fn stop_token(&self) -> CancelToken {
        self.stop_token.child_token()
    }

    /// From now on every fiber is cancelled.
    pub(crate) fn begin_cancel(&self) {
        self.cancelling.store(true, Ordering::SeqCst);
        self.notify_all();
    }

    /// From now on workers end when they have no fibers.
    pub(crate) fn begin_shutdown(&self) {
        self.gate.fetch_or(1, Ordering::AcqRel);
        while self.gate.load(Ordering::Acquire) > 1 {
            sys::sched_yield();
        }
        self.shutdown.store(true, Ordering::SeqCst);
        self.notify_all();
    }

    /// A fiber has ended while somebody stops the runtime.
    #[cold]
    pub(crate) fn tell_stopper(&self) {
        if let Some(stopper) = self.stopper.lock(|slot| slot.clone()) {
            stopper.unpark();
            // The stopper may be driving the caller's worker.
            if self.config.use_caller {
                self.ports[0].notify();
            }
        }
    }

    /// Whether every fiber that was ever spawned has ended.
    ///
    /// Ends are read before spawns. A fiber is counted as spawned before it can end, and by its parent before the
    /// parent can end; so if the sums are equal, no fiber was alive when the first end was read, save those spawned
    /// from outside since.
    pub(crate) fn all_ended(&self) -> bool {
        let ended: u64 = self.ports.iter().map(|port| port.counters.ended.get()).sum();
        let spawned: u64 = self.ports.iter().map(|port| port.counters.spawned.get()).sum();
        spawned + self.spawned_outside.load(Ordering::Acquire) == ended
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics {
            workers: self.ports.iter().map(|port| WorkerMetrics::read(&port.counters)).collect(),
            spawned_outside: self.spawned_outside.load(Ordering::Acquire),
            ..Metrics::default()
        };
        self.pool.measure(&mut metrics);
        metrics
    }
}

/// A shared handle to a runtime's common part.
pub(crate) type SharedRef = Arc<Shared>;
