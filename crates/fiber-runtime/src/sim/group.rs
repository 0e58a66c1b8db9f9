//! Groups of fibers that end together: how a simulation crashes a node.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fiber::{Fiber, JoinHandle, Placement, SpawnOptions, Spawner, park, spawn_unchecked};
use crate::scheduler::worker::Worker;
use crate::sync::Spin;

/// The fibers of one simulated machine. Fibers belong to the group of the fiber that spawned them.
///
/// [`cancel`](Group::cancel) is a crash: each fiber ends by unwinding from the suspension it is in and executes nothing
/// after it but destructors.
#[derive(Clone)]
pub struct Group {
    core: Arc<GroupCore>,
}

pub(crate) struct GroupCore {
    name: String,
    cancelled: AtomicBool,
    /// By number, so that a crash reaches them in the same order in every run.
    members: Spin<BTreeMap<u64, Fiber>>,
}

impl GroupCore {
    /// A fiber joins, before it is queued. In a cancelled group it will end without starting.
    pub(crate) fn enter(&self, fiber: &Fiber) {
        let fiber = fiber.clone();
        self.members.lock(|members| members.insert(fiber.id(), fiber.clone()));
        // SeqCst: either `cancel`, which sets the flag before it lists the members, lists this one, or we see the flag.
        if self.cancelled.load(Ordering::SeqCst) {
            fiber.cancel();
        }
    }

    /// A fiber has ended.
    pub(crate) fn leave(&self, id: u64) {
        // Dropped outside the lock: it may be the last reference.
        let _fiber = self.members.lock(|members| members.remove(&id));
    }
}

impl Group {
    /// An empty group.
    pub fn new(name: impl Into<String>) -> Self {
        Group {
            core: Arc::new(GroupCore {
                name: name.into(),
                cancelled: AtomicBool::new(false),
                members: Spin::new(BTreeMap::new()),
            }),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Spawns a fiber into the group, named after it. In a cancelled group it ends without running.
    ///
    /// # Panics
    /// Outside a fiber.
    #[track_caller]
    pub fn spawn<F, T>(&self, body: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let options = SpawnOptions {
            name: Some(self.core.name.clone().into()),
            group: Some(self.core.clone()),
            ..SpawnOptions::default()
        };
        Worker::with_current(|worker| {
            // SAFETY: the bounds of this function.
            unsafe { spawn_unchecked(&Spawner::Worker(worker), options, Placement::Anywhere, body) }
        })
        .expect("Group::spawn is called in a fiber")
    }

    /// Ends every fiber of the group, children included. In a simulation they have ended when this returns; the caller
    /// itself, if it belongs to the group, does not return but unwinds. In a real runtime they end at their next
    /// suspension.
    pub fn cancel(&self) {
        // SeqCst: see `enter`.
        self.core.cancelled.store(true, Ordering::SeqCst);
        let me = crate::fiber::try_current();
        let members: Vec<Fiber> = self.core.members.lock(|members| members.values().cloned().collect());
        for fiber in &members {
            fiber.cancel();
        }
        if !crate::sim::is_simulated() {
            return;
        }
        let others = || {
            self.core.members.lock(|members| {
                members
                    .values()
                    .filter(|fiber| Some(*fiber) != me.as_ref())
                    .map(Fiber::id)
                    .collect::<Vec<u64>>()
            })
        };
        loop {
            let ids = others();
            if ids.is_empty() || me.is_none() || std::thread::panicking() {
                break;
            }
            Worker::with_current(|worker| worker.sim().map(|sim| sim.hurry(ids)));
            park::yield_uncancelled();
        }
        if me.is_some_and(|me| me.header().must_end()) {
            crate::fiber::cancel::unwind();
        }
    }

    /// Whether [`cancel`](Group::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.core.cancelled.load(Ordering::SeqCst)
    }

    /// Fibers that have not ended.
    pub fn len(&self) -> usize {
        self.core.members.lock(|members| members.len())
    }

    /// Whether all fibers have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.core.name)
            .field("fibers", &self.len())
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}
