//! The arm of whatever keeps its waiters in a [`WaitList`]: channels, notifications, watched values.

use std::cell::Cell;

use super::arm::Caller;
use super::{Operation, Selectable};
use crate::sync::Spin;
use crate::sync::seat::{Left, Seat};
use crate::sync::wait::{WaitList, Wakes};

/// An operation that waits in a list: how to look, and what to do with a notification that is not used.
pub(in crate::sync) trait Queued {
    /// What the lock guards.
    type State;
    /// What a waiter brings along; the waker may change it.
    type Payload: Default;
    /// What is found under the lock.
    type Found;
    /// What comes of the operation.
    type Outcome;

    /// The lock.
    fn lock(&self) -> &Spin<Self::State>;

    /// The list.
    fn list<'s>(&self, state: &'s mut Self::State) -> &'s mut WaitList<Self::Payload>;

    /// Does the operation if it can be done. `held` is the payload of a notification that has arrived.
    fn look(
        &self,
        state: &mut Self::State,
        held: Option<Self::Payload>,
        wakes: &mut Wakes,
    ) -> Look<Self::Found, Self::Payload>;

    /// The notification will not be used.
    fn pass_on(&self, state: &mut Self::State, held: Self::Payload, wakes: &mut Wakes);

    /// The rest of the operation, outside the lock.
    fn finish(found: Self::Found) -> Self::Outcome;
}

/// What [`Queued::look`] finds.
pub(in crate::sync) enum Look<R, P> {
    /// It is done.
    Done(R),
    /// Wait, behind everybody else.
    Back(P),
    /// Wait, before everybody else: the operation was notified and came too late.
    Front(P),
}

/// The arm for a [`Queued`] operation.
pub(in crate::sync) struct ListArm<Q: Queued> {
    operation: Q,
    seat: Seat<Q::Payload>,
    found: Cell<Option<Q::Found>>,
}

impl<Q: Queued> ListArm<Q> {
    pub(in crate::sync) fn new(operation: Q) -> Self {
        Self { operation, seat: Seat::new(), found: Cell::new(None) }
    }

    /// Looks, and sits down if there is somebody to be woken.
    ///
    /// # Safety
    /// With somebody: as for [`super::Arm::enter`].
    unsafe fn look(&self, who: Option<&Caller>) -> bool {
        let mut wakes = Wakes::new();
        let found = self.operation.lock().lock(|state| {
            let held = match self.seat.leave(self.operation.list(state)) {
                Some(Left::Notified(held)) => Some(held),
                Some(Left::Unnoticed) | None => None,
            };
            let (payload, at_front) = match self.operation.look(state, held, &mut wakes) {
                Look::Done(found) => return Some(found),
                Look::Back(payload) => (payload, false),
                Look::Front(payload) => (payload, true),
            };
            if let Some(who) = who {
                // SAFETY: the caller's promise; `leave` below is called with this list and under this lock.
                unsafe { self.seat.sit(self.operation.list(state), &who.0, payload, at_front) };
            }
            None
        });
        wakes.wake();
        let done = found.is_some();
        self.found.set(found);
        done
    }
}

impl<Q: Queued> super::Arm for ListArm<Q> {
    fn attempt(&self) -> bool {
        // SAFETY: nobody is to be woken.
        unsafe { self.look(None) }
    }

    unsafe fn enter(&self, who: &Caller) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.look(Some(who)) }
    }

    fn is_woken(&self) -> bool {
        self.seat.is_notified()
    }

    fn leave(&self) {
        if !self.seat.is_taken() {
            return;
        }
        let mut wakes = Wakes::new();
        self.operation.lock().lock(|state| {
            if let Some(Left::Notified(held)) = self.seat.leave(self.operation.list(state)) {
                self.operation.pass_on(state, held, &mut wakes);
            }
        });
        wakes.wake();
    }
}

impl<Q: Queued> Selectable for ListArm<Q> {}

impl<Q: Queued> Operation for ListArm<Q> {
    type Outcome = Q::Outcome;

    fn into_outcome(self) -> Q::Outcome {
        Q::finish(self.found.into_inner().expect("only an operation that was chosen has an outcome"))
    }
}
