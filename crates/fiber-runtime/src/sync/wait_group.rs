//! Waiting until a set of tasks is done.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

/// A count of tasks under way, and a way to wait until there are none.
///
/// Clones share the count. A task holds a [`WaitToken`], so it is counted out also when it panics or is cancelled.
///
/// ```
/// use fiber_runtime::sync::WaitGroup;
///
/// let group = WaitGroup::new();
/// for _ in 0..3 {
///     let token = group.enter();
///     std::thread::spawn(move || drop(token));
/// }
/// group.wait();
/// assert_eq!(group.count(), 0);
/// ```
#[derive(Clone)]
pub struct WaitGroup {
    state: Arc<Spin<State>>,
}

struct State {
    count: usize,
    waiters: WaitList<()>,
}

impl WaitGroup {
    /// A group without tasks.
    pub fn new() -> Self {
        Self { state: Arc::new(Spin::new(State { count: 0, waiters: WaitList::new() })) }
    }

    /// Counts one task in; it is counted out when the token drops.
    pub fn enter(&self) -> WaitToken {
        self.add(1);
        WaitToken { group: self.clone() }
    }

    /// Counts `count` tasks in, to be counted out by [`WaitGroup::done`].
    pub fn add(&self, count: usize) {
        self.state
            .lock(|state| state.count = state.count.checked_add(count).expect("the task count fits a usize"));
    }

    /// Counts one task out.
    ///
    /// # Panics
    /// If no task is counted in.
    pub fn done(&self) {
        let mut wakes = Wakes::new();
        let counted = self.state.lock(|state| {
            let Some(left) = state.count.checked_sub(1) else { return false };
            state.count = left;
            if left == 0 {
                state.waiters.notify_all(&mut wakes);
            }
            true
        });
        wakes.wake();
        assert!(counted, "WaitGroup::done was called more often than tasks were added");
    }

    /// How many tasks are under way.
    pub fn count(&self) -> usize {
        self.state.lock(|state| state.count)
    }

    /// Waits until no task is under way. Those who wait are let go the moment the count reaches zero, even if tasks
    /// are added right after.
    pub fn wait(&self) {
        self.wait_deadline(None);
    }

    /// As [`WaitGroup::wait`], at most until `deadline`. False if tasks were still under way then.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.wait_deadline(Some(deadline))
    }

    fn wait_deadline(&self, deadline: Option<Instant>) -> bool {
        let waited = wait(
            (&self.state, |state| &mut state.waiters),
            "wait group",
            (),
            deadline,
            |state, ()| match state.count {
                0 => Enter::Ready(()),
                _ => Enter::Back,
            },
            || {},
            |_, _, (), _| {},
        );
        !matches!(waited, Waited::TimedOut(()))
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// One task of a [`WaitGroup`], counted out on drop.
#[must_use = "the task is counted out at once if the token is not kept"]
#[derive(Debug)]
pub struct WaitToken {
    group: WaitGroup,
}

impl Drop for WaitToken {
    fn drop(&mut self) {
        self.group.done();
    }
}
