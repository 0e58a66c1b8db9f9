//! Making fibers.

use std::borrow::Cow;
use std::sync::Arc;

use super::header::{Block, Unstarted};
use super::join::JoinHandle;
use super::keeper::{Keeper, Keepers};
use super::priority::Priority;
use super::{CancelToken, Fiber};
use crate::scheduler::balance::Arrival;
use crate::scheduler::ids;
use crate::scheduler::shared::Shared;
use crate::scheduler::worker::Worker;
use crate::sim::group::GroupCore;
use crate::stack;

/// Where a new fiber may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// On any worker.
    Anywhere,
    /// On the calling worker.
    Here,
    /// On this worker.
    On(usize),
}

/// What a new fiber is given besides its closure.
#[derive(Default)]
pub(crate) struct SpawnOptions {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) stack_size: Option<usize>,
    /// The group it joins; without one, its parent's.
    pub(crate) group: Option<Arc<GroupCore>>,
    /// Who is told of its start and end.
    pub(crate) keepers: Keepers,
    pub(crate) priority: Priority,
    /// Whether its libc calls are plain system calls, although those of its runtime's fibers are hooked.
    pub(crate) plain_calls: bool,
}

/// Who spawns.
pub(crate) enum Spawner<'a> {
    /// A worker's thread: a fiber of it, or the simulator.
    Worker(&'a Worker),
    /// A thread that is not a worker of this runtime.
    Outside(&'a Shared),
}

/// Spawns a fiber, without the bounds that make it safe.
///
/// # Safety
/// With a placement other than `Here` on a worker, `body` and `T` may be used on another thread: `body` must be `Send`
/// and `T` `Send`. What `body` borrows must outlive the fiber: both are `'static`, or the caller joins the fiber before
/// the borrow ends and cannot return without.
#[inline]
pub(crate) unsafe fn spawn_unchecked<F, T>(
    spawner: &Spawner<'_>,
    options: SpawnOptions,
    placement: Placement,
    body: F,
) -> JoinHandle<T>
where
    F: FnOnce() -> T,
{
    let SpawnOptions { name, stack_size, mut group, keepers, priority, plain_calls } = options;
    let (shared, id) = match spawner {
        Spawner::Worker(worker) => {
            if group.is_none() {
                group = worker.current_group();
            }
            (worker.shared(), worker.next_fiber_id())
        }
        Spawner::Outside(shared) => (*shared, ids::next_fiber_id()),
    };
    let class = stack_size.map_or(shared.config().stack_class, stack::class_of);
    let header = Block::allocate(body, id, name, class, group);
    // SAFETY: allocated just now; the second reference is the handle's.
    let handle = unsafe { JoinHandle::from_counted(header) };
    if plain_calls || !shared.config().hooks {
        handle.fiber().header().hooks_off.set(1);
    }
    // SAFETY: the block is alive and of this thread alone.
    if let Some(group) = &unsafe { header.as_ref() }.group {
        group.enter(handle.fiber());
    }
    if !keepers.is_empty() {
        introduce(handle.fiber(), keepers);
    }
    let placement = match priority {
        Priority::Normal => placement,
        Priority::High | Priority::Low => hint(handle.fiber(), priority, spawner, placement),
    };
    match spawner {
        Spawner::Worker(worker) => worker.place(Unstarted(header), placement),
        Spawner::Outside(shared) => shared.place(Unstarted(header), placement),
    }
    handle
}

/// Makes a new fiber and its keepers known to each other.
#[cold]
fn introduce(fiber: &Fiber, keepers: Keepers) {
    keepers.enter(fiber);
    fiber.header().extras().set_keepers(keepers);
}

/// Notes a new fiber's hint of priority; returns where it may start. An urgent one is not to lie in a deque of fibers that
/// anybody may take some time.
#[cold]
fn hint(fiber: &Fiber, priority: Priority, spawner: &Spawner<'_>, placement: Placement) -> Placement {
    fiber.header().extras().priority.set(priority);
    if priority == Priority::Low {
        fiber.header().attention.set_low();
    }
    match (priority, placement, spawner) {
        (Priority::High, Placement::Anywhere, Spawner::Worker(_)) => Placement::Here,
        (Priority::High, Placement::Anywhere, Spawner::Outside(shared)) => Placement::On(shared.choose()),
        (_, placement, _) => placement,
    }
}

/// Settings for one fiber.
///
/// ```
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// let handle = fiber_runtime::FiberBuilder::new().name("parser").stack_size(256 * 1024).spawn(|| 6 * 7);
/// assert_eq!(handle.fiber().name(), Some("parser"));
/// assert_eq!(handle.join().unwrap(), 42);
/// # });
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until `spawn`"]
pub struct FiberBuilder {
    options: SpawnOptions,
    worker: Option<usize>,
    balanced: bool,
}

impl FiberBuilder {
    /// Settings at their defaults: no name, the runtime's stack size, any worker, normal priority.
    pub fn new() -> Self {
        FiberBuilder::default()
    }

    /// A name, for overflow reports, panics, dumps and the report of [`Runtime::stop`](crate::Runtime::stop).
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Bytes of stack, the guard page not counted; rounded up to a power of two between 16 KiB and 64 MiB. Only what is
    /// touched costs memory.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.options.stack_size = Some(bytes);
        self
    }

    /// The worker to run on, from 0.
    pub fn worker(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Starts the fiber on the worker that has least to do now, and not on any: for one that will live long, such as that of a
    /// connection. A fiber stays where it starts, and stealing helps only those that have not. A fiber spawned with a
    /// worker of its own, with `spawn_local` or in a scope is not placed by load.
    ///
    /// ```
    /// # let runtime = fiber_runtime::Runtime::builder().workers(2).build().unwrap();
    /// # runtime.block_on(|| {
    /// let session = fiber_runtime::FiberBuilder::new().name("session").balanced().spawn(|| "served");
    /// assert_eq!(session.join().unwrap(), "served");
    /// # });
    /// ```
    pub fn balanced(mut self) -> Self {
        self.balanced = true;
        self
    }

    /// The place that the load says, if it was asked.
    pub(crate) fn find_place(&mut self, shared: &Shared) -> Option<Arrival> {
        let arrival = (self.balanced && self.worker.is_none()).then(|| shared.least_loaded())?;
        self.worker = Some(arrival.worker());
        Some(arrival)
    }

    /// How urgent it is. Default: [`Priority::Normal`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = priority;
        self
    }

    /// Whether the libc calls that the fiber makes are hooked ([`hook`](crate::hook)), so that they park it. Default: as the
    /// runtime's ([`Builder::hooks`](crate::Builder::hooks)). Without, what blocks in them blocks the worker.
    pub fn hooks(mut self, hooks: bool) -> Self {
        self.options.plain_calls = !hooks;
        self
    }

    /// A token that cancels the fiber: at once if it was cancelled already, so that the fiber never starts.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.options.keepers.token = Some(token.keeper());
        self
    }

    /// A set that the fiber belongs to.
    pub(super) fn kept_by(mut self, company: Arc<dyn Keeper>) -> Self {
        self.options.keepers.company = Some(company);
        self
    }

    /// Spawns on the current runtime.
    ///
    /// # Panics
    /// Outside a fiber; when the worker does not exist.
    #[track_caller]
    pub fn spawn<F, T>(self, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Worker::with_current(|worker| self.spawn_by(&Spawner::Worker(worker), body))
            .expect("a fiber is spawned from a fiber, or with Runtime::spawn or Handle::spawn from elsewhere")
    }

    /// Spawns on the calling worker, which need not be able to send the closure or its result anywhere.
    ///
    /// # Panics
    /// Outside a fiber; when another worker was asked for.
    #[track_caller]
    pub fn spawn_local<F, T>(self, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        Worker::with_current(|worker| {
            assert!(
                self.worker.is_none_or(|wanted| wanted == worker.index()),
                "spawn_local on worker {} cannot spawn on worker {:?}",
                worker.index(),
                self.worker
            );
            // SAFETY: `'static`, and the fiber stays on this thread; the handle is `Send` only if `T` is.
            unsafe { spawn_unchecked(&Spawner::Worker(worker), self.options, Placement::Here, body) }
        })
        .expect("spawn_local is called in a fiber")
    }

    /// Spawns for `spawner`, where the settings say.
    ///
    /// # Panics
    /// When the worker does not exist.
    #[track_caller]
    #[inline]
    pub(crate) fn spawn_by<F, T>(mut self, spawner: &Spawner<'_>, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = match spawner {
            Spawner::Worker(worker) => worker.shared(),
            Spawner::Outside(shared) => shared,
        };
        let arrival = self.find_place(shared);
        let (options, placement) = self.into_parts();
        shared.check_placement(placement);
        match arrival {
            // SAFETY: the bounds of this function.
            None => unsafe { spawn_unchecked(spawner, options, placement, body) },
            Some(arrival) => {
                let body = move || {
                    drop(arrival);
                    body()
                };
                // SAFETY: as above.
                unsafe { spawn_unchecked(spawner, options, placement, body) }
            }
        }
    }

    pub(crate) fn into_parts(self) -> (SpawnOptions, Placement) {
        (self.options, self.worker.map_or(Placement::Anywhere, Placement::On))
    }
}
