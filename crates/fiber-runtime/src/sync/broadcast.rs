//! Every value to every receiver; those who are too slow learn how much they have missed.
//!
//! ```
//! use fiber_runtime::sync::broadcast;
//!
//! let (sender, mut one) = broadcast::channel(2);
//! let mut other = sender.subscribe();
//! sender.send("a").unwrap();
//! assert_eq!((one.recv(), other.recv()), (Ok("a"), Ok("a")));
//!
//! for value in ["b", "c", "d"] {
//!     sender.send(value).unwrap();
//! }
//! assert_eq!(one.recv(), Err(broadcast::RecvError::Lagged(1)));
//! assert_eq!(one.recv(), Ok("c"));
//! ```
//!
//! A sender never waits. The channel keeps at most its capacity of values; when one more is sent, the oldest goes, and a
//! receiver that had not seen it is told how many it has missed before it goes on with the oldest that is left. A value
//! that all have seen is dropped at once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::Spin;
use super::channel::SendError;
use super::select::{ListArm, Look, Operation, Queued};
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// So many values were missed; the next call goes on with the oldest that is left.
    #[error("a receiver of a broadcast was too slow and missed {0} values")]
    Lagged(u64),
    /// All senders are gone, and everything they sent was received.
    #[error("receiving from a broadcast that all senders have left")]
    Closed,
}

/// Why nothing was received at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is there now.
    #[error("receiving from a broadcast without a new value")]
    Empty,
    /// As [`RecvError`].
    #[error(transparent)]
    Other(#[from] RecvError),
}

/// Why nothing was received in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// Nothing came until the deadline.
    #[error("receiving from a broadcast timed out")]
    Timeout,
    /// As [`RecvError`].
    #[error(transparent)]
    Other(#[from] RecvError),
}

/// A channel that keeps at most `capacity` values.
///
/// # Panics
/// If `capacity` is zero.
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a broadcast needs room for at least one value");
    let state = State {
        slots: VecDeque::new(),
        first: 0,
        capacity,
        senders: 1,
        receivers: 1,
        waiters: WaitList::new(),
    };
    let shared = Arc::new(Spin::new(state));
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared, position: 0 })
}

/// The sending side. Clones send into the same channel.
pub struct Sender<T> {
    shared: Arc<Spin<State<T>>>,
}

/// A receiver with a position of its own. A clone has the same position.
pub struct Receiver<T> {
    shared: Arc<Spin<State<T>>>,
    /// The number of the value that comes next.
    position: u64,
}

/// # Invariants
/// Values are numbered; `slots` holds those from `first` on, at most `capacity`. A slot's `unread` counts the receivers
/// whose position is at or before it, and is not zero.
struct State<T> {
    slots: VecDeque<Slot<T>>,
    first: u64,
    capacity: usize,
    senders: usize,
    receivers: usize,
    waiters: WaitList<()>,
}

/// A value is shared, so that it is copied, and dropped, outside the lock.
struct Slot<T> {
    value: Arc<T>,
    unread: usize,
}

impl<T> State<T> {
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// What a receiver at `position` finds, and where it stands then. `None` if it has to wait.
    fn look(&mut self, position: &Cell<u64>) -> Option<Result<Arc<T>, RecvError>> {
        let at = position.get();
        if at < self.first {
            position.set(self.first);
            return Some(Err(RecvError::Lagged(self.first - at)));
        }
        let Some(slot) = self.slots.get_mut((at - self.first) as usize) else {
            return (self.senders == 0).then_some(Err(RecvError::Closed));
        };
        position.set(at + 1);
        slot.unread -= 1;
        if slot.unread > 0 {
            return Some(Ok(Arc::clone(&slot.value)));
        }
        // Everybody has seen this one, and so everything before it, of which nothing is left: it is the first.
        let slot = self.slots.pop_front().expect("the slot that was read is the first");
        self.first += 1;
        Some(Ok(slot.value))
    }

    /// The slots that a receiver at `position` has not read.
    fn unread_from(&mut self, position: u64) -> impl Iterator<Item = &mut Slot<T>> {
        let read = position.saturating_sub(self.first).min(self.slots.len() as u64);
        self.slots.range_mut(read as usize..)
    }
}

impl<T: Clone> Sender<T> {
    /// Sends `value` to every receiver there is now, and returns how many they are. It never waits.
    ///
    /// # Errors
    /// There is no receiver; the value comes back.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let mut wakes = Wakes::new();
        let value = Arc::new(value);
        let sent = self.shared.lock(|state| {
            if state.receivers == 0 {
                return Err(value);
            }
            let mut oldest = None;
            if state.slots.len() == state.capacity {
                oldest = state.slots.pop_front();
                state.first += 1;
            }
            state.slots.push_back(Slot { value, unread: state.receivers });
            state.waiters.notify_all(&mut wakes);
            Ok((state.receivers, oldest))
        });
        wakes.wake();
        match sent {
            Ok((receivers, oldest)) => {
                // Dropped outside the lock.
                drop(oldest);
                Ok(receivers)
            }
            Err(value) => Err(SendError(take_or_clone(value))),
        }
    }
}

impl<T> Sender<T> {
    /// A new receiver, for what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        let position = self.shared.lock(|state| {
            state.receivers += 1;
            state.end()
        });
        Receiver { shared: Arc::clone(&self.shared), position }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.lock(|state| state.receivers)
    }

    /// How many values are kept for receivers that have not seen them.
    pub fn len(&self) -> usize {
        self.shared.lock(|state| state.slots.len())
    }

    /// True if every receiver has seen everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    /// Values were missed, or all senders are gone and everything they sent was received.
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_deadline(None).map_err(|error| match error {
            RecvTimeoutError::Other(error) => error,
            RecvTimeoutError::Timeout => unreachable!("a wait without a deadline does not time out"),
        })
    }

    /// Waits for the next value until `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::recv`], or nothing came in time.
    pub fn recv_until(&mut self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_deadline(Some(deadline))
    }

    /// Takes the next value if there is one.
    ///
    /// # Errors
    /// As [`Receiver::recv`], or there is none now.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let position = Cell::from_mut(&mut self.position);
        match self.shared.lock(|state| state.look(position)) {
            Some(found) => Ok(found.map(take_or_clone)?),
            None => Err(TryRecvError::Empty),
        }
    }

    /// The next value, for [`select!`](crate::select!): ready as [`Receiver::recv`] would be.
    pub fn recv_arm(&mut self) -> impl Operation<Outcome = Result<T, RecvError>> {
        let position = Cell::from_mut(&mut self.position);
        ListArm::new(Receive { shared: &self.shared, position })
    }

    fn recv_deadline(&mut self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let position = Cell::from_mut(&mut self.position);
        loop {
            let waited = wait(
                (&*self.shared, |state| &mut state.waiters),
                "broadcast",
                (),
                deadline,
                |state, ()| state.look(position).map_or(Enter::Back, Enter::Ready),
                || {},
                |_, _, (), _| {},
            );
            match waited {
                Waited::Ready(found) => return Ok(found.map(take_or_clone)?),
                Waited::Notified(()) => {}
                Waited::TimedOut(()) => return Err(RecvTimeoutError::Timeout),
            }
        }
    }
}

impl<T> Receiver<T> {
    /// How many values are there that this receiver has not seen, missed ones included.
    pub fn len(&self) -> usize {
        self.shared.lock(|state| state.end() - self.position) as usize
    }

    /// True if there is nothing that this receiver has not seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The last reader gets the value itself.
fn take_or_clone<T: Clone>(value: Arc<T>) -> T {
    Arc::unwrap_or_clone(value)
}

struct Receive<'a, T> {
    shared: &'a Spin<State<T>>,
    position: &'a Cell<u64>,
}

impl<T: Clone> Queued for Receive<'_, T> {
    type State = State<T>;
    type Payload = ();
    type Found = Result<Arc<T>, RecvError>;
    type Outcome = Result<T, RecvError>;

    fn lock(&self) -> &Spin<State<T>> {
        self.shared
    }

    fn list<'s>(&self, state: &'s mut State<T>) -> &'s mut WaitList<()> {
        &mut state.waiters
    }

    fn look(&self, state: &mut State<T>, _held: Option<()>, _wakes: &mut Wakes) -> Look<Self::Found, ()> {
        state.look(self.position).map_or(Look::Back(()), Look::Done)
    }

    fn pass_on(&self, _state: &mut State<T>, (): (), _wakes: &mut Wakes) {
        // Everybody was notified.
    }

    fn finish(found: Self::Found) -> Self::Outcome {
        found.map(take_or_clone)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock(|state| state.senders += 1);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.lock(|state| {
            state.receivers += 1;
            state.unread_from(self.position).for_each(|slot| slot.unread += 1);
        });
        Self { shared: Arc::clone(&self.shared), position: self.position }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        self.shared.lock(|state| {
            state.senders -= 1;
            if state.senders == 0 {
                state.waiters.notify_all(&mut wakes);
            }
        });
        wakes.wake();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let seen_by_all: Vec<Slot<T>> = self.shared.lock(|state| {
            state.receivers -= 1;
            state.unread_from(self.position).for_each(|slot| slot.unread -= 1);
            let count = state.slots.iter().take_while(|slot| slot.unread == 0).count();
            state.first += count as u64;
            state.slots.drain(..count).collect()
        });
        // Dropped outside the lock.
        drop(seen_by_all);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}
