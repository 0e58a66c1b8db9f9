//! A channel's operations as arms of `select!`, and room that is kept for a value to come.

use std::fmt;
use std::mem::ManuallyDrop;
use std::time::Instant;

use super::state::{Offer, State, Turn, Want};
use super::{Receiver, RecvError, SendError, SendTimeoutError, Sender, TrySendError};
use crate::sync::Spin;
use crate::sync::select::{self, ListArm, Look, Operation, Order, Queued};
use crate::sync::wait::{WaitList, Wakes};

impl<T> Receiver<T> {
    /// The next value, for [`select!`](crate::select!): ready as [`Receiver::recv`] would be.
    pub fn recv_arm(&self) -> impl Operation<Outcome = Result<T, RecvError>> {
        ListArm::new(Receive { receiver: self })
    }
}

impl<T> Sender<T> {
    /// Room for a value, for [`select!`](crate::select!): ready as [`Sender::send`] would be.
    pub fn reserve_arm(&self) -> impl Operation<Outcome = Result<Room<'_, T>, SendError<()>>> {
        ListArm::new(Reserve { sender: self })
    }

    /// Waits until there is room and keeps it for one value.
    ///
    /// # Errors
    /// The receivers are gone.
    pub fn reserve(&self) -> Result<Room<'_, T>, SendError<()>> {
        let mut arm = self.reserve_arm();
        select::first(Order::Biased, &mut [&mut arm]);
        arm.into_outcome()
    }

    /// As [`Sender::reserve`], at most until `deadline`.
    ///
    /// # Errors
    /// The receivers are gone or there was no room in time.
    pub fn reserve_until(&self, deadline: Instant) -> Result<Room<'_, T>, SendTimeoutError<()>> {
        let mut arm = self.reserve_arm();
        match select::first_until(Order::Biased, &mut [&mut arm], deadline) {
            Some(_) => arm.into_outcome().map_err(|SendError(())| SendTimeoutError::Closed(())),
            None => Err(SendTimeoutError::Timeout(())),
        }
    }

    /// Keeps room for one value if there is any now.
    ///
    /// # Errors
    /// There is no room or no receiver.
    pub fn try_reserve(&self) -> Result<Room<'_, T>, TrySendError<()>> {
        let mut arm = self.reserve_arm();
        match select::first_now(Order::Biased, &mut [&mut arm]) {
            Some(_) => arm.into_outcome().map_err(|SendError(())| TrySendError::Closed(())),
            None => Err(TrySendError::Full(())),
        }
    }
}

/// Room in a channel that is kept for one value, and given back if none comes.
#[must_use = "the room is given back at once if this is not kept"]
pub struct Room<'a, T> {
    sender: &'a Sender<T>,
}

impl<T> Room<'_, T> {
    /// Sends the value without waiting.
    ///
    /// # Errors
    /// The receivers are gone meanwhile.
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        // The value takes the room, so that nothing is left to give back.
        let room = ManuallyDrop::new(self);
        let mut wakes = Wakes::new();
        let sent = room.sender.shared.lock(|state| {
            state.granted -= 1;
            if state.closed {
                return Err(SendError(value));
            }
            wakes.push(state.put(value));
            // A value that was handed to a receiver took no room.
            state.admit(&mut wakes);
            Ok(())
        });
        wakes.wake();
        sent
    }
}

impl<T> Drop for Room<'_, T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        self.sender.shared.lock(|state| {
            state.granted -= 1;
            state.admit(&mut wakes);
        });
        wakes.wake();
    }
}

impl<T> fmt::Debug for Room<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

struct Receive<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Queued for Receive<'_, T> {
    type State = State<T>;
    type Payload = Want<T>;
    type Found = Result<T, RecvError>;
    type Outcome = Result<T, RecvError>;

    fn lock(&self) -> &Spin<State<T>> {
        &self.receiver.shared
    }

    fn list<'s>(&self, state: &'s mut State<T>) -> &'s mut WaitList<Want<T>> {
        &mut state.receiving
    }

    fn look(
        &self,
        state: &mut State<T>,
        held: Option<Want<T>>,
        wakes: &mut Wakes,
    ) -> Look<Self::Found, Want<T>> {
        let was_told = held.is_some();
        if let Some(Want::News(Turn { promised: true, .. })) = held {
            state.promised -= 1;
        }
        let mut received = None;
        if state.available() > 0 {
            state.take(1, wakes, |value| received = Some(value));
        }
        match received {
            Some(value) => Look::Done(Ok(value)),
            None if state.is_drained() => Look::Done(Err(RecvError)),
            None if was_told => Look::Front(Want::News(Turn { passed_over: true, promised: false })),
            None => Look::Back(Want::default()),
        }
    }

    fn pass_on(&self, state: &mut State<T>, mut held: Want<T>, wakes: &mut Wakes) {
        state.pass_on(&mut held, wakes);
    }

    fn finish(found: Self::Found) -> Self::Outcome {
        found
    }
}

struct Reserve<'a, T> {
    sender: &'a Sender<T>,
}

impl<'a, T> Queued for Reserve<'a, T> {
    type State = State<T>;
    type Payload = Offer<T>;
    type Found = Result<Room<'a, T>, SendError<()>>;
    type Outcome = Result<Room<'a, T>, SendError<()>>;

    fn lock(&self) -> &Spin<State<T>> {
        &self.sender.shared
    }

    fn list<'s>(&self, state: &'s mut State<T>) -> &'s mut WaitList<Offer<T>> {
        &mut state.sending
    }

    fn look(
        &self,
        state: &mut State<T>,
        held: Option<Offer<T>>,
        wakes: &mut Wakes,
    ) -> Look<Self::Found, Offer<T>> {
        let accepted = matches!(held, Some(Offer::Accepted));
        if state.closed {
            if accepted {
                self.pass_on(state, Offer::Accepted, wakes);
            }
            return Look::Done(Err(SendError(())));
        }
        if !accepted {
            if state.is_full() {
                return Look::Back(Offer::Room);
            }
            state.granted += 1;
        }
        Look::Done(Ok(Room { sender: self.sender }))
    }

    fn pass_on(&self, state: &mut State<T>, held: Offer<T>, wakes: &mut Wakes) {
        if let Offer::Accepted = held {
            state.granted -= 1;
            state.admit(wakes);
        }
    }

    fn finish(found: Self::Found) -> Self::Outcome {
        found
    }
}
