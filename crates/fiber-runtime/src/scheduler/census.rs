//! Going through a worker's fibers, for those who count or describe them.
//!
//! The table of started fibers changes only on the worker's own stack, between two resumes (`Worker::start`,
//! `Worker::end`). So it may be read from everything that runs on the worker's thread, a signal handler that
//! interrupted a fiber included; that is how a dump sees the fibers of a worker that does not answer.

use std::ptr::NonNull;

use super::worker::Worker;
use crate::fiber::header::{Header, Phase, Unstarted};

impl Worker {
    /// Calls `each` on the started fibers, in the order of the table, beginning at place `from`; returns the place to go
    /// on from when `each` returned false, `None` when the table is through. Takes no lock and allocates nothing.
    pub(crate) fn for_each_started(&self, from: u32, mut each: impl FnMut(&Header) -> bool) -> Option<u32> {
        // Borrowed by somebody who is changing it: cannot be (see the module), so nothing is lost by giving up.
        let alive = self.alive.try_borrow().ok()?;
        for place in from as usize..alive.capacity() {
            if let Some(fiber) = alive.get(place) {
                // SAFETY: a fiber in the table has not ended; the runtime's reference keeps it, and nothing ends while
                // this function runs.
                if !each(unsafe { fiber.as_ref() }) {
                    return Some(place as u32);
                }
            }
        }
        None
    }

    /// Calls `each` on the fibers that have not started and wait for this worker, at most `limit` of them. Called
    /// between two resumes.
    pub(crate) fn for_each_unstarted(&self, limit: usize, mut each: impl FnMut(&Header)) {
        let look = |fiber: NonNull<Header>, each: &mut dyn FnMut(&Header)| {
            // SAFETY: a queue owns a reference to each of its fibers, and so does this function to those it has taken.
            let fiber = unsafe { fiber.as_ref() };
            if fiber.phase.get() == Phase::Unstarted {
                each(fiber);
            }
        };
        (0..self.ready.len().min(limit))
            .filter_map(|ahead| self.ready.peek(ahead))
            .for_each(|fiber| look(fiber, &mut each));
        self.young.for_each(limit, |fiber| look(fiber, &mut each));
        (0..self.hints.waiting().min(limit))
            .filter_map(|ahead| self.hints.peek(ahead))
            .for_each(|fiber| look(fiber, &mut each));
        // A deque cannot be looked into. What comes off its end goes back there in the same order, and a thief that comes
        // meanwhile takes from the other end.
        let taken: Vec<Unstarted> =
            std::iter::from_fn(|| self.fresh.pop()).take(self.fresh.len().min(limit)).collect();
        for fiber in taken.into_iter().rev() {
            look(fiber.0, &mut each);
            self.fresh.push(fiber);
        }
    }

    /// The fiber that runs, if one does. For the signal handler.
    pub(crate) fn running_fiber(&self) -> Option<NonNull<Header>> {
        NonNull::new(self.current.get().cast_mut())
    }
}
