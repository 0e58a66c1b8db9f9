//! Arms that become ready by themselves.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::arm::Caller;
use super::{Operation, Selectable};
use crate::time;

/// See [`after`] and [`at`].
struct Timer {
    due: Cell<Due>,
}

#[derive(Clone, Copy)]
enum Due {
    /// This long after the first look.
    After(Duration),
    At(Instant),
    /// At a time that the clock cannot express.
    Never,
}

/// Ready `duration` after it is first waited for.
pub fn after(duration: Duration) -> impl Operation<Outcome = ()> {
    // The clock is read by the first look: one read, not two.
    Timer { due: Cell::new(Due::After(duration)) }
}

/// Ready at `deadline` of [`crate::time::now`].
pub fn at(deadline: Instant) -> impl Operation<Outcome = ()> {
    Timer { due: Cell::new(Due::At(deadline)) }
}

impl super::Arm for Timer {
    fn attempt(&self) -> bool {
        match self.due.get() {
            Due::After(duration) => {
                self.due.set(time::now().checked_add(duration).map_or(Due::Never, Due::At));
                duration.is_zero()
            }
            Due::At(deadline) => deadline <= time::now(),
            Due::Never => false,
        }
    }

    unsafe fn enter(&self, _who: &Caller) -> bool {
        // `attempt` has just looked, and the caller sleeps no longer than until `deadline`.
        false
    }

    fn is_woken(&self) -> bool {
        false
    }

    fn leave(&self) {}

    fn deadline(&self) -> Option<Instant> {
        match self.due.get() {
            Due::At(deadline) => Some(deadline),
            Due::After(_) | Due::Never => None,
        }
    }
}

impl Selectable for Timer {}

impl Operation for Timer {
    type Outcome = ();

    fn into_outcome(self) {}
}
