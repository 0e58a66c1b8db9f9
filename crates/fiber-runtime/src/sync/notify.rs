//! A signal without a value: somebody may want to look again.

use std::fmt;
use std::time::Instant;

use super::Spin;
use super::select::{ListArm, Look, Operation, Queued};
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

/// Wakes one waiter or all of them.
///
/// [`Notify::notify_one`] wakes the one who has waited longest; when nobody waits, it leaves one permit, and the next
/// wait returns at once. So "change the state, then `notify_one`" on one side and "look at the state, then wait" on the
/// other cannot miss each other. Two permits are one.
///
/// [`Notify::notify_all`] wakes those who wait, in order, and leaves nothing behind. Who wants to look first and must not
/// miss a `notify_all` in between takes a [`Notified`] before looking: it counts as waiting from then on.
///
/// A waiter that is cancelled passes a `notify_one` on to the next.
///
/// ```
/// use fiber_runtime::sync::Notify;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let (done, changed) = (AtomicBool::new(false), Notify::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         done.store(true, Ordering::Release);
///         changed.notify_all();
///     });
///     loop {
///         let notified = changed.notified();
///         if done.load(Ordering::Acquire) {
///             break;
///         }
///         notified.wait();
///     }
/// });
/// ```
pub struct Notify {
    state: Spin<State>,
}

/// # Invariants
/// With a permit nobody waits.
struct State {
    permit: bool,
    /// How often everybody was notified.
    epoch: u64,
    /// The payload of a notified waiter says whether the notification was for it alone, to be passed on.
    waiters: WaitList<bool>,
}

impl State {
    fn notify_one(&mut self, wakes: &mut Wakes) {
        match self.waiters.front() {
            Some(alone) => {
                *alone = true;
                wakes.push(self.waiters.notify_front());
            }
            None => self.permit = true,
        }
    }

    /// Whether somebody who has seen `epoch` need not wait.
    fn take(&mut self, epoch: u64) -> bool {
        self.epoch != epoch || std::mem::take(&mut self.permit)
    }
}

impl Notify {
    /// Without a permit.
    pub const fn new() -> Self {
        Self { state: Spin::new(State { permit: false, epoch: 0, waiters: WaitList::new() }) }
    }

    /// Wakes the one who has waited longest, or lets the next one who comes pass.
    pub fn notify_one(&self) {
        let mut wakes = Wakes::new();
        self.state.lock(|state| state.notify_one(&mut wakes));
        wakes.wake();
    }

    /// Wakes everybody who waits, and everybody who holds a [`Notified`].
    pub fn notify_all(&self) {
        let mut wakes = Wakes::new();
        self.state.lock(|state| {
            state.epoch += 1;
            state.waiters.notify_all(&mut wakes);
        });
        wakes.wake();
    }

    /// From now on no [`Notify::notify_all`] is missed.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, epoch: self.state.lock(|state| state.epoch) }
    }

    /// Waits for a notification, or takes the permit.
    pub fn wait(&self) {
        self.notified().wait();
    }

    /// As [`Notify::wait`], at most until `deadline`. False if no notification came.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.notified().wait_until(deadline)
    }

    /// A notification, for [`select!`](crate::select!).
    pub fn notified_arm(&self) -> impl Operation<Outcome = ()> {
        ListArm::new(Arm(self.notified()))
    }
}

/// A wait for a [`Notify`] that has begun, in that it sees every [`Notify::notify_all`] from its making on. A
/// [`Notify::notify_one`] is left to those who really wait until [`Notified::wait`].
#[must_use = "it does nothing unless it is waited for"]
pub struct Notified<'a> {
    notify: &'a Notify,
    epoch: u64,
}

impl<'a> Notified<'a> {
    /// Waits for the notification.
    pub fn wait(self) {
        self.wait_deadline("notify", None);
    }

    /// As [`Notified::wait`], at most until `deadline`. False if no notification came.
    pub fn wait_until(self, deadline: Instant) -> bool {
        self.wait_deadline("notify", Some(deadline))
    }

    /// The notification, for [`select!`](crate::select!).
    pub fn notified_arm(self) -> impl Operation<Outcome = ()> + use<'a> {
        ListArm::new(Arm(self))
    }

    /// As if everybody had been notified since it was made.
    pub(crate) fn already(self) -> Self {
        Notified { epoch: self.epoch.wrapping_sub(1), ..self }
    }

    /// `label` says in a dump what is waited for.
    pub(crate) fn wait_deadline(&self, label: &'static str, deadline: Option<Instant>) -> bool {
        let waited = wait(
            (&self.notify.state, |state| &mut state.waiters),
            label,
            false,
            deadline,
            |state, _| match state.take(self.epoch) {
                true => Enter::Ready(()),
                false => Enter::Back,
            },
            || {},
            |state, notified, &mut alone, wakes| {
                if notified && alone {
                    state.notify_one(wakes);
                }
            },
        );
        !matches!(waited, Waited::TimedOut(_))
    }
}

struct Arm<'a>(Notified<'a>);

impl Queued for Arm<'_> {
    type State = State;
    type Payload = bool;
    type Found = ();
    type Outcome = ();

    fn lock(&self) -> &Spin<State> {
        &self.0.notify.state
    }

    fn list<'s>(&self, state: &'s mut State) -> &'s mut WaitList<bool> {
        &mut state.waiters
    }

    fn look(&self, state: &mut State, held: Option<bool>, _wakes: &mut Wakes) -> Look<(), bool> {
        if held.is_some() || state.take(self.0.epoch) { Look::Done(()) } else { Look::Back(false) }
    }

    fn pass_on(&self, state: &mut State, alone: bool, wakes: &mut Wakes) {
        if alone {
            state.notify_one(wakes);
        }
    }

    fn finish(found: Self::Found) -> Self::Outcome {
        found
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify")
            .field("permit", &self.state.lock(|state| state.permit))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Notified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").finish_non_exhaustive()
    }
}
