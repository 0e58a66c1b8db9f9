//! A counter of permits: a limit on how many do something at the same time, or how many bytes are in flight.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

/// A number of permits that callers take and give back.
///
/// First come, first served: whoever asks for many permits is not overtaken by those who ask for few.
///
/// ```
/// use fiber_runtime::sync::Semaphore;
///
/// let connections = Semaphore::new(1);
/// let permit = connections.acquire();
/// assert!(connections.try_acquire().is_none());
/// drop(permit);
/// assert!(connections.try_acquire().is_some());
/// ```
pub struct Semaphore {
    state: Spin<State>,
}

struct State {
    permits: usize,
    /// Each payload is the number of permits that the waiter wants.
    waiters: WaitList<usize>,
}

impl State {
    fn take(&mut self, count: usize) -> bool {
        let enough = self.waiters.is_empty() && self.permits >= count;
        if enough {
            self.permits -= count;
        }
        enough
    }

    fn give_back(&mut self, count: usize, wakes: &mut Wakes) {
        self.permits = self.permits.checked_add(count).expect("the number of permits fits a usize");
        while let Some(&mut wanted) = self.waiters.front() {
            if wanted > self.permits {
                return;
            }
            self.permits -= wanted;
            wakes.push(self.waiters.notify_front());
        }
    }
}

impl Semaphore {
    /// A semaphore with so many permits free.
    pub const fn new(permits: usize) -> Self {
        Self { state: Spin::new(State { permits, waiters: WaitList::new() }) }
    }

    /// Waits for one permit.
    pub fn acquire(&self) -> Permit<'_> {
        self.acquire_many(1)
    }

    /// Waits for `count` permits at once. More than there ever are would wait for ever.
    pub fn acquire_many(&self, count: usize) -> Permit<'_> {
        let taken = self.take(count, None);
        debug_assert!(taken, "a wait without a deadline ends with the permits");
        Permit { semaphore: self, count }
    }

    /// Waits for one permit until `deadline`.
    pub fn acquire_until(&self, deadline: Instant) -> Option<Permit<'_>> {
        self.acquire_many_until(1, deadline)
    }

    /// Waits for `count` permits at once until `deadline`.
    pub fn acquire_many_until(&self, count: usize, deadline: Instant) -> Option<Permit<'_>> {
        self.take(count, Some(deadline)).then(|| Permit { semaphore: self, count })
    }

    /// Takes a permit if one is free and nobody waits for it.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes `count` permits if they are free and nobody waits for them.
    pub fn try_acquire_many(&self, count: usize) -> Option<Permit<'_>> {
        self.state.lock(|state| state.take(count)).then(|| Permit { semaphore: self, count })
    }

    /// As [`Semaphore::acquire`], with a permit that may move into another fiber.
    pub fn acquire_owned(self: &Arc<Self>) -> OwnedPermit {
        self.acquire_many_owned(1)
    }

    /// As [`Semaphore::acquire_many`], with permits that may move into another fiber.
    pub fn acquire_many_owned(self: &Arc<Self>, count: usize) -> OwnedPermit {
        let taken = self.take(count, None);
        debug_assert!(taken, "a wait without a deadline ends with the permits");
        OwnedPermit { semaphore: Arc::clone(self), count }
    }

    /// As [`Semaphore::acquire_many_owned`], at most until `deadline`.
    pub fn acquire_many_owned_until(
        self: &Arc<Self>,
        count: usize,
        deadline: Instant,
    ) -> Option<OwnedPermit> {
        self.take(count, Some(deadline)).then(|| OwnedPermit { semaphore: Arc::clone(self), count })
    }

    /// As [`Semaphore::try_acquire`], with a permit that may move into another fiber.
    pub fn try_acquire_owned(self: &Arc<Self>) -> Option<OwnedPermit> {
        self.try_acquire_many_owned(1)
    }

    /// As [`Semaphore::try_acquire_many`], with permits that may move into another fiber.
    pub fn try_acquire_many_owned(self: &Arc<Self>, count: usize) -> Option<OwnedPermit> {
        self.state.lock(|state| state.take(count)).then(|| OwnedPermit { semaphore: Arc::clone(self), count })
    }

    /// Adds permits: those of a [`Permit::keep`], or new ones.
    pub fn release(&self, count: usize) {
        let mut wakes = Wakes::new();
        self.state.lock(|state| state.give_back(count, &mut wakes));
        wakes.wake();
    }

    /// How many permits are free now.
    pub fn available(&self) -> usize {
        self.state.lock(|state| state.permits)
    }

    fn take(&self, count: usize, deadline: Option<Instant>) -> bool {
        let waited = wait(
            (&self.state, |state| &mut state.waiters),
            "semaphore",
            count,
            deadline,
            |state, _| match state.take(count) {
                true => Enter::Ready(()),
                false => Enter::Back,
            },
            || {},
            |state, notified, _, wakes| {
                // Also without permits to return: a waiter that leaves may have held up those behind it.
                state.give_back(if notified { count } else { 0 }, wakes);
            },
        );
        !matches!(waited, Waited::TimedOut(_))
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`], given back on drop.
#[must_use = "the permits are given back at once if this is not kept"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Permit<'_> {
    /// Does not give the permits back. [`Semaphore::release`] can, later and from anywhere.
    pub fn keep(mut self) {
        self.count = 0;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.semaphore.release(self.count);
        }
    }
}

/// Permits that own their share of the [`Semaphore`], given back on drop.
#[must_use = "the permits are given back at once if this is not kept"]
#[derive(Debug)]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    count: usize,
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}
