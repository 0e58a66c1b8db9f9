//! A point that nobody passes before all have come.

use std::fmt;
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

/// Lets a number of fibers and threads meet, again and again.
///
/// Whoever comes waits; the last one lets all go and is the leader of the round. The next round begins at once. Somebody
/// who is cancelled or gives up has not come: the others wait for one more.
///
/// ```
/// use fiber_runtime::sync::Barrier;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let (barrier, leaders) = (Barrier::new(3), AtomicU32::new(0));
/// std::thread::scope(|scope| {
///     for _ in 0..3 {
///         scope.spawn(|| {
///             for _round in 0..2 {
///                 if barrier.wait().is_leader() {
///                     leaders.fetch_add(1, Ordering::Relaxed);
///                 }
///             }
///         });
///     }
/// });
/// assert_eq!(leaders.into_inner(), 2);
/// ```
pub struct Barrier {
    parties: usize,
    state: Spin<State>,
}

/// # Invariants
/// `waiting` is the length of the list, and below the number of parties.
struct State {
    waiting: usize,
    waiters: WaitList<()>,
}

/// How somebody got past a [`Barrier`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierWaitResult {
    leader: bool,
}

impl BarrierWaitResult {
    /// True for one of each round: the one who came last.
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

impl Barrier {
    /// A barrier at which `parties` meet.
    ///
    /// # Panics
    /// If `parties` is zero.
    pub const fn new(parties: usize) -> Self {
        assert!(parties > 0, "a barrier needs at least one party");
        Self { parties, state: Spin::new(State { waiting: 0, waiters: WaitList::new() }) }
    }

    /// Waits for the others.
    pub fn wait(&self) -> BarrierWaitResult {
        self.wait_deadline(None).expect("a wait without a deadline ends with the round")
    }

    /// As [`Barrier::wait`], at most until `deadline`. `None` if the others have not come by then; the round is one
    /// short again.
    pub fn wait_until(&self, deadline: Instant) -> Option<BarrierWaitResult> {
        self.wait_deadline(Some(deadline))
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.state.lock(|state| state.waiting)
    }

    /// How many have to come.
    pub fn parties(&self) -> usize {
        self.parties
    }

    fn wait_deadline(&self, deadline: Option<Instant>) -> Option<BarrierWaitResult> {
        let mut wakes = Wakes::new();
        let waited = wait(
            (&self.state, |state| &mut state.waiters),
            "barrier",
            (),
            deadline,
            |state, ()| {
                if state.waiting + 1 < self.parties {
                    state.waiting += 1;
                    return Enter::Back;
                }
                state.waiting = 0;
                state.waiters.notify_all(&mut wakes);
                Enter::Ready(())
            },
            || {},
            |state, notified, (), _| {
                // The round of somebody who was let go is over; it cannot be made undone.
                if !notified {
                    state.waiting -= 1;
                }
            },
        );
        wakes.wake();
        match waited {
            Waited::Ready(()) => Some(BarrierWaitResult { leader: true }),
            Waited::Notified(()) => Some(BarrierWaitResult { leader: false }),
            Waited::TimedOut(()) => None,
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
