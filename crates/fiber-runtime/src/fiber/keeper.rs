//! Who keeps count of a fiber: a scope that must not end before it, a set that hands out its result, a token that
//! cancels it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Fiber;

/// Keeps fibers. Told of each before it can run and after it has ended.
pub(crate) trait Keeper: Send + Sync {
    /// A new fiber, not yet in any queue.
    fn entered(&self, fiber: &Fiber);

    /// The fiber is over: its closure, its locals, and its result unless a handle has it, are gone. Called on the
    /// fiber's own stack, or where a fiber that never started is dropped. Must not unwind.
    fn ended(&self, id: u64);
}

/// The keepers of one fiber.
#[derive(Default)]
pub(crate) struct Keepers {
    /// A token.
    pub(crate) token: Option<Arc<dyn Keeper>>,
    /// A scope or a set.
    pub(crate) company: Option<Arc<dyn Keeper>>,
}

impl Keepers {
    pub(super) fn is_empty(&self) -> bool {
        self.token.is_none() && self.company.is_none()
    }

    pub(super) fn enter(&self, fiber: &Fiber) {
        self.each(|keeper| keeper.entered(fiber));
    }

    pub(super) fn leave(self, id: u64) {
        // The scope last: from then on, what the fiber borrowed may be gone.
        self.each(|keeper| keeper.ended(id));
    }

    fn each(&self, tell: impl Fn(&dyn Keeper)) {
        [&self.token, &self.company].into_iter().flatten().for_each(|keeper| tell(&**keeper));
    }
}

/// Fibers that can be cancelled together, by number, so that a simulation reaches them in the same order in every run.
#[derive(Default)]
pub(super) struct Members {
    fibers: BTreeMap<u64, Fiber>,
    cancelled: bool,
}

impl Members {
    pub(super) const fn new() -> Self {
        Members { fibers: BTreeMap::new(), cancelled: false }
    }

    /// True: everybody was cancelled before, and so is this one to be, once the lock around this is released.
    #[must_use]
    pub(super) fn enter(&mut self, fiber: Fiber) -> bool {
        self.fibers.insert(fiber.id(), fiber);
        self.cancelled
    }

    /// What comes back is dropped once the lock around this is released.
    #[must_use]
    pub(super) fn leave(&mut self, id: u64) -> Option<Fiber> {
        self.fibers.remove(&id)
    }

    /// Who is to be cancelled, once the lock around this is released.
    #[must_use]
    pub(super) fn cancel(&mut self) -> Vec<Fiber> {
        self.cancelled = true;
        self.fibers.values().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fibers.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.fibers.len()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}
