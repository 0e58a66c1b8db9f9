//! Many fibers, joined in the order in which they end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::cancel;
use super::keeper::Keeper;
use super::{Fiber, FiberBuilder, JoinError, JoinHandle};
use crate::runtime::Handle;
use crate::sync::Spin;
use crate::waiter::{self, Waiter, Woken};

/// A set of fibers that hands out their results as they come. Dropping it cancels those that are left, and does not wait
/// for them.
///
/// ```
/// use fiber_runtime::{JoinSet, time};
/// # use std::time::Duration;
///
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// let mut set = JoinSet::new();
/// for millis in [30, 1] {
///     set.spawn(move || { time::sleep(Duration::from_millis(millis)); millis });
/// }
/// let mut order = Vec::new();
/// while let Some(result) = set.join_next() {
///     order.push(result.unwrap());
/// }
/// assert_eq!(order, [1, 30]);
/// # });
/// ```
pub struct JoinSet<T> {
    /// By the fibers' numbers.
    handles: BTreeMap<u64, JoinHandle<T>>,
    core: Arc<SetCore>,
}

/// The set as its fibers see it.
struct SetCore {
    state: Spin<State>,
}

struct State {
    /// Fibers that have ended and were not joined yet, in that order.
    done: VecDeque<u64>,
    /// Who waits in `join_next`; it may name somebody who stopped, to whom the wake is a stray one.
    waiting: Option<Waiter>,
}

impl<T> JoinSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        let state = State { done: VecDeque::new(), waiting: None };
        JoinSet { handles: BTreeMap::new(), core: Arc::new(SetCore { state: Spin::new(state) }) }
    }

    /// Spawns a fiber into the set; see [`spawn`](crate::spawn).
    ///
    /// # Panics
    /// Outside a fiber: use [`spawn_in`](JoinSet::spawn_in) there.
    #[track_caller]
    pub fn spawn<F>(&mut self, body: F) -> Fiber
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_with(FiberBuilder::new(), body)
    }

    /// As [`spawn`](JoinSet::spawn), with settings.
    ///
    /// # Panics
    /// Outside a fiber; when the worker asked for does not exist.
    #[track_caller]
    pub fn spawn_with<F>(&mut self, builder: FiberBuilder, body: F) -> Fiber
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let handle = builder.kept_by(self.core.clone()).spawn(body);
        self.insert(handle)
    }

    /// As [`spawn_with`](JoinSet::spawn_with), on a runtime; from anywhere.
    ///
    /// # Panics
    /// When the worker asked for does not exist.
    #[track_caller]
    pub fn spawn_in<F>(&mut self, runtime: &Handle, builder: FiberBuilder, body: F) -> Fiber
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let handle = runtime.spawn_with(builder.kept_by(self.core.clone()), body);
        self.insert(handle)
    }

    /// Spawns a fiber on the calling worker; see [`spawn_local`](crate::spawn_local).
    ///
    /// # Panics
    /// Outside a fiber.
    #[track_caller]
    pub fn spawn_local<F>(&mut self, body: F) -> Fiber
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let handle = FiberBuilder::new().kept_by(self.core.clone()).spawn_local(body);
        self.insert(handle)
    }

    fn insert(&mut self, handle: JoinHandle<T>) -> Fiber {
        let fiber = handle.fiber().clone();
        self.handles.insert(fiber.id(), handle);
        fiber
    }

    /// How many fibers are in the set: those that run, and those that have ended and were not joined.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there is nothing to join.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// Waits for a fiber to end and takes its result: in the order in which they end. `None`: the set is empty.
    ///
    /// If the wait is unwound, by cancellation or a deadline, nothing is lost from the set.
    pub fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.next(None).map(|(_, result)| result)
    }

    /// As [`join_next`](JoinSet::join_next), and says which fiber it was by its number.
    pub fn join_next_with_id(&mut self) -> Option<(u64, Result<T, JoinError>)> {
        self.next(None)
    }

    /// As [`join_next`](JoinSet::join_next), at most until `deadline`. `None`: the set is empty, which
    /// [`is_empty`](JoinSet::is_empty) tells, or time is up.
    pub fn join_next_until(&mut self, deadline: Instant) -> Option<Result<T, JoinError>> {
        self.next(Some(deadline)).map(|(_, result)| result)
    }

    /// Takes the result of a fiber that has ended, if there is one.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let id = self.core.state.lock(|state| state.done.pop_front())?;
        Some(self.take(id))
    }

    /// Cancels every fiber of the set; they are still to be joined. See [`Fiber::cancel`].
    #[doc(alias = "abort_all")]
    pub fn cancel_all(&self) {
        self.handles.values().for_each(JoinHandle::cancel);
    }

    /// Cancels every fiber and waits until all have ended. Results are dropped.
    pub fn shutdown(&mut self) {
        self.cancel_all();
        while self.join_next().is_some() {}
    }

    /// Lets every fiber run on without the set.
    pub fn detach_all(&mut self) {
        // A new core: those that leave must not report to a set that no longer knows them.
        let left = std::mem::take(self);
        left.into_handles().into_values().for_each(JoinHandle::detach);
    }

    fn into_handles(mut self) -> BTreeMap<u64, JoinHandle<T>> {
        std::mem::take(&mut self.handles)
    }

    fn next(&mut self, deadline: Option<Instant>) -> Option<(u64, Result<T, JoinError>)> {
        let mut timed_out = false;
        while !self.is_empty() {
            let (done, before) = self.core.state.lock(|state| match state.done.pop_front() {
                Some(id) => (Some(id), state.waiting.take()),
                None => (None, state.waiting.replace(Waiter::current())),
            });
            // Dropped outside the lock.
            drop(before);
            if let Some(id) = done {
                return Some((id, self.take(id)));
            }
            if timed_out {
                return None;
            }
            match waiter::wait("join set", deadline) {
                Woken::Signal => {}
                Woken::TimedOut => timed_out = true,
                Woken::Cancelled => cancel::unwind(),
            }
        }
        None
    }

    fn take(&mut self, id: u64) -> Result<T, JoinError> {
        let handle = self.handles.remove(&id).expect("who has ended was in the set");
        debug_assert!(handle.is_finished());
        handle.into_result()
    }
}

impl Keeper for SetCore {
    fn entered(&self, _fiber: &Fiber) {}

    fn ended(&self, id: u64) {
        let waiting = self.state.lock(|state| {
            state.done.push_back(id);
            state.waiting.take()
        });
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        JoinSet::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("fibers", &self.len()).finish_non_exhaustive()
    }
}
