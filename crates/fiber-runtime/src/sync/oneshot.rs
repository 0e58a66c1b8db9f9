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
use crate::fiber::cancel;
use crate::waiter::{self, Waiter, Woken};

/// A channel for one value. Its two ends share one allocation.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared =
        Arc::new(Spin::new(State { value: None, sender_gone: false, receiver_gone: false, waiting: None }));
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
    /// Whom to wake. It may name somebody who stopped waiting, to whom the wake is a stray one.
    waiting: Option<Waiter>,
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
        self.shared.lock(|state| match state.value.take() {
            Some(value) => Ok(value),
            None if state.sender_gone => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        })
    }

    fn recv_deadline(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let mut timed_out = false;
        loop {
            let before = self.shared.lock(|state| {
                if let Some(value) = state.value.take() {
                    return Ok(Ok(value));
                }
                if state.sender_gone {
                    return Ok(Err(RecvTimeoutError::Closed));
                }
                if timed_out {
                    return Ok(Err(RecvTimeoutError::Timeout));
                }
                Err(state.waiting.replace(Waiter::current()))
            });
            match before {
                Ok(outcome) => return outcome,
                // Dropped outside the lock.
                Err(before) => drop(before),
            }
            match waiter::wait("oneshot", deadline) {
                Woken::Signal => {}
                Woken::TimedOut => timed_out = true,
                Woken::Cancelled => cancel::unwind(),
            }
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waiting = self.shared.lock(|state| {
            state.sender_gone = true;
            state.waiting.take()
        });
        if let Some(who) = waiting {
            who.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // What was sent and not taken is dropped outside the lock.
        drop(self.shared.lock(|state| {
            state.receiver_gone = true;
            (state.value.take(), state.waiting.take())
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
