//! A value whose changes can be waited for: the one way in which fibers of this crate wait for each other, apart from
//! replies.
//!
//! The value sits under a [`Spin`], so that it can be changed from anywhere, a `Drop` during a panic included; waiting is a
//! oneshot per waiter, so that fibers and plain threads can both wait.

use std::time::Instant;

use fiber_runtime::sync::{Spin, oneshot};

pub(crate) struct Watch<T> {
    inner: Spin<Inner<T>>,
}

struct Inner<T> {
    value: T,
    waiters: Vec<oneshot::Sender<()>>,
}

impl<T> Watch<T> {
    pub(crate) fn new(value: T) -> Watch<T> {
        Watch { inner: Spin::new(Inner { value, waiters: Vec::new() }) }
    }

    /// Looks at the value. `look` must be short and must not suspend.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        self.inner.lock(|inner| look(&inner.value))
    }

    /// Changes the value and wakes everybody who waits.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let (result, waiters) = self.inner.lock(|inner| {
            let result = change(&mut inner.value);
            (result, std::mem::take(&mut inner.waiters))
        });
        // The wakes happen here, outside the lock.
        drop(waiters);
        result
    }

    /// Changes the value; wakes everybody only if `change` says so.
    pub(crate) fn update_if<R>(&self, change: impl FnOnce(&mut T) -> (R, bool)) -> R {
        let (result, waiters) = self.inner.lock(|inner| {
            let (result, wake) = change(&mut inner.value);
            (result, if wake { std::mem::take(&mut inner.waiters) } else { Vec::new() })
        });
        drop(waiters);
        result
    }

    /// Waits until `ready` finds what it looks for. `None` once `deadline` has passed.
    pub(crate) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let mut timed_out = false;
        loop {
            let waiting = self.inner.lock(|inner| {
                if let Some(found) = ready(&mut inner.value) {
                    return Err(Some(found));
                }
                if timed_out {
                    return Err(None);
                }
                // Those who gave up have left their senders behind.
                inner.waiters.retain(|waiter| !waiter.is_closed());
                let (sender, receiver) = oneshot::channel();
                inner.waiters.push(sender);
                Ok(receiver)
            });
            match waiting {
                Err(outcome) => return outcome,
                // A waker drops the sender, which ends the wait as "closed".
                Ok(receiver) => match deadline {
                    None => {
                        let _ = receiver.recv();
                    }
                    Some(deadline) => {
                        let _ = receiver.recv_until(deadline);
                        timed_out = fiber_runtime::time::now() >= deadline;
                    }
                },
            }
        }
    }
}
