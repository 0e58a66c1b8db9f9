//! Waiting for a change of what a [`Mutex`] guards.

use std::time::Instant;

use super::wait::{Enter, WaitList, Waited, Wakes, wait};
use super::{MutexGuard, Spin};

/// A condition variable for [`super::Mutex`].
///
/// Releasing the lock and starting to wait are one step: a notification sent by whoever takes the lock next is not
/// missed. Waiters are notified in order of arrival. A waiter does not wake for nothing, but by the time it has the
/// lock again another may have changed the state, so the condition is looked at in a loop (or with
/// [`Condvar::wait_while`]).
///
/// ```
/// use fiber_runtime::sync::{Condvar, Mutex};
///
/// let (ready, changed) = (Mutex::new(false), Condvar::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         *ready.lock() = true;
///         changed.notify_one();
///     });
///     let guard = changed.wait_while(ready.lock(), |ready| !*ready);
///     assert!(*guard);
/// });
/// ```
pub struct Condvar {
    waiters: Spin<WaitList<()>>,
}

impl Condvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Self {
        Self { waiters: Spin::new(WaitList::new()) }
    }

    /// Releases the lock, waits for a notification and takes the lock again.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_deadline(guard, None).0
    }

    /// As [`Condvar::wait`], but at most until `deadline`. The flag is true if the notification came in time.
    pub fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
    ) -> (MutexGuard<'a, T>, bool) {
        self.wait_deadline(guard, Some(deadline))
    }

    /// Waits as long as `condition` is true of the guarded value.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// Waits as long as `condition` is true, at most until `deadline`. The flag is true if it turned false in time.
    pub fn wait_while_until<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Instant,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        let mut in_time = true;
        while condition(&mut guard) {
            if !in_time {
                return (guard, false);
            }
            (guard, in_time) = self.wait_until(guard, deadline);
        }
        (guard, true)
    }

    /// Wakes the one who has waited longest, if anybody waits.
    pub fn notify_one(&self) {
        if let Some(who) = self.waiters.lock(WaitList::notify_front) {
            who.wake();
        }
    }

    /// Wakes everybody who waits now.
    pub fn notify_all(&self) {
        let mut wakes = Wakes::new();
        self.waiters.lock(|waiters| waiters.notify_all(&mut wakes));
        wakes.wake();
    }

    fn wait_deadline<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, T>, bool) {
        let mutex = MutexGuard::mutex(&guard);
        let waited = wait(
            (&self.waiters, |waiters| waiters),
            "condvar",
            (),
            deadline,
            |_, ()| Enter::<()>::Back,
            || drop(guard),
            |waiters, notified, (), wakes| {
                if notified {
                    wakes.push(waiters.notify_front());
                }
            },
        );
        (mutex.lock(), !matches!(waited, Waited::TimedOut(())))
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Condvar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
