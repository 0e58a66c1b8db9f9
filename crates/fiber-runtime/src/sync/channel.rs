//! A queue of values from many senders to one receiver or several.
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
//! queue itself: nobody can take the room in between, and whole batches flow with one wake-up. Likewise a receiver that
//! waits is handed its value: it comes back from its wait with it, and needs no second look. Values that were accepted are
//! delivered, in the order in which each sender sent them, even after the last sender is gone. When the last receiver
//! goes, what is queued is dropped and senders get their values back.
//!
//! # Several receivers
//! Both ends can be cloned: a value goes to one receiver, and work is shared out by whoever is free. Waiting receivers
//! are served in order of arrival. A receiver that is cancelled with a value in its hand puts it back where it was,
//! for whoever receives next; a receiver that was told before that the channel is closed does not look again.
//!
//! ```
//! use fiber_runtime::sync::channel;
//!
//! let (jobs, queue) = channel::unbounded();
//! let workers: Vec<_> = (0..2)
//!     .map(|_| {
//!         let queue = queue.clone();
//!         std::thread::spawn(move || queue.iter().sum::<u32>())
//!     })
//!     .collect();
//! (1..=10).for_each(|job| jobs.send(job).unwrap());
//! drop(jobs);
//! let sums: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
//! assert_eq!(sums, 55);
//! ```

mod arms;
mod errors;
mod queue;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakes, wait};
use queue::Queue;
use state::{Offer, State, Want};

pub use arms::Room;
pub use errors::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};

/// A channel that holds at most `capacity` values.
///
/// # Panics
/// If `capacity` is zero.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for at least one value");
    channel(capacity)
}

/// A channel in which no sender ever waits.
///
/// Nothing but memory bounds it: only for senders that cannot outrun their receivers for long, because something else
/// limits how much is on its way (one value per fiber, per connection, per permit), and for those that must never wait.
/// Otherwise take [`bounded`]. The room of a backlog is given back as it drains.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(usize::MAX)
}

fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        // What is not used at once is not taken at once.
        queue: Queue::new(if capacity == usize::MAX { 0 } else { capacity }),
        capacity,
        senders: 1,
        receivers: 1,
        closed: false,
        promised: 0,
        granted: 0,
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

/// The receiving side. Clones receive from the same channel; each value goes to one of them.
pub struct Receiver<T> {
    shared: Arc<Spin<State<T>>>,
}

impl<T> Sender<T> {
    /// Sends `value`, waiting for room.
    ///
    /// # Errors
    /// The receivers are gone; the value comes back.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_deadline(value, None).map_err(|refused| match refused {
            SendTimeoutError::Closed(value) | SendTimeoutError::Timeout(value) => SendError(value),
        })
    }

    /// Sends `value`, waiting for room until `deadline`.
    ///
    /// # Errors
    /// The receivers are gone or there was no room in time; the value comes back.
    pub fn send_until(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_deadline(value, Some(deadline))
    }

    /// Sends `value` if there is room now.
    ///
    /// # Errors
    /// There is no room or no receiver; the value comes back.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let woken = self.shared.lock(|state| {
            if state.closed {
                return Err(TrySendError::Closed(value));
            }
            if state.is_full() {
                return Err(TrySendError::Full(value));
            }
            Ok(state.put(value))
        })?;
        if let Some(who) = woken {
            who.wake();
        }
        Ok(())
    }

    /// True once the channel is closed or the last receiver is gone: sending is in vain.
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

    /// How many values fit; `usize::MAX` in an unbounded channel.
    pub fn capacity(&self) -> usize {
        self.shared.lock(|state| state.capacity)
    }

    #[inline]
    fn send_deadline(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(SendTimeoutError::Closed(value)),
            Err(TrySendError::Full(value)) => self.send_when_room(value, deadline),
        }
    }

    #[cold]
    fn send_when_room(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let mut woken = None;
        let waited = wait(
            (&self.shared, |state| &mut state.sending),
            "channel: room",
            Offer::Value(value),
            deadline,
            |state, offer| {
                if !state.closed && state.is_full() {
                    return Enter::Back;
                }
                match std::mem::replace(offer, Offer::Accepted) {
                    Offer::Value(value) if !state.closed => woken = state.put(value),
                    refused => return Enter::Ready(refused),
                }
                Enter::Ready(Offer::Accepted)
            },
            || {},
            |_, _, _, _| {},
        );
        if let Some(who) = woken {
            who.wake();
        }
        match waited {
            Waited::Ready(Offer::Accepted) | Waited::Notified(Offer::Accepted) => Ok(()),
            Waited::Ready(Offer::Value(value)) | Waited::Notified(Offer::Value(value)) => {
                Err(SendTimeoutError::Closed(value))
            }
            Waited::TimedOut(Offer::Value(value)) => Err(SendTimeoutError::Timeout(value)),
            _ => unreachable!("a sender that timed out has its value, and did not merely wish for room"),
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    /// All senders are gone and everything they sent was received.
    // Inlined wherever it is called: see `fiber::park`.
    #[inline(always)]
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

    /// Receives until the channel is closed and drained, waiting for each value.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Accepts no more values: senders are refused from now on, what is queued can still be received.
    pub fn close(&self) {
        let mut wakes = Wakes::new();
        self.shared.lock(|state| state.close(&mut wakes));
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

    /// How many values fit; `usize::MAX` in an unbounded channel.
    pub fn capacity(&self) -> usize {
        self.shared.lock(|state| state.capacity)
    }

    /// `Some(0)` if nothing will ever come, `None` if nothing is there now.
    #[inline]
    fn try_take(&self, max: usize, out: impl FnMut(T)) -> Option<usize> {
        let mut wakes = Wakes::new();
        let taken = self.shared.lock(|state| {
            if state.available() == 0 {
                return state.is_drained().then_some(0);
            }
            Some(state.take(max, &mut wakes, out))
        });
        wakes.wake();
        taken
    }

    #[inline(always)]
    fn recv_deadline(
        &self,
        max: usize,
        deadline: Option<Instant>,
        mut out: impl FnMut(T),
    ) -> Result<usize, RecvTimeoutError> {
        if max == 0 {
            return Ok(0);
        }
        loop {
            let mut wakes = Wakes::new();
            let waited = wait(
                (&self.shared, |state| &mut state.receiving),
                "channel: value",
                Want::Value,
                deadline,
                |state, _| {
                    if state.available() > 0 {
                        return Enter::Ready(Some(state.take(max, &mut wakes, &mut out)));
                    }
                    if state.is_drained() { Enter::Ready(None) } else { Enter::Back }
                },
                || {},
                |state, notified, want, wakes| {
                    if notified {
                        state.pass_on(want, wakes);
                    }
                },
            );
            wakes.wake();
            return match waited {
                Waited::Ready(Some(count)) => Ok(count),
                Waited::Notified(Want::Handed(value)) => {
                    out(value);
                    Ok(1 + if max > 1 { self.try_take(max - 1, out).unwrap_or(0) } else { 0 })
                }
                Waited::Ready(None) => Err(RecvTimeoutError::Closed),
                Waited::TimedOut(_) => Err(RecvTimeoutError::Timeout),
                // The senders are gone or refused. What is still queued is promised, but may become free.
                Waited::Notified(_) => continue,
            };
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

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.lock(|state| state.receivers += 1);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        let left = self.shared.lock(|state| {
            state.receivers -= 1;
            (state.receivers == 0).then(|| {
                state.close(&mut wakes);
                std::mem::replace(&mut state.queue, Queue::new(0))
            })
        });
        wakes.wake();
        // Dropped outside the lock, which runs no code of the values.
        drop(left);
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
