//! The arm that becomes ready when a fiber has ended.

use std::cell::Cell;

use super::arm::Caller;
use super::{Operation, Selectable};
use crate::JoinHandle;

struct Finished<'a, T> {
    /// Borrowed alone: one at a time may wait for a fiber's end.
    handle: &'a mut JoinHandle<T>,
    enrolled: Cell<bool>,
}

impl<T> JoinHandle<T> {
    /// The fiber's end, for [`select!`](crate::select!): ready when [`JoinHandle::join`] would not wait.
    pub fn finished_arm(&mut self) -> impl Operation<Outcome = ()> {
        Finished { handle: self, enrolled: Cell::new(false) }
    }
}

impl<T> super::Arm for Finished<'_, T> {
    fn attempt(&self) -> bool {
        self.handle.is_finished()
    }

    unsafe fn enter(&self, who: &Caller) -> bool {
        if self.attempt() || !self.handle.enrol(who.waiter()) {
            return true;
        }
        self.enrolled.set(true);
        false
    }

    fn is_woken(&self) -> bool {
        self.attempt()
    }

    fn leave(&self) {
        if self.enrolled.replace(false) {
            self.handle.withdraw();
        }
    }
}

impl<T> Selectable for Finished<'_, T> {}

impl<T> Operation for Finished<'_, T> {
    type Outcome = ();

    fn into_outcome(self) {}
}
