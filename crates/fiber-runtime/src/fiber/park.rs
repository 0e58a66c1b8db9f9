//! Suspension: how a fiber waits, and how it is woken.
//!
//! The fiber's side is [`wait`] and [`yield_now`]; the worker's side is `Worker::deliver` and `Worker::expire`.

use std::ptr::NonNull;
use std::time::Instant;

use super::header::{Header, Phase, Suspend};
use super::wake::Signals;
use crate::scheduler::worker::Worker;
use crate::waiter::Woken;

/// Gives the worker back until the fiber is resumed.
///
/// `fiber` is the calling one; it and its worker stay valid, for a fiber does not change its worker and the worker
/// outlives its fibers. Nothing else may be held across the call: no borrow of worker state, no `errno`.
///
/// Inlined, and so are its callers: the processor predicts returns by the calls it has seen, and a switch spoils that
/// for every frame between here and the caller that was resumed.
#[inline(always)]
fn switch(fiber: &Header, reason: Suspend) {
    let yielder = fiber.yielder.get();
    debug_assert!(!yielder.is_null());
    let here = 0u8;
    fiber.resume_at.set(&raw const here);
    debug_assert!(is_on_its_stack(fiber, &raw const here), "rule R3: not on an alternate stack for signals");
    // SAFETY: the yielder was stored when this fiber started and lives at the bottom of its stack while it runs; only
    // the fiber itself calls this, for `fiber` is the worker's current one.
    unsafe { (*yielder).suspend(reason) };
}

/// As [`switch`], for a fiber that may have something to leave behind meanwhile: spans.
fn switch_with_extras(fiber: &Header, reason: Suspend) {
    if let Some(extras) = fiber.extras.get() {
        extras.leave();
    }
    switch(fiber, reason);
    if let Some(extras) = fiber.extras.get() {
        extras.enter();
    }
}

/// Whether `here`, in the caller's frame, is on the fiber's stack.
fn is_on_its_stack(fiber: &Header, here: *const u8) -> bool {
    let (low, limit) = fiber.stack_guard.get();
    (limit..low + crate::stack::slot_size(fiber.class)).contains(&here.addr())
}

/// Waits for one of `mask`, for cancellation, or until `deadline`.
#[inline(always)]
pub(crate) fn wait(
    worker: &Worker,
    fiber: &Header,
    mask: Signals,
    label: &'static str,
    deadline: Option<Instant>,
) -> Woken {
    let deadline = deadline.map(|deadline| worker.clock().nanos(deadline));
    wait_nanos(worker, fiber, mask, label, deadline)
}

/// As [`wait`], with the deadline on the worker's clock.
#[inline(always)]
pub(crate) fn wait_nanos(
    worker: &Worker,
    fiber: &Header,
    mask: Signals,
    label: &'static str,
    deadline: Option<u64>,
) -> Woken {
    if fiber.attention.is_needed() {
        return wait_within_limit(worker, fiber, mask, label, deadline);
    }
    wait_unlimited::<false, true>(worker, fiber, mask, label, deadline)
}

/// As [`wait`], for a wait that neither cancellation nor the deadline of a scope ends. Either is noticed by the next wait.
#[cfg(feature = "hook")]
#[inline(always)]
pub(crate) fn wait_uncancelled(
    worker: &Worker,
    fiber: &Header,
    mask: Signals,
    label: &'static str,
    deadline: Option<Instant>,
) -> Woken {
    let deadline = deadline.map(|deadline| worker.clock().nanos(deadline));
    if fiber.attention.is_needed() {
        return wait_unlimited::<true, false>(worker, fiber, mask, label, deadline);
    }
    wait_unlimited::<false, false>(worker, fiber, mask, label, deadline)
}

/// As [`wait_nanos`], for a fiber that is cancelled, in the scope of a deadline, held, or in a span. A passed limit ends
/// the wait as a cancellation does, and [`super::cancel::unwind`] knows the difference.
#[cold]
fn wait_within_limit(
    worker: &Worker,
    fiber: &Header,
    mask: Signals,
    label: &'static str,
    deadline: Option<u64>,
) -> Woken {
    if fiber.must_end() {
        return Woken::Cancelled;
    }
    let held = fiber.attention.is_held();
    // Destructors that wait while a panic unwinds are not cut short: a second unwinding would abort.
    let limit =
        fiber.extras.get().and_then(|extras| extras.limit()).filter(|_| !held && !std::thread::panicking());
    let Some(limit) = limit.filter(|&limit| deadline.is_none_or(|deadline| limit < deadline)) else {
        return wait_unlimited::<true, true>(worker, fiber, mask, label, deadline);
    };
    match wait_unlimited::<true, true>(worker, fiber, mask, label, Some(limit)) {
        Woken::TimedOut => Woken::Cancelled,
        woken => woken,
    }
}

/// The wait itself. `ATTENTIVE`: there is something that the fiber's [`Attention`](super::cancel::Attention) asks for.
/// `CANCELLABLE`: a cancellation ends it.
#[inline(always)]
fn wait_unlimited<const ATTENTIVE: bool, const CANCELLABLE: bool>(
    worker: &Worker,
    fiber: &Header,
    mask: Signals,
    label: &'static str,
    deadline: Option<u64>,
) -> Woken {
    // Rule R3: std counts panics per thread, so no other fiber may run while this one unwinds.
    let blocking = (ATTENTIVE && fiber.attention.is_held()) || std::thread::panicking();
    let wanted = if CANCELLABLE { mask.union(Signals::CANCEL) } else { mask };
    let tokens = fiber.tokens.get();
    if tokens.intersects(wanted) {
        fiber.tokens.set(tokens.without(wanted));
        return Woken::Signal;
    }
    fiber.mask.set(wanted);
    fiber.label.set(label);
    fiber.since.set(worker.last_look());
    if let Some(deadline) = deadline
        && !worker.arm(fiber, deadline)
    {
        return Woken::TimedOut;
    }
    if blocking {
        worker.block_thread(fiber);
    } else if ATTENTIVE {
        switch_with_extras(fiber, Suspend::Park);
    } else {
        switch(fiber, Suspend::Park);
    }
    if deadline.is_some() {
        if fiber.timed_out.replace(false) {
            return Woken::TimedOut;
        }
        worker.disarm(fiber);
    }
    if CANCELLABLE && fiber.must_end() { Woken::Cancelled } else { Woken::Signal }
}

/// Lets every other ready fiber of the worker run once.
#[inline(always)]
pub(crate) fn yield_now() {
    // SAFETY: the references end with this function.
    let Some((worker, fiber)) = (unsafe { Worker::current_fiber() }) else {
        return std::thread::yield_now();
    };
    if std::thread::panicking() {
        return;
    }
    if fiber.attention.is_needed() {
        return yield_attentively(worker, fiber);
    }
    switch(fiber, Suspend::Yield);
    if fiber.attention.is_needed() {
        may_yield(worker, fiber);
    }
}

/// As [`yield_now`], for a fiber that is cancelled, in the scope of a deadline, held, in a span, or of low priority.
#[cold]
fn yield_attentively(worker: &Worker, fiber: &Header) {
    if may_yield(worker, fiber) {
        yield_by_priority(worker, fiber);
        may_yield(worker, fiber);
    }
}

/// Gives way to others: to all that are ready, or, at low priority, to all that will be.
fn yield_by_priority(worker: &Worker, fiber: &Header) {
    if fiber.attention.is_low() && worker.queue_low(fiber) {
        fiber.label.set("its turn, at low priority");
        fiber.since.set(worker.last_look());
        // It is in a queue already: no signal may put it into another one.
        fiber.mask.set(Signals::NONE);
        switch_with_extras(fiber, Suspend::Park);
    } else {
        switch_with_extras(fiber, Suspend::Yield);
    }
}

/// Unwinds a fiber that is to end. False: it keeps its worker.
#[cold]
fn may_yield(worker: &Worker, fiber: &Header) -> bool {
    if fiber.attention.is_held() {
        return false;
    }
    let is_over = || {
        fiber.extras.get().and_then(|extras| extras.limit()).is_some_and(|limit| limit <= worker.now_nanos())
    };
    if fiber.must_end() || is_over() {
        super::cancel::unwind();
    }
    true
}

impl Worker {
    /// Delivers signals to a fiber of this worker: wakes it if it waits for one of them, else keeps them as tokens.
    #[inline(always)]
    pub(crate) fn deliver(&self, fiber: NonNull<Header>, signals: Signals) {
        // SAFETY: the caller holds a reference, and the fiber is of this worker and this thread.
        let header = unsafe { fiber.as_ref() };
        match header.phase.get() {
            Phase::Parked if signals.intersects(header.mask.get()) => {
                let rest = signals.without(header.mask.get());
                header.tokens.set(header.tokens.get().union(rest));
                header.phase.set(Phase::Ready);
                self.counters().wakes.add(1);
                self.push_by_hint(fiber);
            }
            Phase::Done => {}
            Phase::Parked | Phase::Ready | Phase::Running | Phase::Unstarted => {
                header.tokens.set(header.tokens.get().union(signals));
            }
        }
    }

    /// The fiber's timer has fired.
    pub(crate) fn expire(&self, fiber: NonNull<Header>) {
        // SAFETY: an armed timer belongs to a live fiber of this worker.
        let header = unsafe { fiber.as_ref() };
        match header.phase.get() {
            Phase::Parked => {
                header.timed_out.set(true);
                header.phase.set(Phase::Ready);
                self.push_by_hint(fiber);
            }
            // In `block_thread`.
            Phase::Running => header.timed_out.set(true),
            // Woken by a signal before the timer fired, and not yet resumed.
            Phase::Ready | Phase::Unstarted | Phase::Done => {}
        }
    }
}

/// Operations that a fiber may complete without waiting before it gives way: a connection that always has data must not
/// keep others from being served.
pub(crate) const COURTESY: u32 = 64;

/// An operation that could have waited did not have to. One in [`COURTESY`] of those gives way, if it is `willing`.
/// Does not unwind, so a hook may call it.
#[inline]
pub(crate) fn courtesy(willing: impl FnOnce() -> bool) {
    let due = Worker::with_current_fiber(|worker, _| worker.spend_courtesy());
    if due == Some(true) && willing() {
        yield_uncancelled();
    }
}

/// As [`yield_now`], for a fiber that must not end yet although it is cancelled.
pub(crate) fn yield_uncancelled() {
    let in_fiber = Worker::with_current_fiber(|worker, fiber| {
        if !fiber.attention.is_held() && !std::thread::panicking() {
            yield_by_priority(worker, fiber);
        }
    });
    if in_fiber.is_none() {
        std::thread::yield_now();
    }
}
