//! Fibers with a hint of priority: where they queue when they become ready.
//!
//! The queue of ready fibers is first come, first served. A fiber without extras has no hint, so all that hints cost the
//! others is one comparison of a pointer in a cache line that is at hand.
//!
//! - A fiber of high priority goes to the *front* of the queue when it is spawned and when it is woken, at most
//!   [`FRONT_SHARE`] times in [`WINDOW`] resumes of the worker; beyond that, and when it yields, it goes to the end like
//!   everybody else.
//! - A fiber of low priority waits in a queue of its own, which is served when the worker finds nothing else, neither of
//!   its own nor to steal; and once in [`WINDOW`] resumes however busy the worker is.

use std::cell::Cell;
use std::ptr::NonNull;

use super::ready::ReadyQueue;
use super::worker::Worker;
use crate::fiber::Priority;
use crate::fiber::header::{Header, Phase};

/// Resumes in which high priority has its share, and low priority its one turn.
const WINDOW: u64 = 64;
/// How many of those may go to fibers that were put in front of others.
const FRONT_SHARE: u32 = 16;

/// What a worker remembers for fibers with hints.
pub(super) struct Hints {
    /// Owns the runtime's reference to each of its fibers, as the ready queue does. They may be un-started.
    low: ReadyQueue,
    /// The count of resumes when the current window began, and how many were put in front in it.
    window: Cell<u64>,
    in_front: Cell<u32>,
    /// The count of resumes when a fiber of low priority last had its turn.
    low_turn: Cell<u64>,
}

impl Hints {
    pub(super) fn new() -> Self {
        Hints { low: ReadyQueue::new(), window: Cell::new(0), in_front: Cell::new(0), low_turn: Cell::new(0) }
    }

    /// Fibers of low priority that wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.low.len()
    }

    /// The fiber of low priority `ahead` places from the front.
    pub(super) fn peek(&self, ahead: usize) -> Option<NonNull<Header>> {
        self.low.peek(ahead)
    }

    /// Whether one more fiber may be put in front.
    fn may_go_first(&self, resumes: u64) -> bool {
        if resumes.wrapping_sub(self.window.get()) >= WINDOW {
            self.window.set(resumes);
            self.in_front.set(0);
        }
        let count = self.in_front.get();
        self.in_front.set(count.saturating_add(1));
        count < FRONT_SHARE
    }
}

impl Worker {
    /// Queues a fiber that has become ready or is to start, by its hint. A simulation knows no hints: its order is the seed's.
    #[cold]
    pub(crate) fn push_hinted(&self, fiber: NonNull<Header>) {
        // SAFETY: the caller hands over the runtime's reference.
        let header = unsafe { fiber.as_ref() };
        match header.priority() {
            Priority::Low if self.sim().is_none() => self.hints.low.push(fiber),
            Priority::High if self.sim().is_none() && self.hints.may_go_first(self.resumes()) => {
                self.ready.push_front(fiber);
            }
            _ if header.phase.get() == Phase::Unstarted && self.sim().is_none() => self.young.push(fiber),
            Priority::High | Priority::Normal | Priority::Low => self.push_ready(fiber),
        }
    }

    /// The running fiber, of low priority, is about to yield: it will wait in its own queue. The caller parks it, with no
    /// signal to wake it by. False: it yields like others.
    #[cold]
    pub(crate) fn queue_low(&self, fiber: &Header) -> bool {
        debug_assert!(std::ptr::eq(self.current.get(), fiber), "a fiber yields for itself");
        let low = fiber.priority() == Priority::Low && self.sim().is_none();
        if low && let Some(fiber) = NonNull::new(self.current.get().cast_mut()) {
            self.hints.low.push(fiber);
        }
        low
    }

    /// A fiber of low priority is about to start although others are ready: it waits for its turn. False: it may start.
    #[cold]
    pub(super) fn defer_start(&self, fiber: NonNull<Header>) -> bool {
        // SAFETY: as in `push_hinted`.
        let header = unsafe { fiber.as_ref() };
        let others = !self.ready_is_empty() || !self.fresh.is_empty();
        let deferred = others && self.sim().is_none() && header.defer_once();
        if deferred {
            self.hints.low.push(fiber);
        }
        deferred
    }

    /// The worker has run out of other fibers: looks for some elsewhere, and if there are none, gives one of low
    /// priority its turn. False: there is none either.
    #[cold]
    pub(super) fn serve_low(&self) -> bool {
        self.read_mail();
        if !self.ready_is_empty() || !self.fresh.is_empty() {
            return true;
        }
        if !self.alone && self.shared().has_fresh() && self.shared().begin_search() && self.search() {
            return true;
        }
        self.take_low()
    }

    /// Whether a fiber of low priority is ready.
    pub(super) fn has_low(&self) -> bool {
        self.hints.waiting() > 0
    }

    /// The worker is busy: gives a fiber of low priority its turn if none had one for long.
    pub(super) fn serve_low_sometimes(&self) {
        if self.has_low() && self.resumes().wrapping_sub(self.hints.low_turn.get()) >= WINDOW {
            self.take_low();
        }
    }

    fn take_low(&self) -> bool {
        let Some(fiber) = self.hints.low.pop() else { return false };
        self.hints.low_turn.set(self.resumes());
        // SAFETY: as in `push_hinted`.
        unsafe { fiber.as_ref() }.defer_once();
        self.push_ready(fiber);
        true
    }

    fn resumes(&self) -> u64 {
        self.counters().switches.get()
    }
}
