//! Arms that become ready by themselves.

use std::time::{Duration, Instant};

use super::arm::Caller;
use super::{Operation, Selectable};
use crate::time;

/// See [`at`].
struct Timer {
    /// `None` for a time that never comes.
    deadline: Option<Instant>,
}

/// Ready `duration` from now.
pub fn after(duration: Duration) -> impl Operation<Outcome = ()> {
    // A time that the clock cannot express never comes.
    Timer { deadline: time::now().checked_add(duration) }
}

/// Ready at `deadline` of [`crate::time::now`].
pub fn at(deadline: Instant) -> impl Operation<Outcome = ()> {
    Timer { deadline: Some(deadline) }
}

impl super::Arm for Timer {
    fn attempt(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= time::now())
    }

    unsafe fn enter(&self, _who: &Caller) -> bool {
        self.attempt()
    }

    fn is_woken(&self) -> bool {
        false
    }

    fn leave(&self) {}

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl Selectable for Timer {}

impl Operation for Timer {
    type Outcome = ();

    fn into_outcome(self) {}
}
