//! The worker's loop: take a fiber, resume it, put it where it belongs.
//!
//! Every so many resumes (at most [`MAX_INTERVAL`], fewer when resumes are long, so that it happens about every
//! [`LOOK_NANOS`]) the worker looks at the clock, fires timers, empties its inbox, and, every [`POLL_NANOS`], asks the
//! kernel for events: a worker that is never idle still hears of sockets and deadlines.

use std::mem::ManuallyDrop;
use std::ptr::{NonNull, null};

use corosensei::CoroutineResult;

use super::port::Control;
use super::worker::Worker;
use crate::fiber::Completed;
use crate::fiber::header::{FiberCoroutine, Header, Phase, Suspend};

/// Resumes between two looks around, at most.
pub(super) const MAX_INTERVAL: u32 = 61;
/// How long resumes between two looks should take together, at most.
const LOOK_NANOS: u64 = 100_000;
/// How long a busy worker goes without asking for events.
const POLL_NANOS: u64 = 100_000;
/// One fiber in so many is an un-started one even when started ones are ready, so that neither kind starves.
const FRESH_SHARE: u32 = 8;
/// How many places ahead of its turn a fiber's header is fetched into the cache, and then what it leads to.
const FETCH_HEADER: usize = 4;
const FETCH_STACK: usize = 2;

impl Worker {
    /// Runs fibers until `until` holds. It is asked between resumes, and before and after sleeping; whoever makes it
    /// true must notify the worker's port.
    pub(crate) fn run_until(&self, until: &dyn Fn(&Worker) -> bool) {
        // Three loops, so that what differs is not asked on every switch.
        match (self.sim(), self.alone) {
            (Some(sim), _) => self.run_loop(
                until,
                || sim.choose(&self.ready),
                |fiber| {
                    sim.trace(fiber.id);
                },
            ),
            (None, true) => self.run_loop(until, || self.next_alone(), |_| {}),
            (None, false) => self.run_loop(until, || self.next_of_many(), |_| {}),
        }
    }

    #[inline(always)]
    fn run_loop(
        &self,
        until: &dyn Fn(&Worker) -> bool,
        next: impl Fn() -> Option<NonNull<Header>>,
        trace: impl Fn(&Header),
    ) {
        loop {
            let budget = self.budget.get();
            if budget == 0 {
                let sample = self.look_around();
                if until(self) {
                    return;
                }
                if sample && let Some(fiber) = next() {
                    self.resume_timed(fiber, &trace);
                }
                continue;
            }
            match next() {
                Some(fiber) => {
                    self.budget.set(budget - 1);
                    self.resume(fiber, &trace);
                }
                None => {
                    if until(self) {
                        return;
                    }
                    if !self.has_low() || !self.serve_low() {
                        self.idle(until);
                    }
                }
            }
        }
    }

    /// The next fiber of a worker that is alone in its runtime. The caller gets the runtime's reference.
    #[inline(always)]
    fn next_alone(&self) -> Option<NonNull<Header>> {
        if self.young.is_empty() { self.ready.pop() } else { self.next_or_young() }
    }

    /// The next fiber of a worker with others beside it. The caller gets the runtime's reference.
    #[inline(always)]
    fn next_of_many(&self) -> Option<NonNull<Header>> {
        let budget = self.budget.get();
        if budget.is_multiple_of(FRESH_SHARE)
            && let Some(fiber) = self.pop_fresh(budget)
        {
            return Some(fiber);
        }
        let next = if self.young.is_empty() { self.ready.pop() } else { self.next_or_young() };
        next.or_else(|| self.fresh.pop().map(|fiber| fiber.0))
    }

    /// An un-started fiber that others could steal: the newest, which keeps trees of fibers small (see [`super::young`]),
    /// and now and then the oldest.
    fn pop_fresh(&self, budget: u32) -> Option<NonNull<Header>> {
        if self.fresh.is_empty() {
            return None;
        }
        let oldest = if budget == FRESH_SHARE { self.shared().steal_own(self.index()) } else { None };
        oldest.or_else(|| self.fresh.pop()).map(|fiber| fiber.0)
    }

    /// A fiber that goes on, before any that starts, but for the latter's share.
    #[cold]
    fn next_or_young(&self) -> Option<NonNull<Header>> {
        let young = || self.young.pop(|patient| self.push_ready(patient));
        if self.budget.get().is_multiple_of(FRESH_SHARE) {
            return young();
        }
        self.ready.pop().or_else(young)
    }

    /// Runs a fiber until it suspends or ends.
    #[inline(always)]
    fn resume(&self, fiber: NonNull<Header>, trace: impl Fn(&Header)) {
        // SAFETY: the caller hands over the runtime's reference.
        let header = unsafe { fiber.as_ref() };
        if header.phase.get() == Phase::Unstarted && !self.start(fiber) {
            return;
        }
        self.prefetch();
        header.phase.set(Phase::Running);
        self.current.set(fiber.as_ptr());
        self.port().running.set(fiber);
        self.counters().switches.add(1);
        trace(header);
        // SAFETY: the coroutine is this worker's, and nobody else touches the cell: `start` filled it and `end` empties
        // it. While the fiber runs it does not look at its own coroutine.
        let coroutine = unsafe {
            let coroutine = (*header.coroutine.get()).as_mut();
            debug_assert!(coroutine.is_some(), "a started fiber has a coroutine");
            coroutine.unwrap_unchecked()
        };
        let result = coroutine.resume(());
        self.current.set(null());
        match result {
            CoroutineResult::Yield(Suspend::Yield) => {
                header.phase.set(Phase::Ready);
                if self.young.is_empty() {
                    self.push_ready(fiber);
                } else {
                    self.young.give_way(fiber);
                }
            }
            // The fiber is off its stack: from here on it can be woken.
            CoroutineResult::Yield(Suspend::Park) => header.phase.set(Phase::Parked),
            CoroutineResult::Return(()) => self.end(fiber),
        }
    }

    /// Fetches what the next fibers will touch while the current one runs: the header of the one after the next, and
    /// the stack of the next, whose header was fetched a resume ago.
    #[inline(always)]
    fn prefetch(&self) {
        let Some(later) = self.ready.peek(FETCH_HEADER) else { return };
        fetch(later.as_ptr().cast_const().cast());
        let sooner = self.ready.peek(FETCH_STACK).expect("the queue is longer than that");
        // SAFETY: the queue owns a reference to each of its fibers.
        let sooner = unsafe { sooner.as_ref() };
        let stack = sooner.resume_at.get();
        fetch(stack);
        fetch(stack.wrapping_add(64));
        fetch(sooner.yielder.get().cast());
    }

    /// Binds an un-started fiber to this worker and gives it a stack. False: there is none, and the fiber has ended; or its
    /// turn is later.
    #[cold]
    #[inline(never)]
    fn start(&self, fiber: NonNull<Header>) -> bool {
        // SAFETY: as in `resume`.
        let header = unsafe { fiber.as_ref() };
        if header.extras.get().is_some() && self.defer_start(fiber) {
            return false;
        }
        if self.shared().is_cancelling() {
            header.attention.set_cancelled();
        }
        self.counters().started.add(1);
        let stack = self.stacks.borrow_mut().take(header.class);
        let stack = match stack {
            Ok(stack) => stack,
            Err(error) => {
                let message = format!("no stack for fiber {}: {error}", header.describe());
                // SAFETY: the fiber has not started and is ours alone.
                unsafe { (header.vtable.abandon)(fiber, Some(Box::new(message))) };
                self.complete(fiber);
                self.forget(fiber);
                return false;
            }
        };
        let guard = stack.guard();
        header.stack_guard.set((guard.start, guard.end));
        let entry = EntryPoint(fiber);
        let coroutine = FiberCoroutine::with_stack(stack, move |yielder, ()| {
            // Bind the whole value: the closure must own the wrapper, whose safety note says why it may.
            let EntryPoint(fiber) = entry;
            // SAFETY: the runtime's reference keeps the block alive until `end`.
            let header = unsafe { fiber.as_ref() };
            header.yielder.set(yielder);
            // SAFETY: a fiber runs once; this is its stack.
            unsafe { (header.vtable.run)(fiber) };
            Worker::with_current(|worker| worker.complete(fiber))
                .expect("a fiber ends on the worker it runs on");
        });
        // SAFETY: as in `resume`; the cell is empty.
        unsafe { *header.coroutine.get() = Some(ManuallyDrop::new(coroutine)) };
        header.slot.set(self.alive.borrow_mut().insert(fiber) as u32);
        // Relaxed: published by `start` below, read by posters after they have seen it.
        header.home.store(std::ptr::from_ref(self.port()).cast_mut(), std::sync::atomic::Ordering::Relaxed);
        header.tokens.set(header.tokens.get().union(header.wake.start()));
        true
    }

    /// The fiber's result is stored: drops its locals, tells whoever waits for it, or drops it when nobody will. Runs on
    /// the fiber's own stack, so that destructors may do what fibers do.
    fn complete(&self, fiber: NonNull<Header>) {
        // SAFETY: as in `resume`.
        let header = unsafe { fiber.as_ref() };
        header.attention.shield_for_good();
        if let Some(extras) = header.extras.get() {
            extras.finish();
        }
        match header.join.complete() {
            Completed::Wake(waiter) => waiter.wake(),
            Completed::Kept => {}
            Completed::Unwanted => {
                // SAFETY: the handle is gone, so the result is ours.
                unsafe {
                    if let Some(sim) = self.sim()
                        && (header.vtable.panicked)(fiber)
                    {
                        sim.detached_panic(header.describe());
                    }
                    (header.vtable.discard)(fiber);
                }
            }
        }
        if let Some(extras) = header.extras.get() {
            extras.end(header.id);
        }
    }

    /// The fiber has returned: recycles its stack and gives up the runtime's reference.
    fn end(&self, fiber: NonNull<Header>) {
        // SAFETY: as in `resume`.
        let header = unsafe { fiber.as_ref() };
        // SAFETY: the coroutine is this worker's and does not run.
        let coroutine = unsafe { (*header.coroutine.get()).take() };
        let coroutine = coroutine.expect("a fiber ends once");
        let stack = ManuallyDrop::into_inner(coroutine).into_stack();
        if let Some(probe) = &self.shared().probe {
            probe.note_end(header, &stack);
        }
        self.stacks.borrow_mut().give(stack);
        self.alive.borrow_mut().remove(header.slot.get() as usize);
        self.forget(fiber);
    }

    fn forget(&self, fiber: NonNull<Header>) {
        // SAFETY: as in `resume`.
        let header = unsafe { fiber.as_ref() };
        self.port().running.clear();
        header.phase.set(Phase::Done);
        if let Some(group) = &header.group {
            group.leave(header.id);
        }
        self.counters().ended.add(1);
        if self.shared().is_stopping() {
            self.shared().tell_stopper();
        }
        // SAFETY: the runtime's reference, given up once, here.
        unsafe { Header::release(fiber) };
    }

    /// What has to happen now and then however busy the worker is. True: the next run is to be timed.
    #[cold]
    fn look_around(&self) -> bool {
        let now = self.now_nanos();
        let spent = now.saturating_sub(self.last_look.replace(now));
        let interval = u64::from(self.interval.get());
        let next = if spent > LOOK_NANOS { interval * LOOK_NANOS / spent } else { interval * 2 };
        self.interval.set((next.clamp(1, u64::from(MAX_INTERVAL))) as u32);
        self.budget.set(self.interval.get());
        self.fire_timers(now);
        self.read_mail();
        if now.saturating_sub(self.last_poll.get()) >= POLL_NANOS {
            self.last_poll.set(now);
            self.poll(false, now, None);
        }
        self.serve_low_sometimes();
        if self.shared().is_cancelling() {
            self.sweep();
        }
        self.publish();
        self.is_sample_due()
    }

    /// As [`Worker::resume`], and notes how long the fiber ran.
    #[cold]
    #[inline(never)]
    fn resume_timed(&self, fiber: NonNull<Header>, trace: impl Fn(&Header)) {
        let began = self.now_nanos();
        self.resume(fiber, trace);
        self.counters().runs.add(self.now_nanos().saturating_sub(began));
    }

    /// Delivers what other threads have posted.
    pub(crate) fn read_mail(&self) {
        let mut posts = 0;
        self.port().take_fibers(|fiber| {
            posts += 1;
            self.receive(fiber);
        });
        if posts > 0 {
            self.counters().posts.add(posts);
        }
        self.take_injected();
        self.port().take_control(|message| match message {
            Control::Closing(fd) => self.close_descriptor(fd),
            Control::Visit(visit) => visit(self),
        });
    }

    /// Takes the fibers that were placed here from outside to where this worker and thieves find them. One that is
    /// alone in its runtime has no thieves, and a simulation chooses among the ready.
    fn take_injected(&self) {
        let injector = self.shared().injector(self.index());
        while !injector.is_empty() {
            let taken = if self.alone {
                injector.steal().success().map(|fiber| self.push_young(fiber.0))
            } else {
                injector.steal_batch(&self.fresh).success()
            };
            // Empty by now, or a thief is at it: whatever is left is seen next time.
            if taken.is_none() {
                return;
            }
        }
    }

    fn receive(&self, fiber: NonNull<Header>) {
        // SAFETY: the inbox hands over a reference.
        let header = unsafe { fiber.as_ref() };
        if header.phase.get() == Phase::Unstarted {
            // A new fiber for this worker in particular; the reference is the runtime's.
            self.push_young(fiber);
        } else {
            let signals = header.wake.collect();
            self.deliver(fiber, signals);
            // SAFETY: the reference the poster made for the inbox.
            unsafe { Header::release(fiber) };
        }
    }

    /// Cancels every fiber of this worker, once.
    pub(super) fn sweep(&self) {
        if self.swept.replace(true) {
            return;
        }
        self.cancel_all();
    }

    /// Cancels every started fiber of this worker.
    pub(crate) fn cancel_all(&self) {
        let fibers: Vec<NonNull<Header>> = self.alive.borrow().iter().map(|(_, fiber)| *fiber).collect();
        for fiber in fibers {
            // SAFETY: in the table, so not ended; nothing ends while this loop runs no fiber.
            unsafe { crate::fiber::header::handle(fiber) }.cancel();
        }
    }
}

/// The fiber a coroutine belongs to.
struct EntryPoint(NonNull<Header>);

/// Asks for a cache line.
#[inline(always)]
fn fetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint and faults on no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
