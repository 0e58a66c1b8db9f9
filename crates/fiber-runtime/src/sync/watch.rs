//! The newest of a value: one sets it, many see the latest and learn that it has changed.
//!
//! ```
//! use fiber_runtime::sync::watch;
//!
//! let (sender, mut receiver) = watch::channel("starting");
//! let observer = std::thread::spawn(move || {
//!     receiver.wait_for(|state| *state == "running").map(|state| *state)
//! });
//! sender.send("running").unwrap();
//! assert_eq!(observer.join().unwrap(), Ok("running"));
//! ```
//!
//! A receiver that is slow sees fewer values, never old ones: nothing is queued, one value is all there is. Each
//! receiver remembers which version it has seen. A [`Ref`] holds off senders, so it is not to be held for long, and a
//! fiber that sends while it holds one waits for itself.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use super::channel::{RecvError, RecvTimeoutError, SendError};
use super::select::{ListArm, Look, Operation, Queued};
use super::wait::{Enter, WaitList, Waited, Wakes, wait};
use super::{RwLock, RwLockReadGuard, Spin};

/// A channel whose value is `initial` to begin with. Its receiver has seen that.
pub fn channel<T>(initial: T) -> (Sender<T>, Receiver<T>) {
    let state =
        State { version: 0, senders: 1, receivers: 1, waiters: WaitList::new(), leaving: WaitList::new() };
    let shared = Arc::new(Shared { value: RwLock::new(initial), state: Spin::new(state) });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared, seen: 0 })
}

/// The end that sets the value. Clones set the same one.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// An end that sees the value. A clone has seen what the original has.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that this receiver knows of.
    seen: u64,
}

/// # Invariants
/// The version is changed only while the value is locked for writing, so a reader finds value and version in step.
struct Shared<T> {
    value: RwLock<T>,
    state: Spin<State>,
}

struct State {
    version: u64,
    senders: usize,
    receivers: usize,
    /// Receivers that wait for a change.
    waiters: WaitList<()>,
    /// Senders that wait for the last receiver to go.
    leaving: WaitList<()>,
}

/// The value, borrowed for reading. Senders wait as long as it lives.
#[must_use = "the borrow ends at once if this is not kept"]
pub struct Ref<'a, T> {
    value: RwLockReadGuard<'a, T>,
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl State {
    /// What a receiver that has seen `seen` finds: the new version, the end, or nothing yet.
    fn look(&self, seen: u64) -> Option<Result<u64, RecvError>> {
        match self.version {
            version if version != seen => Some(Ok(version)),
            _ if self.senders == 0 => Some(Err(RecvError)),
            _ => None,
        }
    }
}

impl<T> Shared<T> {
    fn borrow(&self) -> Ref<'_, T> {
        Ref { value: self.value.read() }
    }

    fn wait_for_change(&self, seen: u64, deadline: Option<Instant>) -> Result<u64, RecvTimeoutError> {
        loop {
            let waited = wait(
                (&self.state, |state| &mut state.waiters),
                "watch: change",
                (),
                deadline,
                |state, ()| state.look(seen).map_or(Enter::Back, Enter::Ready),
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

impl<T> Sender<T> {
    /// Sets the value and tells the receivers.
    ///
    /// # Errors
    /// There is no receiver; the value comes back and the old one stays.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.is_closed() {
            return Err(SendError(value));
        }
        self.replace(value);
        Ok(())
    }

    /// Sets the value, whether or not there are receivers, and returns the old one.
    pub fn replace(&self, mut value: T) -> T {
        self.modify(|current| std::mem::swap(current, &mut value));
        value
    }

    /// Changes the value in place and tells the receivers.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        self.modify_if(|value| {
            change(value);
            true
        });
    }

    /// Changes the value in place and tells the receivers if `change` says that there is something new. If it panics,
    /// they are not told.
    pub fn modify_if(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut wakes = Wakes::new();
        let mut value = self.shared.value.write();
        let changed = change(&mut value);
        if changed {
            self.shared.state.lock(|state| {
                state.version += 1;
                state.waiters.notify_all(&mut wakes);
            });
        }
        drop(value);
        wakes.wake();
        changed
    }

    /// The value.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.borrow()
    }

    /// A new receiver, which has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.shared.state.lock(|state| {
            state.receivers += 1;
            state.version
        });
        Receiver { shared: Arc::clone(&self.shared), seen }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.state.lock(|state| state.receivers)
    }

    /// True while there are no receivers.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Waits until there are no receivers.
    pub fn closed(&self) {
        self.closed_deadline(None);
    }

    /// As [`Sender::closed`], at most until `deadline`. False if there are receivers still.
    pub fn closed_until(&self, deadline: Instant) -> bool {
        self.closed_deadline(Some(deadline))
    }

    fn closed_deadline(&self, deadline: Option<Instant>) -> bool {
        let waited = wait(
            (&self.shared.state, |state| &mut state.leaving),
            "watch: receivers gone",
            (),
            deadline,
            |state, ()| match state.receivers {
                0 => Enter::Ready(()),
                _ => Enter::Back,
            },
            || {},
            |_, _, (), _| {},
        );
        !matches!(waited, Waited::TimedOut(()))
    }
}

impl<T> Receiver<T> {
    /// The value, without taking note of it: a change that was not seen is still to be seen.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.borrow()
    }

    /// The value, which counts as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.borrow();
        // With the value locked for reading the version stays.
        self.seen = self.shared.state.lock(|state| state.version);
        value
    }

    /// Whether there is a value that this receiver has not seen.
    ///
    /// # Errors
    /// There is none, and the senders are gone.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        self.shared.state.lock(|state| state.look(self.seen)).map_or(Ok(false), |found| found.map(|_| true))
    }

    /// Waits for a value that was not seen; it counts as seen then.
    ///
    /// # Errors
    /// There is none, and the senders are gone.
    pub fn changed(&mut self) -> Result<(), RecvError> {
        self.changed_deadline(None).map_err(|_| RecvError)
    }

    /// As [`Receiver::changed`], at most until `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::changed`], or there was no change in time.
    pub fn changed_until(&mut self, deadline: Instant) -> Result<(), RecvTimeoutError> {
        self.changed_deadline(Some(deadline))
    }

    /// Waits until `condition` holds of the value, beginning with the present one.
    ///
    /// # Errors
    /// The senders are gone, and it does not hold of the last value.
    pub fn wait_for(&mut self, condition: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        self.wait_for_deadline(None, condition).map_err(|_| RecvError)
    }

    /// As [`Receiver::wait_for`], at most until `deadline`.
    ///
    /// # Errors
    /// As [`Receiver::wait_for`], or it did not hold in time.
    pub fn wait_for_until(
        &mut self,
        deadline: Instant,
        condition: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, RecvTimeoutError> {
        self.wait_for_deadline(Some(deadline), condition)
    }

    /// A change, for [`select!`](crate::select!): ready as [`Receiver::changed`] would be.
    pub fn changed_arm(&mut self) -> impl Operation<Outcome = Result<(), RecvError>> {
        ListArm::new(Change { state: &self.shared.state, seen: Cell::from_mut(&mut self.seen) })
    }

    fn changed_deadline(&mut self, deadline: Option<Instant>) -> Result<(), RecvTimeoutError> {
        self.seen = self.shared.wait_for_change(self.seen, deadline)?;
        Ok(())
    }

    fn wait_for_deadline(
        &mut self,
        deadline: Option<Instant>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, RecvTimeoutError> {
        loop {
            let value = self.shared.borrow();
            self.seen = self.shared.state.lock(|state| state.version);
            if condition(&value) {
                return Ok(value);
            }
            drop(value);
            self.shared.wait_for_change(self.seen, deadline)?;
        }
    }
}

struct Change<'a> {
    state: &'a Spin<State>,
    seen: &'a Cell<u64>,
}

impl Queued for Change<'_> {
    type State = State;
    type Payload = ();
    type Found = Result<(), RecvError>;
    type Outcome = Result<(), RecvError>;

    fn lock(&self) -> &Spin<State> {
        self.state
    }

    fn list<'s>(&self, state: &'s mut State) -> &'s mut WaitList<()> {
        &mut state.waiters
    }

    fn look(&self, state: &mut State, _held: Option<()>, _wakes: &mut Wakes) -> Look<Self::Found, ()> {
        match state.look(self.seen.get()) {
            Some(found) => Look::Done(found.map(|version| self.seen.set(version))),
            None => Look::Back(()),
        }
    }

    fn pass_on(&self, _state: &mut State, (): (), _wakes: &mut Wakes) {
        // Everybody was notified.
    }

    fn finish(found: Self::Found) -> Self::Outcome {
        found
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock(|state| state.senders += 1);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock(|state| state.receivers += 1);
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = Wakes::new();
        self.shared.state.lock(|state| {
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
        let mut wakes = Wakes::new();
        self.shared.state.lock(|state| {
            state.receivers -= 1;
            if state.receivers == 0 {
                state.leaving.notify_all(&mut wakes);
            }
        });
        wakes.wake();
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("value", &self.shared.value).finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("value", &self.shared.value).finish_non_exhaustive()
    }
}
