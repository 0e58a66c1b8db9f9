//! Going through a worker's fibers, for those who count or describe them.
//!
//! The table of started fibers changes only on the worker's own stack, between two resumes (`Worker::start`,
//! `Worker::end`). So it may be read from everything that runs on the worker's thread, a signal handler that
//! interrupted a fiber included; that is how a dump sees the fibers of a worker that does not answer.

use std::ptr::NonNull;

use super::worker::Worker;
use crate::fiber::header::{Header, Phase};

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
        for ahead in 0..self.ready.len().min(limit) {
            if let Some(fiber) = self.ready.peek(ahead) {
                // SAFETY: the queue owns a reference to each of its fibers.
                let fiber = unsafe { fiber.as_ref() };
                if fiber.phase.get() == Phase::Unstarted {
                    each(fiber);
                }
            }
        }
        // A deque cannot be looked into. It is first in, first out: taking each and putting it back keeps the order,
        // and a thief that comes meanwhile finds what it would have found.
        for _ in 0..self.fresh.len().min(limit) {
            let Some(fiber) = self.fresh.pop() else { break };
            // SAFETY: the deque's reference, which is ours between the two calls.
            each(unsafe { fiber.0.as_ref() });
            self.fresh.push(fiber);
        }
    }

    /// The fiber that runs, if one does. For the signal handler.
    pub(crate) fn running_fiber(&self) -> Option<NonNull<Header>> {
        NonNull::new(self.current.get().cast_mut())
    }
}
