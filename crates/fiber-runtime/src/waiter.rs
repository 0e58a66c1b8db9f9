//! Who waits: a fiber or a plain thread. The one primitive under every lock, channel and join.
//!
//! A wait in this crate is always the same loop: put a [`Waiter`] where the other side finds it, then call [`wait`]
//! until the condition holds. `wait` may return early (a stale wake), never late: a wake that comes before it is kept.
//! It is separate from the user's `park` token, so a lock inside a library does not swallow somebody's `unpark`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread::Thread;
use std::time::Instant;

use crate::fiber::Fiber;
use crate::fiber::deadline as limit;
use crate::fiber::header::{Header, handle};
use crate::fiber::park;
use crate::fiber::wake::Signals;
use crate::scheduler::worker::Worker;

/// Something that can be woken from anywhere.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    /// A fiber in [`wait`].
    Fiber(Fiber),
    /// A plain thread in [`wait`].
    Thread(Thread),
    /// A plain thread that polls descriptors, among them this eventfd.
    Event(Arc<OwnedFd>),
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Waiter) -> bool {
        match (self, other) {
            (Waiter::Fiber(one), Waiter::Fiber(other)) => one == other,
            (Waiter::Thread(one), Waiter::Thread(other)) => one.id() == other.id(),
            (Waiter::Event(one), Waiter::Event(other)) => Arc::ptr_eq(one, other),
            (Waiter::Fiber(_) | Waiter::Thread(_) | Waiter::Event(_), _) => false,
        }
    }
}

/// A fiber or thread that stands in a queue, as its node there knows it: uncounted, because whoever stands in a queue
/// is alive until it is taken out. Standing and being woken on one worker then costs no atomic operation.
#[derive(Clone, Debug)]
pub(crate) enum Sleeper {
    /// A fiber in [`wait`], or about to be.
    Fiber(NonNull<Header>),
    /// A plain thread in [`wait`], or about to be.
    Thread(Thread),
    /// A plain thread that polls descriptors, among them this eventfd, or is about to.
    Event(Arc<OwnedFd>),
}

impl Sleeper {
    /// The calling fiber, or the calling thread when it is not in one.
    #[inline(always)]
    pub(crate) fn current() -> Sleeper {
        match Worker::with_current_fiber(|_, fiber| NonNull::from(fiber)) {
            Some(fiber) => Sleeper::Fiber(fiber),
            None => Sleeper::Thread(std::thread::current()),
        }
    }

    /// Wakes a fiber of the calling worker. For anybody else, gives the handle to wake it with once no lock is held.
    ///
    /// # Safety
    /// The sleeper's wait has not returned, and cannot before the caller lets it: its node has not been told yet, and
    /// the lock of its queue is held.
    #[inline(always)]
    pub(crate) unsafe fn wake_or_handle(self) -> Option<Waiter> {
        match self {
            Sleeper::Fiber(fiber) => {
                // SAFETY: the caller's promise: the fiber has not ended.
                if unsafe { Fiber::wake_if_local(fiber) } {
                    return None;
                }
                // SAFETY: as above.
                Some(Waiter::Fiber(unsafe { handle(fiber) }))
            }
            Sleeper::Thread(thread) => Some(Waiter::Thread(thread)),
            Sleeper::Event(event) => Some(Waiter::Event(event)),
        }
    }
}

/// Why [`wait`] returned.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// A wake, perhaps a stale one: look at the condition again.
    Signal,
    /// The deadline has passed.
    TimedOut,
    /// The fiber was cancelled, or the deadline of a scope around the wait has passed: clean up, then
    /// [`crate::fiber::cancel::unwind`], which tells the two apart (or report it, in a hook).
    Cancelled,
}

impl Waiter {
    /// The calling fiber, or the calling thread when it is not in one.
    #[inline]
    pub(crate) fn current() -> Waiter {
        match crate::fiber::try_current() {
            Some(fiber) => Waiter::Fiber(fiber),
            None => Waiter::Thread(std::thread::current()),
        }
    }

    /// Ends the wait, now or, if it has not begun, as soon as it begins.
    #[inline]
    pub(crate) fn wake(&self) {
        match self {
            Waiter::Fiber(fiber) => fiber.wake(),
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Event(event) => crate::sys::eventfd_signal(event.as_raw_fd()),
        }
    }
}

/// Waits for [`Waiter::wake`] of the calling fiber or thread. `label` says in a dump what it waits for.
///
/// Never unwinds. A fiber that is unwinding (its destructors wait for something) blocks its thread for real instead of
/// switching, because std counts panics per thread.
#[inline(always)]
pub(crate) fn wait(label: &'static str, deadline: Option<Instant>) -> Woken {
    // SAFETY: the references end with this function.
    match unsafe { Worker::current_fiber() } {
        Some((worker, fiber)) => park::wait(worker, fiber, Signals::EVENT, label, deadline),
        None => wait_thread(deadline),
    }
}

/// As [`wait`], but neither the fiber's cancellation nor the deadline of a scope ends it. In a fiber.
#[cfg(feature = "hook")]
#[inline(always)]
pub(crate) fn wait_uncancelled(label: &'static str, deadline: Option<Instant>) -> Woken {
    // SAFETY: the references end with this function.
    match unsafe { Worker::current_fiber() } {
        Some((worker, fiber)) => park::wait_uncancelled(worker, fiber, Signals::EVENT, label, deadline),
        None => unreachable!("a thread waits in the kernel"),
    }
}

#[cold]
fn wait_thread(deadline: Option<Instant>) -> Woken {
    let (deadline, is_limit) = limit::bound(deadline);
    match deadline {
        None => std::thread::park(),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return if is_limit { Woken::Cancelled } else { Woken::TimedOut };
            }
            std::thread::park_timeout(left);
        }
    }
    Woken::Signal
}
