//! Fibers that borrow from the function that spawns them.
//!
//! ```text
//!   scope(|scope| { ... scope.spawn(|| uses a borrow) ... })
//!     body                 a panic of it is caught here: no wait may happen while a fiber unwinds
//!     cancel the fibers    if the body panicked, or this fiber is to end
//!     wait for all         whatever happens: this frame owns what they borrow
//!     go on                return, go on with the panic, or end
//! ```
//!
//! Whether a fiber is over is what its keeper counts, not its handle: a handle that is leaked keeps nobody waiting, and
//! its result is then never dropped.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::builder::{FiberBuilder, Placement, Spawner, spawn_unchecked};
use super::cancel::{self, Shield};
use super::join::{JoinError, JoinHandle};
use super::keeper::{Keeper, Members};
use super::{Fiber, SpawnOptions};
use crate::scheduler::shared::SharedRef;
use crate::scheduler::worker::Worker;
use crate::sync::Spin;
use crate::waiter::{self, Waiter, Woken};

/// Runs `body`, which may spawn fibers that borrow what is outside of it, and waits for all of them.
///
/// - If `body` panics, the fibers are cancelled and waited for, and the panic goes on.
/// - If the calling fiber is cancelled, or the deadline of a [`with_deadline`](crate::with_deadline) around it passes,
///   so are they; then it unwinds.
/// - If a fiber panicked and nobody joined it, `scope` panics, after all others have ended.
///
/// ```
/// # let runtime = fiber_runtime::Runtime::builder().workers(2).build().unwrap();
/// # runtime.block_on(|| {
/// let words = ["fibers", "may", "borrow"];
/// let mut first = 0;
/// let total: usize = fiber_runtime::scope(|scope| {
///     let rest = scope.spawn(|| words[1..].iter().map(|word| word.len()).sum::<usize>());
///     scope.spawn(|| first = words[0].len());
///     rest.join().unwrap()
/// });
/// assert_eq!(first + total, 15);
/// # });
/// ```
///
/// What is borrowed must outlive the scope:
///
/// ```compile_fail,E0373
/// # fiber_runtime::Runtime::builder().build().unwrap().block_on(|| {
/// fiber_runtime::scope(|scope| {
///     let inside = 1;
///     scope.spawn(|| assert_eq!(inside, 1));
/// });
/// # });
/// ```
///
/// and a handle does not leave it:
///
/// ```compile_fail
/// # fiber_runtime::Runtime::builder().build().unwrap().block_on(|| {
/// let handle = fiber_runtime::scope(|scope| scope.spawn(|| 1));
/// # });
/// ```
///
/// What is not `Sync` is not shared with fibers that may start elsewhere:
///
/// ```compile_fail,E0277
/// # fiber_runtime::Runtime::builder().build().unwrap().block_on(|| {
/// let cell = std::cell::Cell::new(0);
/// fiber_runtime::scope(|scope| {
///     scope.spawn(|| cell.set(1));
/// });
/// # });
/// ```
///
/// # Panics
/// As above; outside a fiber (enter the runtime with [`Runtime::block_on`](crate::Runtime::block_on), whose closure may
/// borrow as well); in a destructor while its fiber unwinds, where waiting for other fibers would be waiting for ever.
#[track_caller]
pub fn scope<'env, F, T>(body: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    assert!(!std::thread::panicking(), "a scope is entered while its fiber unwinds");
    let shared = Worker::with_current_fiber(|worker, _| worker.shared_ref().clone());
    let shared = shared.expect("fiber_runtime::scope is called in a fiber");
    let core = Arc::new(ScopeCore { state: Spin::new(State::default()), panics: AtomicUsize::new(0) });
    let scope = Scope { core, shared, scope: PhantomData, env: PhantomData };
    // Rule R5 of soundness. Unwind safety is the caller's: the panic goes on.
    let result = catch_unwind(AssertUnwindSafe(|| body(&scope)));
    if result.is_err() {
        scope.cancel();
    }
    let cut_short = scope.core.wait_for_all();
    match result {
        Err(payload) => resume_unwind(payload),
        Ok(value) if cut_short => {
            drop(value);
            cancel::unwind()
        }
        Ok(_) if scope.core.panics.load(Ordering::Relaxed) > 0 => {
            panic!("a fiber of the scope panicked and nobody joined it")
        }
        Ok(value) => value,
    }
}

/// Where the fibers of a [`scope`](scope()) are spawned.
pub struct Scope<'scope, 'env: 'scope> {
    core: Arc<ScopeCore>,
    shared: SharedRef,
    /// Invariant in both: neither lifetime may be shortened or lengthened.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

struct ScopeCore {
    state: Spin<State>,
    /// Fibers that panicked and were not joined.
    panics: AtomicUsize,
}

#[derive(Default)]
struct State {
    members: Members,
    /// The scope's own fiber, once it waits.
    waiting: Option<Waiter>,
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a fiber that the scope waits for. It may start on another worker.
    pub fn spawn<F, T>(&'scope self, body: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_with(FiberBuilder::new(), body)
    }

    /// As [`spawn`](Scope::spawn), with settings.
    ///
    /// # Panics
    /// When the worker asked for does not exist.
    #[track_caller]
    pub fn spawn_with<F, T>(&'scope self, builder: FiberBuilder, body: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let (options, placement) = builder.into_parts();
        self.shared.check_placement(placement);
        let here = Worker::with_current(|worker| Arc::ptr_eq(worker.shared_ref(), &self.shared));
        if here == Some(true) {
            Worker::with_current(|worker| {
                // SAFETY: the bounds of this function; the scope waits for the fiber's end before `'scope` does.
                unsafe { self.spawn_unchecked(&Spawner::Worker(worker), options, placement, body) }
            })
            .expect("the worker was there just now")
        } else {
            // SAFETY: as above.
            unsafe { self.spawn_unchecked(&Spawner::Outside(&self.shared), options, placement, body) }
        }
    }

    /// As [`spawn`](Scope::spawn), on the calling worker; neither the closure nor its result need be `Send`.
    ///
    /// # Panics
    /// On a thread that is not a worker of the scope's runtime.
    #[track_caller]
    pub fn spawn_local<F, T>(&'scope self, body: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let options = SpawnOptions::default();
        Worker::with_current(|worker| {
            assert!(
                Arc::ptr_eq(worker.shared_ref(), &self.shared),
                "spawn_local on another runtime's worker"
            );
            // SAFETY: the fiber stays on this thread; the scope waits for its end before `'scope` does.
            unsafe { self.spawn_unchecked(&Spawner::Worker(worker), options, Placement::Here, body) }
        })
        .expect("Scope::spawn_local is called in a fiber")
    }

    /// Cancels the fibers of the scope, those spawned from now on too. Does not wait.
    pub fn cancel(&self) {
        self.core.cancel();
    }

    /// Whether the fibers were cancelled together.
    pub fn is_cancelled(&self) -> bool {
        self.core.state.lock(|state| state.members.is_cancelled())
    }

    /// How many fibers have not ended.
    pub fn len(&self) -> usize {
        self.core.state.lock(|state| state.members.len())
    }

    /// Whether every fiber spawned so far has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// # Safety
    /// As for [`spawn_unchecked`], with `'scope` for the time until which borrows last.
    unsafe fn spawn_unchecked<F, T>(
        &'scope self,
        spawner: &Spawner<'_>,
        mut options: SpawnOptions,
        placement: Placement,
        body: F,
    ) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
    {
        options.keepers.company = Some(self.core.clone());
        let core = self.core.clone();
        let body = move || match catch_unwind(AssertUnwindSafe(body)) {
            Ok(value) => value,
            Err(payload) => {
                core.note_end(&*payload);
                resume_unwind(payload)
            }
        };
        // SAFETY: the caller's promise.
        let handle = unsafe { spawn_unchecked(spawner, options, placement, body) };
        ScopedJoinHandle { handle, core: self.core.clone(), scope: PhantomData }
    }
}

impl ScopeCore {
    fn cancel(&self) {
        self.state.lock(|state| state.members.cancel()).iter().for_each(Fiber::cancel);
    }

    /// A fiber unwinds with `payload`.
    fn note_end(&self, payload: &(dyn Any + Send)) {
        if !cancel::is_cancellation(payload) {
            // Relaxed: the end of the fiber, which the scope waits for, orders it.
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when every fiber has ended. True: the caller is to end, and the fibers were cancelled for that.
    fn wait_for_all(&self) -> bool {
        let mut shield = None;
        let all_ended = || {
            self.state.lock(|state| {
                // Stored each time: a waiter is used up by its wake.
                state.waiting = (!state.members.is_empty()).then(Waiter::current);
                state.members.is_empty()
            })
        };
        while !all_ended() {
            if waiter::wait("scope", None) == Woken::Cancelled {
                self.cancel();
                shield.get_or_insert_with(Shield::raise);
            }
        }
        shield.is_some()
    }
}

impl Keeper for ScopeCore {
    fn entered(&self, fiber: &Fiber) {
        let fiber = fiber.clone();
        if self.state.lock(|state| state.members.enter(fiber.clone())) {
            fiber.cancel();
        }
    }

    fn ended(&self, id: u64) {
        let (_fiber, waiting) = self.state.lock(|state| {
            let fiber = state.members.leave(id);
            (fiber, if state.members.is_empty() { state.waiting.take() } else { None })
        });
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("fibers", &self.len()).field("cancelled", &self.is_cancelled()).finish()
    }
}

/// The right to wait for a fiber of a [`scope`](scope()) and to take its result. Dropping it leaves the waiting to the
/// scope.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    core: Arc<ScopeCore>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// As [`JoinHandle::join`]. A panic that comes out here no longer makes the scope panic.
    ///
    /// # Errors
    /// As [`JoinHandle::join`].
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        let result = self.handle.join();
        observe(&self.core, &result);
        result
    }

    /// As [`JoinHandle::join_until`].
    ///
    /// # Errors
    /// The handle, when time is up.
    #[track_caller]
    pub fn join_until(self, deadline: Instant) -> Result<Result<T, JoinError>, Self> {
        let ScopedJoinHandle { handle, core, scope } = self;
        match handle.join_until(deadline) {
            Ok(result) => {
                observe(&core, &result);
                Ok(result)
            }
            Err(handle) => Err(ScopedJoinHandle { handle, core, scope }),
        }
    }

    /// As [`JoinHandle::join_timeout`].
    ///
    /// # Errors
    /// The handle, when time is up.
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        match crate::time::now().checked_add(timeout) {
            Some(deadline) => self.join_until(deadline),
            None => Ok(self.join()),
        }
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::cancel`].
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// The fiber.
    pub fn fiber(&self) -> &Fiber {
        self.handle.fiber()
    }
}

/// Somebody has seen the result.
fn observe<T>(core: &ScopeCore, result: &Result<T, JoinError>) {
    if matches!(result, Err(JoinError::Panicked(_))) {
        core.panics.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
