//! Waiting for several things at once, of which one happens: channels, timers, notifications, descriptors, fibers.
//!
//! ```
//! use fiber_runtime::{select, sync::channel};
//! use std::time::Duration;
//!
//! let (jobs, queue) = channel::bounded(4);
//! let (stop, stopped) = channel::bounded::<()>(1);
//! std::thread::spawn(move || {
//!     (1..=3).for_each(|job| jobs.send(job).unwrap());
//!     stop.send(()).unwrap();
//! });
//! let mut sum = 0;
//! loop {
//!     select! {
//!         // Channels that are closed are ready, with an error.
//!         job = recv(queue) => if let Ok(job) = job { sum += job },
//!         _ = recv(stopped) => break,
//!         after(Duration::from_secs(30)) => panic!("nothing happens"),
//!     }
//! }
//! sum += queue.iter().sum::<i32>();
//! assert_eq!(sum, 6);
//! ```
//!
//! # The arms of [`select!`](crate::select!)
//!
//! | Arm | Ready when | Gives |
//! |---|---|---|
//! | `v = recv(receiver) =>` | a [channel] has a value or is closed; a [oneshot], a [broadcast] likewise | what `recv` gives |
//! | `r = send(sender, value) =>` | a [channel] has room or is closed | what `send` gives |
//! | `notified(notify) =>` | a [`Notify`] has a notification | `()` |
//! | `r = changed(receiver) =>` | a [watch]ed value has changed or its senders are gone | what `changed` gives |
//! | `cancelled(token) =>` | a [`CancelToken`](crate::CancelToken) is cancelled | `()` |
//! | `finished(handle) =>` | the fiber of a [`JoinHandle`] has ended: `join` does not wait | `()` |
//! | `r = readable(socket) =>`, `writable` | a descriptor (anything `AsFd`) is ready | `io::Result<()>` |
//! | `after(duration) =>`, `at(instant) =>` | the time has come | `()` |
//! | `v = on(operation) =>` | any [`Operation`], made elsewhere | its outcome |
//! | `default =>` | at once, if nothing else is; it is the last arm | |
//!
//! `pattern =` may be left out. A guard, `recv(queue) if running =>`, switches an arm off; with all of them off and no
//! `default`, `select!` panics. The bodies are ordinary code in place: `return`, `break` and `?` work, and all have one
//! type.
//!
//! # What holds
//! - **One arm happens.** The others lose nothing: no value is taken from a channel that was not chosen, the value
//!   expression of a `send` is evaluated only when there is room for it, and a notification that was on its way to an
//!   arm that did not happen goes to the next in line. The same when the fiber is cancelled.
//! - **The choice is fair**: among arms that are ready, every one of `n` has a chance of at least one in `n`, drawn from
//!   the seed in a simulation. `select! { biased; ... }` looks from the top instead, so an arm that is always ready
//!   starves those below it.
//! - **Waiting is in line** with those who wait for one thing only: first come, first served.
//! - **Nothing is allocated** and no arm costs anything after the call: arms live on the caller's stack. An arm that is
//!   ready costs a look at each arm before it.
//! - It works in fibers, in plain threads and, but for descriptors, in simulations.
//!
//! What `select!` expands to is public: [`first`] waits for any number of arms, also when they are not known before the
//! program runs.
//!
//! ```
//! use fiber_runtime::sync::channel;
//! use fiber_runtime::sync::select::{self, Operation, Order, Selectable};
//!
//! let channels: Vec<_> = (0..3).map(|_| channel::bounded(1)).collect();
//! channels[1].0.send("here").unwrap();
//!
//! let mut arms: Vec<_> = channels.iter().map(|(_, receiver)| receiver.recv_arm()).collect();
//! let mut refs: Vec<&mut dyn Selectable> = arms.iter_mut().map(|arm| arm as _).collect();
//! let chosen = select::first(Order::Fair, &mut refs);
//! assert_eq!(chosen, 1);
//! assert_eq!(arms.swap_remove(chosen).into_outcome(), Ok("here"));
//! ```
//!
//! [channel]: crate::sync::channel
//! [oneshot]: crate::sync::oneshot
//! [broadcast]: crate::sync::broadcast
//! [watch]: crate::sync::watch
//! [`Notify`]: crate::sync::Notify
//! [`JoinHandle`]: crate::JoinHandle

mod descriptor;
mod finished;
mod list;
mod macros;
mod pause;
mod timer;

use std::os::fd::RawFd;
use std::time::Instant;

pub(crate) use arm::Arm;
pub(in crate::sync) use list::{ListArm, Look, Queued};

pub use descriptor::{readable, writable};
pub use timer::{after, at};

use crate::fiber::cancel;
use crate::scheduler::random::thread_random;
use crate::scheduler::worker::Worker;
use crate::waiter::Woken;
use arm::Caller;
use pause::Pause;

/// Something that can be waited for together with others. The arms of this crate implement it; see the
/// [module's documentation](self).
pub trait Selectable: arm::Arm {}

/// A [`Selectable`] that has an outcome once it was chosen.
pub trait Operation: Selectable {
    /// What comes of it.
    type Outcome;

    /// The outcome of an operation that [`first`] has chosen.
    ///
    /// # Panics
    /// If it was not chosen.
    fn into_outcome(self) -> Self::Outcome;
}

/// In which order arms are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// From a random one on, so that none is preferred.
    Fair,
    /// From the first one on: an arm comes before those after it.
    Biased,
}

/// What `select!` expands to: the outcome of this arm, or of one of the others.
#[doc(hidden)]
#[derive(Debug)]
pub enum Branch<A, B> {
    This(A),
    Other(B),
}

/// The seam between [`first`] and what can be selected. Not nameable outside the crate, so nobody else calls `enter`.
mod arm {
    use std::os::fd::RawFd;
    use std::time::Instant;

    use crate::waiter::{Sleeper, Waiter};

    /// Whom an arm wakes: the calling fiber or thread.
    pub struct Caller(pub(in crate::sync) Sleeper);

    impl Caller {
        /// A handle that may outlive the call.
        pub(in crate::sync) fn waiter(&self) -> Waiter {
            match &self.0 {
                Sleeper::Event(event) => Waiter::Event(event.clone()),
                Sleeper::Fiber(_) | Sleeper::Thread(_) => Waiter::current(),
            }
        }
    }

    /// The steps of one arm. All take `&self`: while an arm is entered, others hold pointers into it.
    pub trait Arm {
        /// Does the operation if it can be done now, and keeps the outcome.
        fn attempt(&self) -> bool;

        /// As `attempt`; if nothing can be done, `who` is woken as soon as it is worth another look. Called again for
        /// another look.
        ///
        /// # Safety
        /// The arm stays where it is, alive, until `leave`.
        unsafe fn enter(&self, who: &Caller) -> bool;

        /// After `enter`: whether it is worth another look.
        fn is_woken(&self) -> bool;

        /// `who` is not to be woken any more. What the arm was woken for and did not use goes to the next in line.
        fn leave(&self);

        /// When it becomes ready by itself; asked after `attempt`.
        fn deadline(&self) -> Option<Instant> {
            None
        }

        /// The descriptor and the events of `poll(2)` that make it ready. On a plain thread `who` is not woken for it.
        fn descriptor(&self) -> Option<(RawFd, libc::c_short)> {
            None
        }

        /// False for an arm that was switched off.
        fn is_enabled(&self) -> bool {
            true
        }
    }
}

/// Waits until one of `arms` happens and returns its index. Unwinds when the fiber is cancelled meanwhile.
///
/// # Panics
/// If there are no arms, or none that is switched on: it would wait for ever.
pub fn first(order: Order, arms: &mut [&mut dyn Selectable]) -> usize {
    assert!(arms.iter().any(|arm| arm.is_enabled()), "select waits for ever: no arm is switched on");
    first_deadline(order, arms, None).expect("a wait without a deadline ends with an arm")
}

/// As [`first`], at most until `deadline`. Without arms it waits for the deadline.
pub fn first_until(order: Order, arms: &mut [&mut dyn Selectable], deadline: Instant) -> Option<usize> {
    first_deadline(order, arms, Some(deadline))
}

/// The first of `arms` that can happen without waiting.
pub fn first_now(order: Order, arms: &mut [&mut dyn Selectable]) -> Option<usize> {
    attempt(order.start(arms.len()), arms)
}

fn attempt(start: usize, arms: &[&mut dyn Selectable]) -> Option<usize> {
    cyclic(start, arms.len()).find(|&at| arms[at].attempt())
}

fn first_deadline(
    order: Order,
    arms: &mut [&mut dyn Selectable],
    deadline: Option<Instant>,
) -> Option<usize> {
    let start = order.start(arms.len());
    if let Some(chosen) = attempt(start, arms) {
        return Some(chosen);
    }
    let timer = earliest(arms);
    let until = match (timer, deadline) {
        (Some((_, timer)), Some(deadline)) => Some(timer.min(deadline)),
        (timer, deadline) => timer.map(|(_, timer)| timer).or(deadline),
    };
    let entered = Entered(arms);
    let pause = Pause::new(entered.0);
    // SAFETY: `entered` borrows the arms and leaves them before the borrow ends.
    let enter = |at: usize| unsafe { entered.0[at].enter(&pause.who) };
    if let Some(chosen) = cyclic(start, entered.0.len()).find(|&at| enter(at)) {
        return Some(chosen);
    }
    loop {
        let woken = pause.wait(entered.0, until);
        if woken == Woken::Cancelled {
            drop(entered);
            cancel::unwind();
        }
        let look = |at: usize| entered.0[at].is_woken() && enter(at);
        if let Some(chosen) = cyclic(start, entered.0.len()).find(|&at| look(at)) {
            return Some(chosen);
        }
        if woken == Woken::TimedOut {
            // The clock that ended the wait is the judge, not a second look at another one.
            return timer.filter(|&(_, timer)| Some(timer) == until).map(|(at, _)| at);
        }
    }
}

/// The arm that becomes ready by itself before all others.
fn earliest(arms: &[&mut dyn Selectable]) -> Option<(usize, Instant)> {
    let timers = arms.iter().enumerate().filter_map(|(at, arm)| Some((at, arm.deadline()?)));
    timers.min_by_key(|&(_, deadline)| deadline)
}

/// Leaves every arm when the wait ends, by unwinding too.
struct Entered<'a, 'b>(&'a mut [&'b mut dyn Selectable]);

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|arm| arm.leave());
    }
}

impl Order {
    /// The index to look at first.
    fn start(self, count: usize) -> usize {
        match self {
            Order::Fair if count > 1 => {
                let simulated = Worker::with_current(|worker| worker.sim().map(|sim| sim.below(count)));
                simulated.flatten().unwrap_or_else(|| thread_random() as usize % count)
            }
            Order::Fair | Order::Biased => 0,
        }
    }
}

/// All indices below `count`, from `start` on and around.
fn cyclic(start: usize, count: usize) -> impl Iterator<Item = usize> {
    (start..count).chain(0..start)
}

impl<A: Selectable> Selectable for Option<A> {}

/// An arm with a guard: `None` is never ready.
impl<A: Arm> Arm for Option<A> {
    fn attempt(&self) -> bool {
        self.as_ref().is_some_and(Arm::attempt)
    }

    unsafe fn enter(&self, who: &Caller) -> bool {
        // SAFETY: the caller's promise.
        self.as_ref().is_some_and(|arm| unsafe { arm.enter(who) })
    }

    fn is_woken(&self) -> bool {
        self.as_ref().is_some_and(Arm::is_woken)
    }

    fn leave(&self) {
        if let Some(arm) = self {
            arm.leave();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.as_ref().and_then(Arm::deadline)
    }

    fn descriptor(&self) -> Option<(RawFd, libc::c_short)> {
        self.as_ref().and_then(Arm::descriptor)
    }

    fn is_enabled(&self) -> bool {
        self.as_ref().is_some_and(Arm::is_enabled)
    }
}

impl<A: Operation> Operation for Option<A> {
    type Outcome = A::Outcome;

    fn into_outcome(self) -> A::Outcome {
        self.expect("an arm that is switched off is not chosen").into_outcome()
    }
}
