//! One value, once: the reply to a request.
//!
//! ```
//! use fiber_runtime::sync::oneshot;
//!
//! let (sender, receiver) = oneshot::channel();
//! std::thread::spawn(move || sender.send(42));
//! assert_eq!(receiver.recv(), Ok(42));
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::Spin;
use super::channel::{RecvError, RecvTimeoutError, TryRecvError};
use super::select::{ListArm, Look, Operation, Queued};
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

/// A channel for one value. Its two ends share one allocation.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { value: None, sender_gone: false, receiver_gone: false, waiters: WaitList::new() };
    let shared = Arc::new(Spin::new(state));
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// The end that sends the value.
pub struct Sender<T> {
    shared: Arc<Spin<State<T>>>,
}

/// The end that waits for the value.
pub struct Receiver<T> {
    shared: Arc<Spin<State<T>>>,
}

struct State<T> {
    value: Option<T>,
    sender_gone: bool,
    receiver_gone: bool,
    /// Whoever borrows the receiver may wait.
    waiters: WaitList<()>,
}

impl<T> State<T> {
    /// What there is for a receiver; `None` if it has to wait.
    fn look(&mut self) -> Option<Result<T, RecvError>> {
        match self.value.take() {
            Some(value) => Some(Ok(value)),
            None => self.sender_gone.then_some(Err(RecvError)),
        }
    }
}

impl<T> Sender<T> {
    /// Sends the value. It never waits.
    ///
    /// # Errors
    /// The receiver is gone; the value comes back.
    pub fn send(self, value: T) -> Result<(), T> {
        // The receiver is woken when `self` drops.
        self.shared.lock(|state| {
            if state.receiver_gone {
                return Err(value);
            }
            state.value = Some(value);
            Ok(())
        })
    }

    /// True once the receiver is gone: nobody waits for the answer.
    pub fn is_closed(&self) -> bool {
        self.shared.lock(|state| state.receiver_gone)
    }
}

impl<T> Receiver<T> {
    /// Waits for the value.
    ///
    /// # Errors
    /// The sender is gone without having sent it.
    pub fn recv(self) -> Result<T, RecvError> {
        self.recv_deadline(None).map_err(|_| RecvError)
    }

    /// Waits for the value until `deadline`. After a timeout the receiver can go on waiting.
    ///
    /// # Errors
    /// The sender is gone without having sent it, or it came too late, or it was taken before.
    pub fn recv_until(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_deadline(Some(deadline))
    }

    /// Takes the value if it is there.
    ///
    /// # Errors
    /// It is not there yet, or never will be.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match self.shared.lock(State::look) {
            Some(found) => found.map_err(|RecvError| TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// The value, for [`select!`](crate::select!): ready as [`Receiver::recv`] would be.
    pub fn recv_arm(&self) -> impl Operation<Outcome = Result<T, RecvError>> {
        ListArm::new(Receive { receiver: self })
    }

    fn recv_deadline(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        loop {
            let waited = wait(
                (&self.shared, |state| &mut state.waiters),
                "oneshot",
                (),
                deadline,
                |state, ()| state.look().map_or(Enter::Back, Enter::Ready),
                || {},
                |_, _, (), _| {},
            );
            match waited {
                Waited::Ready(found) => return found.map_err(|RecvError| RecvTimeoutError::Closed),
                Waited::Notified(()) => {}
                Waited::TimedOut(()) => return Err(RecvTimeoutError::Timeout),
            }
        }
    }
}

struct Receive<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Queued for Receive<'_, T> {
    type State = State<T>;
    type Payload = ();
    type Found = Result<T, RecvError>;
    type Outcome = Result<T, RecvError>;

    fn lock(&self) -> &Spin<State<T>> {
        &self.receiver.shared
    }

    fn list<'s>(&self, state: &'s mut State<T>) -> &'s mut WaitList<()> {
        &mut state.waiters
    }

    fn look(&self, state: &mut State<T>, _held: Option<()>, _wakes: &mut Wakes) -> Look<Self::Found, ()> {
        state.look().map_or(Look::Back(()), Look::Done)
    }

    fn pass_on(&self, _state: &mut State<T>, (): (), _wakes: &mut Wakes) {
        // Everybody was notified.
    }

    fn finish(found: Self::Found) -> Self::Outcome {
        found
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        self.shared.lock(|state| {
            state.sender_gone = true;
            state.waiters.notify_all(&mut wakes);
        });
        wakes.wake();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // What was sent and not taken is dropped outside the lock.
        drop(self.shared.lock(|state| {
            state.receiver_gone = true;
            state.value.take()
        }));
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
