//! A bounded queue of values from many senders to one receiver.
//!
//! ```
//! use fiber_runtime::sync::channel;
//!
//! let (sender, receiver) = channel::bounded(2);
//! sender.send("one")?;
//! sender.send("two")?;
//! assert!(sender.try_send("three").is_err());
//! drop(sender);
//! let mut all = Vec::new();
//! assert_eq!(receiver.recv_many(&mut all, 16), Ok(2));
//! assert_eq!(receiver.recv(), Err(channel::RecvError));
//! # Ok::<(), channel::SendError<&str>>(())
//! ```
//!
//! A sender that finds the queue full waits with its value, and the receiver that makes room moves the value into the
//! queue itself: nobody can take the room in between, and whole batches flow with one wake-up. Values that were
//! accepted are delivered, in the order in which each sender sent them, even after the last sender is gone. When the
//! receiver goes, what is queued is dropped and senders get their values back.

mod errors;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

pub use errors::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};

/// Room that a new channel takes at once; a larger one grows on demand up to its capacity.
const INITIAL_ROOM: usize = 64;

/// A channel that holds at most `capacity` values.
///
/// # Panics
/// If `capacity` is zero.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for at least one value");
    let state = State {
        queue: VecDeque::with_capacity(capacity.min(INITIAL_ROOM)),
        capacity,
        senders: 1,
        closed: false,
        sending: WaitList::new(),
        receiving: WaitList::new(),
    };
    let shared = Arc::new(Spin::new(state));
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// The sending side. Clones send into the same channel.
pub struct Sender<T> {
    shared: Arc<Spin<State<T>>>,
}

/// The receiving side. It may be shared by reference, though a channel usually has one receiver.
pub struct Receiver<T> {
    shared: Arc<Spin<State<T>>>,
}

/// # Invariants
/// Senders wait only while the queue is full. A waiting sender's payload is its value; whoever takes the value out
/// notifies it, and a sender that is notified with its value still there was refused.
struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    senders: usize,
    /// The receiver is gone or wants no more.
    closed: bool,
    sending: WaitList<Option<T>>,
    receiving: WaitList<()>,
}

impl<T> State<T> {
    fn is_full(&self) -> bool {
        self.queue.len() >= self.capacity
    }

    /// Takes up to `max` values, in order, and lets waiting senders fill the room.
    fn take(&mut self, max: usize, wakes: &mut Wakes, mut out: impl FnMut(T)) -> usize {
        let count = self.queue.len().min(max);
        self.queue.drain(..count).for_each(&mut out);
        while !self.is_full() {
            let Some(value) = self.sending.front() else { break };
            let value = value.take().expect("a waiting sender still has its value");
            self.queue.push_back(value);
            wakes.push(self.sending.notify_front());
        }
        count
    }

    /// After the last value: closed for receivers.
    fn is_drained(&self) -> bool {
        self.queue.is_empty() && (self.senders == 0 || self.closed)
    }
}

impl<T> Sender<T> {
    /// Sends `value`, waiting for room.
    ///
    /// # Errors
    /// The receiver is gone; the value comes back.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_deadline(value, None).map_err(|refused| match refused {
            SendTimeoutError::Closed(value) | SendTimeoutError::Timeout(value) => SendError(value),
        })
    }

    /// Sends `value`, waiting for room until `deadline`.
    ///
    /// # Errors
    /// The receiver is gone or there was no room in time; the value comes back.
    pub fn send_until(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_deadline(value, Some(deadline))
    }

    /// Sends `value` if there is room now.
    ///
    /// # Errors
    /// There is no room or no receiver; the value comes back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let woken = self.shared.lock(|state| {
            if state.closed {
                return Err(TrySendError::Closed(value));
            }
            if state.is_full() {
                return Err(TrySendError::Full(value));
            }
            state.queue.push_back(value);
            Ok(state.receiving.notify_front())
        })?;
        if let Some(who) = woken {
            who.wake();
        }
        Ok(())
    }

    /// True once the receiver is gone or closed: sending is in vain.
    pub fn is_closed(&self) -> bool {
        self.shared.lock(|state| state.closed)
    }

    /// How many values are queued.
    pub fn len(&self) -> usize {
        self.shared.lock(|state| state.queue.len())
    }

    /// True if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.shared.lock(|state| state.capacity)
    }

    fn send_deadline(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let value = match self.try_send(value) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(value)) => return Err(SendTimeoutError::Closed(value)),
            Err(TrySendError::Full(value)) => value,
        };
        let mut woken = None;
        let waited = wait(
            (&self.shared, |state| &mut state.sending),
            "channel: room",
            Some(value),
            deadline,
            |state, value| {
                if state.closed {
                    return Enter::Ready(value.take());
                }
                if state.is_full() {
                    return Enter::Back;
                }
                state.queue.extend(value.take());
                woken = state.receiving.notify_front();
                Enter::Ready(None)
            },
            || {},
            |_, _, _, _| {},
        );
        if let Some(who) = woken {
            who.wake();
        }
        match waited {
            Waited::Ready(None) | Waited::Notified(None) => Ok(()),
            Waited::Ready(Some(value)) | Waited::Notified(Some(value)) => {
                Err(SendTimeoutError::Closed(value))
            }
            Waited::TimedOut(value) => {
                Err(SendTimeoutError::Timeout(value.expect("a sender that timed out still has its value")))
            }
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    /// All senders are gone and everything they sent was received.
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut received = None;
        let received_one = self.recv_deadline(1, None, |value| received = Some(value));
        received_one.map_err(|_| RecvError)?;
        Ok(received.expect("a successful receive has a value"))
    }

    /// Waits for the next value until `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::recv`], or nothing came in time.
    pub fn recv_until(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        let mut received = None;
        self.recv_deadline(1, Some(deadline), |value| received = Some(value))?;
        Ok(received.expect("a successful receive has a value"))
    }

    /// Takes the next value if there is one.
    ///
    /// # Errors
    /// There is none now, or there will never be.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut received = None;
        match self.try_take(1, |value| received = Some(value)) {
            Some(0) => Err(TryRecvError::Closed),
            Some(_) => Ok(received.expect("a successful receive has a value")),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Waits for the first value, then takes what is there, `max` in all, and appends it to `out`. The count is not
    /// zero (unless `max` is).
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn recv_many(&self, out: &mut Vec<T>, max: usize) -> Result<usize, RecvError> {
        self.recv_deadline(max, None, |value| out.push(value)).map_err(|_| RecvError)
    }

    /// As [`Receiver::recv_many`], waiting for the first value until `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::recv_until`].
    pub fn recv_many_until(
        &self,
        out: &mut Vec<T>,
        max: usize,
        deadline: Instant,
    ) -> Result<usize, RecvTimeoutError> {
        self.recv_deadline(max, Some(deadline), |value| out.push(value))
    }

    /// Takes what is there now, `max` at most, and appends it to `out`. Zero if there is nothing.
    pub fn try_recv_many(&self, out: &mut Vec<T>, max: usize) -> usize {
        self.try_take(max, |value| out.push(value)).unwrap_or(0)
    }

    /// Accepts no more values: senders are refused from now on, what is queued can still be received.
    pub fn close(&self) {
        let mut wakes = Wakes::new();
        self.shared.lock(|state| {
            state.closed = true;
            state.sending.notify_all(&mut wakes);
            state.receiving.notify_all(&mut wakes);
        });
        wakes.wake();
    }

    /// How many values are queued.
    pub fn len(&self) -> usize {
        self.shared.lock(|state| state.queue.len())
    }

    /// True if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.shared.lock(|state| state.capacity)
    }

    /// `Some(0)` if nothing will ever come, `None` if nothing is there now.
    fn try_take(&self, max: usize, out: impl FnMut(T)) -> Option<usize> {
        let mut wakes = Wakes::new();
        let taken = self.shared.lock(|state| {
            if state.queue.is_empty() {
                return state.is_drained().then_some(0);
            }
            Some(state.take(max, &mut wakes, out))
        });
        wakes.wake();
        taken
    }

    fn recv_deadline(
        &self,
        max: usize,
        deadline: Option<Instant>,
        mut out: impl FnMut(T),
    ) -> Result<usize, RecvTimeoutError> {
        if max == 0 {
            return Ok(0);
        }
        let mut woken = false;
        loop {
            match self.try_take(max, &mut out) {
                Some(0) => return Err(RecvTimeoutError::Closed),
                Some(count) => return Ok(count),
                None => {}
            }
            let waited = wait(
                (&self.shared, |state| &mut state.receiving),
                "channel: value",
                (),
                deadline,
                |state, ()| match () {
                    () if !state.queue.is_empty() || state.is_drained() => Enter::Ready(()),
                    () if woken => Enter::Front,
                    () => Enter::Back,
                },
                || {},
                |state, notified, (), wakes| {
                    // A cancelled receiver passes the news on, should there be a second one.
                    if notified && !state.queue.is_empty() {
                        wakes.push(state.receiving.notify_front());
                    }
                },
            );
            if let Waited::TimedOut(()) = waited {
                return Err(RecvTimeoutError::Timeout);
            }
            woken = true;
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock(|state| state.senders += 1);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        self.shared.lock(|state| {
            state.senders -= 1;
            if state.senders == 0 {
                state.receiving.notify_all(&mut wakes);
            }
        });
        wakes.wake();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        // Dropped outside the lock, which runs no code of the values.
        drop(self.shared.lock(|state| std::mem::take(&mut state.queue)));
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity) = self.shared.lock(|state| (state.queue.len(), state.capacity));
        f.debug_struct("Sender").field("len", &len).field("capacity", &capacity).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity) = self.shared.lock(|state| (state.queue.len(), state.capacity));
        f.debug_struct("Receiver").field("len", &len).field("capacity", &capacity).finish()
    }
}
