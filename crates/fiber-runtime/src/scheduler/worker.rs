//! A worker's own state, and how code on its thread reaches it.
//!
//! One thread-local pointer leads to the worker the thread is driving. It is `const`-initialised, so reading it is one
//! instruction, and no reference obtained through it is kept across a change of worker: fibers do not change threads.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::{NonNull, null};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_deque::Worker as Deque;
use slab::Slab;

use super::hints::Hints;
use super::ids::IdBlock;
use super::port::Port;
use super::ready::ReadyQueue;
use super::shared::{Shared, SharedRef};
use super::young::Young;
use crate::fiber::Placement;
use crate::fiber::blocks::BlockCache;
use crate::fiber::header::{Header, Phase, Unstarted};
use crate::fiber::park::COURTESY;
#[cfg(feature = "hook")]
use crate::hook::thread_locals::Private;
use crate::metrics::Counters;
use crate::reactor::poller::Poller;
use crate::sim::SimState;
use crate::sim::group::GroupCore;
use crate::stack::StackCache;
use crate::time::Clock;
use crate::timer::{TimerNode, Wheel};
use crate::trace;

thread_local! {
    static CURRENT: Cell<*const Worker> = const { Cell::new(null()) };
}

/// One worker. Used by one thread only; others see its [`Port`].
pub(crate) struct Worker {
    /// The fiber on the processor, or null.
    pub(super) current: Cell<*const Header>,
    /// Started fibers that can go on; in a simulation also those that have not started. Owns the runtime's reference to
    /// each of them.
    pub(super) ready: ReadyQueue,
    /// Un-started fibers that may not leave this worker, or have nowhere to go.
    pub(super) young: Young,
    /// Un-started fibers that others may steal.
    pub(super) fresh: Deque<Unstarted>,
    /// Whether there is anybody to steal.
    pub(super) alone: bool,
    pub(super) timers: RefCell<Wheel>,
    /// The earliest deadline the wheel may hold; never later than the real one.
    pub(super) next_timer: Cell<u64>,
    /// When to wake from sleep at the latest, for the sake of who drives the worker.
    pub(super) alarm: Cell<u64>,
    pub(super) stacks: RefCell<StackCache>,
    blocks: BlockCache,
    /// Every started fiber that has not ended. Changed on the worker's own stack only, never on a fiber's: dumps rely on
    /// it (see [`super::census`]).
    pub(super) alive: RefCell<Slab<NonNull<Header>>>,
    /// Resumes left until the worker looks at clock, timers, inbox and events.
    pub(super) budget: Cell<u32>,
    /// Looks until a run is timed.
    pub(super) sample_in: Cell<u32>,
    /// How many resumes the next budget has; adapts to how long resumes take.
    pub(super) interval: Cell<u32>,
    /// Operations that fibers may still complete without waiting before the one that does so gives way.
    pub(super) courtesy: Cell<u32>,
    pub(super) last_look: Cell<u64>,
    pub(super) last_poll: Cell<u64>,
    /// Whether this worker has cancelled its fibers because the runtime cancels.
    pub(super) swept: Cell<bool>,
    /// For fibers with a hint of priority.
    pub(super) hints: Hints,
    ids: IdBlock,
    /// Thread-locals of libraries that code on this thread uses outside fibers.
    #[cfg(feature = "hook")]
    pub(crate) thread_locals: Private,
    clock: Clock,
    pub(super) sim: Option<Box<SimState>>,
    poller: Option<Poller>,
    port: &'static Port,
    shared: SharedRef,
    index: usize,
}

impl Worker {
    /// A worker of a real runtime.
    pub(crate) fn new(shared: SharedRef, index: usize, fresh: Deque<Unstarted>) -> io::Result<Self> {
        let port = shared.ports()[index];
        let poller = Poller::new(port.eventfd()?)?;
        Ok(Self::assemble(shared, index, fresh, Some(poller), None))
    }

    /// The worker of a simulation.
    pub(crate) fn simulated(shared: SharedRef, fresh: Deque<Unstarted>, sim: Box<SimState>) -> Self {
        Self::assemble(shared, 0, fresh, None, Some(sim))
    }

    fn assemble(
        shared: SharedRef,
        index: usize,
        fresh: Deque<Unstarted>,
        poller: Option<Poller>,
        sim: Option<Box<SimState>>,
    ) -> Self {
        let clock = Clock::new();
        let now = sim.as_ref().map_or_else(|| clock.system_nanos(), |sim| sim.now());
        let port = shared.ports()[index];
        let probed = shared.probe.is_some();
        port.set_staffed(poller.is_some());
        Worker {
            current: Cell::new(null()),
            ready: ReadyQueue::new(),
            young: Young::new(),
            fresh,
            alone: shared.ports().len() == 1,
            timers: RefCell::new(Wheel::new(now)),
            next_timer: Cell::new(u64::MAX),
            alarm: Cell::new(u64::MAX),
            stacks: RefCell::new(StackCache::new(probed)),
            blocks: BlockCache::new(),
            alive: RefCell::new(Slab::new()),
            budget: Cell::new(super::run::MAX_INTERVAL),
            sample_in: Cell::new(0),
            interval: Cell::new(super::run::MAX_INTERVAL),
            courtesy: Cell::new(COURTESY),
            last_look: Cell::new(now),
            last_poll: Cell::new(now),
            swept: Cell::new(false),
            hints: Hints::new(),
            ids: IdBlock::new(),
            #[cfg(feature = "hook")]
            thread_locals: Private::default(),
            clock,
            sim,
            poller,
            port,
            shared,
            index,
        }
    }

    /// Makes this worker the calling thread's until the guard drops.
    pub(crate) fn enter(&self) -> Entered<'_> {
        CURRENT.with(|current| {
            assert!(current.get().is_null(), "a thread drives one worker at a time");
            current.set(self);
        });
        self.port.set_driven(true);
        prepare_deques();
        #[cfg(feature = "hook")]
        self.set_thread_locals_aside();
        Entered { worker: self, _spans: trace::leave_thread() }
    }

    /// Calls `body` with the worker the calling thread drives, if it does.
    #[inline(always)]
    pub(crate) fn with_current<R>(body: impl FnOnce(&Worker) -> R) -> Option<R> {
        let worker = CURRENT.with(Cell::get);
        // SAFETY: null, or set by `enter` to a worker that outlives the guard, on this thread.
        unsafe { worker.as_ref() }.map(body)
    }

    /// In a forked child: the calling thread is nobody's worker any more.
    pub(crate) fn abandon() {
        CURRENT.with(|current| current.set(null()));
    }

    /// Calls `body` with the calling thread's worker and the fiber it runs, if it runs one.
    #[inline(always)]
    pub(crate) fn with_current_fiber<R>(body: impl FnOnce(&Worker, &Header) -> R) -> Option<R> {
        // SAFETY: the references do not leave `body`, during which the fiber does not end.
        unsafe { Self::current_fiber() }.map(|(worker, fiber)| body(worker, fiber))
    }

    /// As [`Worker::with_current_fiber`], for code that suspends: a closure that suspends may end up as a function of
    /// its own, and a frame between a wait and its caller costs more than the switch (see `park::switch`).
    ///
    /// # Safety
    /// The caller drops the references before it returns to its fiber. Until then they hold across suspensions, for a
    /// fiber does not change its worker, which outlives it, and the runtime's reference to a fiber lasts until its end.
    #[inline(always)]
    pub(crate) unsafe fn current_fiber<'a>() -> Option<(&'a Worker, &'a Header)> {
        let worker = CURRENT.with(Cell::get);
        // SAFETY: as in `with_current`; the current fiber is alive while it is current.
        unsafe {
            let worker = worker.as_ref()?;
            Some((worker, worker.current.get().as_ref()?))
        }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[inline]
    pub(crate) fn shared_ref(&self) -> &SharedRef {
        &self.shared
    }

    #[inline]
    pub(crate) fn port(&self) -> &'static Port {
        self.port
    }

    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline]
    pub(crate) fn counters(&self) -> &'static Counters {
        &self.port.counters
    }

    #[inline]
    pub(crate) fn blocks(&self) -> &BlockCache {
        &self.blocks
    }

    #[inline]
    pub(crate) fn poller(&self) -> Option<&Poller> {
        self.poller.as_ref()
    }

    #[inline]
    pub(crate) fn sim(&self) -> Option<&SimState> {
        self.sim.as_deref()
    }

    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time on this worker's clock, in nanoseconds.
    #[inline]
    pub(crate) fn now_nanos(&self) -> u64 {
        match &self.sim {
            None => self.clock.system_nanos(),
            Some(sim) => sim.now(),
        }
    }

    /// When the worker last looked at its clock, in nanoseconds: at most a busy interval or one long resume ago.
    #[inline]
    pub(crate) fn last_look(&self) -> u64 {
        self.last_look.get()
    }

    /// The time as an instant.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match &self.sim {
            None => Instant::now(),
            Some(sim) => self.clock.instant(sim.now()),
        }
    }

    #[inline]
    pub(crate) fn next_fiber_id(&self) -> u64 {
        match &self.sim {
            None => self.ids.take(),
            Some(sim) => sim.next_fiber_id(),
        }
    }

    /// The group of the current fiber, which its children inherit.
    #[inline]
    pub(crate) fn current_group(&self) -> Option<Arc<GroupCore>> {
        // SAFETY: as in `with_current_fiber`.
        unsafe { self.current.get().as_ref() }.and_then(|fiber| fiber.group.clone())
    }

    /// Appends a fiber to the ready queue. The queue has the runtime's reference to it.
    #[inline(always)]
    pub(crate) fn push_ready(&self, fiber: NonNull<Header>) {
        self.ready.push(fiber);
    }

    /// As [`push_ready`](Self::push_ready), but where its hint of priority says.
    #[inline(always)]
    pub(crate) fn push_by_hint(&self, fiber: NonNull<Header>) {
        // SAFETY: the caller hands over the runtime's reference.
        match unsafe { fiber.as_ref() }.extras.get() {
            None => self.push_ready(fiber),
            Some(_) => self.push_hinted(fiber),
        }
    }

    /// Puts a fiber spawned on this worker where it can start.
    #[inline]
    pub(crate) fn place(&self, fiber: Unstarted, placement: Placement) {
        self.counters().spawned.add(1);
        match placement {
            Placement::Anywhere if !self.alone => {
                self.fresh.push(fiber);
                self.shared.wake_searcher();
            }
            Placement::On(worker) if worker != self.index && self.shared.is_shut_down() => {
                // A fiber that outlived its runtime: the other worker is gone.
                self.counters().ended.add(1);
                fiber.abandon();
            }
            Placement::On(worker) if worker != self.index => {
                // SAFETY: the runtime's reference goes to the inbox, which is the first to get it.
                unsafe { self.shared.ports()[worker].post(fiber.0) };
            }
            Placement::Anywhere | Placement::Here | Placement::On(_) => self.push_young(fiber.0),
        }
    }

    /// Queues an un-started fiber of this worker. A simulation chooses among all that can run.
    #[inline]
    pub(super) fn push_young(&self, fiber: NonNull<Header>) {
        // SAFETY: the caller hands over the runtime's reference.
        match (&self.sim, unsafe { fiber.as_ref() }.extras.get()) {
            (None, None) => self.young.push(fiber),
            (None, Some(_)) => self.push_hinted(fiber),
            (Some(_), _) => self.push_ready(fiber),
        }
    }

    /// The current fiber has completed an operation without waiting. True: it is to give way. The count is the worker's
    /// and not each fiber's, which costs a switch nothing and makes a fiber give way a little early at worst.
    #[inline]
    pub(crate) fn spend_courtesy(&self) -> bool {
        let left = self.courtesy.get();
        self.courtesy.set(if left == 0 { COURTESY } else { left - 1 });
        left == 0
    }

    /// Arms a fiber's timer; false when `deadline` is not in the future of the wheel.
    pub(crate) fn arm(&self, fiber: &Header, deadline: u64) -> bool {
        let mut timers = self.timers.borrow_mut();
        if timers.is_empty() {
            timers.skip_to(self.last_look.get());
        }
        // SAFETY: the node is in the header of a fiber that is about to wait; it is disarmed, or has fired, before the
        // wait returns, so before the fiber can end. Only this thread touches it.
        match unsafe { timers.arm(timer_of(fiber), deadline) } {
            Some(deadline) => {
                self.next_timer.set(self.next_timer.get().min(deadline));
                self.counters().armed.add(1);
                true
            }
            None => false,
        }
    }

    /// Disarms a fiber's timer if it is armed.
    pub(crate) fn disarm(&self, fiber: &Header) {
        if fiber.timer.is_armed() {
            // SAFETY: a fiber's timer is armed in its own worker's wheel.
            unsafe { self.timers.borrow_mut().disarm(&fiber.timer) };
        }
    }

    /// The earliest deadline of the wheel, or a little before.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.timers.borrow().next_deadline_nanos()
    }

    /// Makes the worker's next sleep end after `after` at the latest.
    pub(crate) fn set_alarm(&self, after: Duration) {
        self.alarm.set(self.now_nanos().saturating_add(crate::time::saturating_nanos(after)));
    }

    /// Gives some unused memory back; true: there was some, and there may be more.
    pub(super) fn trim_stacks(&self) -> bool {
        let trimmed = crate::stack::trim();
        if trimmed {
            self.budget.set(0);
        }
        trimmed
    }

    /// Whether this worker has no fiber, started or not, nor one on its way here.
    pub(crate) fn is_empty(&self) -> bool {
        self.alive.borrow().is_empty()
            && self.ready_is_empty()
            && self.fresh.is_empty()
            && self.hints.waiting() == 0
            && !self.port.has_mail()
    }

    /// Whether no fiber is ready here.
    pub(crate) fn ready_is_empty(&self) -> bool {
        self.ready.is_empty() && self.young.is_empty()
    }

    /// Fires the timers that are due at `now`.
    pub(crate) fn fire_timers(&self, now: u64) {
        if now < self.next_timer.get() {
            return;
        }
        let mut timers = self.timers.borrow_mut();
        let mut fired = 0;
        timers.advance(now, |node| {
            fired += 1;
            self.expire(fiber_of(node));
        });
        self.next_timer.set(timers.next_deadline_nanos().unwrap_or(u64::MAX));
        self.counters().timers.add(fired);
    }

    /// Names of the fibers that have started and not ended.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let describe = |fiber: &NonNull<Header>| {
            // SAFETY: the table holds fibers of this worker that have not ended; the runtime's reference keeps them.
            let fiber = unsafe { fiber.as_ref() };
            let state = match fiber.phase.get() {
                Phase::Parked => format!("waits: {}", fiber.label.get()),
                phase => format!("{phase:?}").to_lowercase(),
            };
            format!("{} ({state})", fiber.describe())
        };
        self.alive.borrow().iter().map(|(_, fiber)| describe(fiber)).collect()
    }
}

/// Makes what the deques make when they are first used, in the process and on the calling thread: crossbeam-epoch does so
/// under a lock of std. A fiber that spawns and waited for that lock would leave its worker in the middle of a push, and
/// the worker would take from the same deque: what was in it would be run twice, or never.
fn prepare_deques() {
    // An empty deque is asked, which looks no further once that is done.
    let _: crossbeam_deque::Steal<()> = Deque::new_lifo().stealer().steal();
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.port.set_staffed(false);
    }
}

/// See [`Worker::enter`].
pub(crate) struct Entered<'a> {
    worker: &'a Worker,
    _spans: trace::ThreadSpans,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        #[cfg(feature = "hook")]
        self.worker.restore_thread_locals();
        self.worker.port.set_driven(false);
        CURRENT.with(|current| current.set(null()));
    }
}

/// The timer in a fiber's header, as a pointer that may be led back to the header.
fn timer_of(fiber: &Header) -> NonNull<TimerNode> {
    // SAFETY: the field is inside the header.
    unsafe { NonNull::from(fiber).byte_add(std::mem::offset_of!(Header, timer)).cast() }
}

/// The fiber whose header holds this timer.
fn fiber_of(node: NonNull<TimerNode>) -> NonNull<Header> {
    // SAFETY: timers are armed by `Worker::arm` only, with a pointer that `timer_of` made from the header's.
    unsafe { node.byte_sub(std::mem::offset_of!(Header, timer)).cast() }
}

/// Name, number and stack size of the fiber this thread runs, if `address` is in its guard. For the signal handler:
/// reads plain memory of this thread only.
pub(crate) fn fiber_whose_guard_holds(address: usize) -> Option<(Option<&'static str>, u64, usize)> {
    Worker::with_current_fiber(|_, fiber| {
        let guard = fiber.stack_guard.get();
        if !(guard.0..guard.1).contains(&address) {
            return None;
        }
        // SAFETY: the process aborts after the report, so the fiber lives for the rest of it.
        let name = fiber.name.as_deref().map(|name| unsafe { &*std::ptr::from_ref(name) });
        Some((name, fiber.id, crate::stack::stack_size(fiber.class)))
    })
    .flatten()
}
