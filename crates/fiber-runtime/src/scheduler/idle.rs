//! What a worker does when it has nothing to run: read its mail, steal, sleep.

use super::port::State;
use super::random::thread_random;
use super::worker::Worker;
use crate::fiber::header::{Header, Phase};
use crate::primitive::deque::Steal;

/// How often a thief goes round before it gives up.
const STEAL_ROUNDS: usize = 2;

impl Worker {
    /// Finds work or sleeps until there may be some. `until` is looked at once more before sleeping.
    pub(super) fn idle(&self, until: &dyn Fn(&Worker) -> bool) {
        if let Some(sim) = self.sim() {
            if self.shared().is_cancelling() {
                self.sweep();
            }
            self.idle_simulated(sim);
            return;
        }
        self.read_mail();
        if self.shared().is_cancelling() {
            self.sweep();
        }
        self.publish();
        if !self.ready_is_empty() || !self.fresh.is_empty() || self.has_low() {
            return;
        }
        if !self.alone && self.shared().begin_search() && self.search() {
            return;
        }
        // Memory that nobody needs at the moment goes back to the kernel, a few stacks at a time.
        if self.trim_stacks() {
            return;
        }
        self.sleep(until);
    }

    /// Steals un-started fibers. The caller is counted as a searcher; it no longer is when this returns. True: found.
    pub(super) fn search(&self) -> bool {
        self.port().set_state(State::Searching);
        let found = self.steal();
        self.port().set_state(State::Running);
        // The last searcher to find work wakes the next: there may be more.
        if self.shared().end_search() && found {
            self.shared().wake_searcher();
        }
        found
    }

    fn steal(&self) -> bool {
        let count = self.shared().ports().len();
        for _ in 0..STEAL_ROUNDS {
            let start = thread_random() as usize % count;
            let mut again = false;
            for at in 0..count {
                let victim = (start + at) % count;
                if victim == self.index() {
                    continue;
                }
                let before = self.fresh.len();
                match self.shared().steal(victim, &self.fresh) {
                    Steal::Success(fiber) => {
                        self.counters().stolen.add((self.fresh.len() - before) as u64 + 1);
                        self.push_ready(fiber.0);
                        return true;
                    }
                    Steal::Retry => again = true,
                    Steal::Empty => {}
                }
            }
            if !again {
                break;
            }
        }
        false
    }

    /// Sleeps in the kernel until an event, a timer or a wake.
    fn sleep(&self, until: &dyn Fn(&Worker) -> bool) {
        let shared = self.shared();
        #[cfg(all(test, not(fiber_model)))]
        tests::before_park();
        shared.add_idle();
        self.port().park();
        let work = self.port().has_mail()
            || until(self)
            || (shared.is_cancelling() && !self.swept.get())
            || shared.has_fresh();
        let mut now = self.now_nanos();
        let deadline = self.next_timer.get().min(self.alarm.replace(u64::MAX));
        if !work && deadline > now {
            self.counters().sleeps.add(1);
            self.poll(true, now, Some(deadline).filter(|&deadline| deadline != u64::MAX));
            now = self.now_nanos();
        }
        let how = self.port().unpark();
        shared.remove_idle();
        self.last_poll.set(now);
        self.last_look.set(now);
        self.budget.set(self.budget_after_sleep());
        self.fire_timers(now);
        self.read_mail();
        if how == State::NotifiedToSearch {
            // Counted as a searcher by the waker.
            self.search();
        } else if work && !self.alone && self.ready_is_empty() && shared.begin_search() {
            self.search();
        }
    }

    /// Blocks the thread, fiber and all, until a signal of the fiber's mask is delivered or its timer fires. Events,
    /// timers and mail are served meanwhile, but no other fiber runs.
    pub(crate) fn block_thread(&self, fiber: &Header) {
        debug_assert_eq!(fiber.phase.get(), Phase::Running);
        if let Some(sim) = self.sim() {
            sim.blocked_while_panicking(self, fiber);
            return;
        }
        loop {
            let wanted = fiber.mask.get();
            let tokens = fiber.tokens.get();
            if tokens.intersects(wanted) {
                fiber.tokens.set(tokens.without(wanted));
                return;
            }
            if fiber.timed_out.get() {
                return;
            }
            self.port().park();
            let now = self.now_nanos();
            if !self.port().has_mail() && self.next_timer.get() > now {
                let deadline = Some(self.next_timer.get()).filter(|&deadline| deadline != u64::MAX);
                self.poll(true, now, deadline);
            }
            // A searcher woken here cannot search: somebody else must.
            if self.port().unpark() == State::NotifiedToSearch && self.shared().end_search() {
                self.shared().wake_searcher();
            }
            self.fire_timers(self.now_nanos());
            self.read_mail();
        }
    }
}

#[cfg(test)]
#[cfg(not(fiber_model))]
#[path = "idle/tests.rs"]
mod tests;
