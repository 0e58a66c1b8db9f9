//! Figures that a worker publishes now and then: how many fibers are ready or wait, and how long a run takes.
//!
//! What changes with every switch is counted there. What is only a state is read off when the worker looks around, and
//! runs are timed one in many, so that neither costs a switch anything.

use super::random::thread_random;
use super::worker::Worker;

/// One look around or sleep in so many, on average, is followed by a run that is timed. Which one is left to chance: a
/// worker may do the same thing every sixteen looks.
const SAMPLE_SHARE: u32 = 16;

impl Worker {
    /// Publishes what waits, what is ready and what is kept. Called between two resumes.
    pub(super) fn publish(&self) {
        let counters = self.counters();
        let low = self.hints.waiting();
        counters.ready.set((self.ready.len() + self.young.len() + self.fresh.len() + low) as u64);
        let runnable = self.ready.len() + self.young.patient() + low;
        counters.runnable.set(runnable as u64);
        counters.parked.set(self.alive.borrow().len().saturating_sub(runnable) as u64);
        counters.pending_timers.set(self.timers.borrow().armed() as u64);
        counters.stacks.set(self.stacks.borrow().len() as u64);
    }

    /// Whether the next run is to be timed. Asked after each look around.
    pub(super) fn is_sample_due(&self) -> bool {
        if self.count_down() > 0 {
            return false;
        }
        self.sample_in.set(thread_random() as u32 % (2 * SAMPLE_SHARE));
        // Virtual time stands still during a run.
        self.sim().is_none()
    }

    /// How many resumes the worker makes after a sleep before it looks around. One that sleeps often does not get to a
    /// look for long; so that its runs are timed as well, some sleeps are followed by one at once.
    pub(super) fn budget_after_sleep(&self) -> u32 {
        if self.count_down() > 0 { self.interval.get() } else { 0 }
    }

    /// Looks and sleeps left, this one included.
    fn count_down(&self) -> u32 {
        let left = self.sample_in.get();
        self.sample_in.set(left.saturating_sub(1));
        left
    }
}
