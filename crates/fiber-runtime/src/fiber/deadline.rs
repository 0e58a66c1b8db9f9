//! Deadlines for everything that a piece of code does, however deep in its calls the waiting happens.
//!
//! A scope narrows the *limit* of its fiber (or plain thread): the earliest deadline of the scopes it is in, and whose it
//! is. Every wait looks at the limit ([`super::park`]); one that ends because of it tells its caller:
//!
//! ```text
//!   a native call that returns io::Result     fails with TimedOut around `Elapsed`, once a scope; the next one unwinds
//!   any other native wait (sleep, lock, ...)  unwinds to the scope, which returns Err(Elapsed)
//!   a hooked libc call                        fails as if its own time-out had passed; nothing unwinds through it
//! ```
//!
//! The payload that unwinds names its scope, so that it passes through inner ones and stops at the right one.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::scheduler::worker::Worker;
use crate::time::{self, Clock};

/// The deadline of a [`with_deadline`] has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct Elapsed;

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `body`; from `deadline` on (of [`time::now`](crate::time::now)'s clock), nothing in it waits any longer.
///
/// - A native call that returns `io::Result` fails with [`TimedOut`](io::ErrorKind::TimedOut), also when it would not
///   have had to wait. The second one after the deadline unwinds, so that loops that ignore errors end.
/// - Any other wait (sleep, park, join, a lock, a channel) unwinds `body`, running destructors. A wait with a deadline
///   of its own reports that if it is the earlier one.
/// - A hooked libc call fails as if a time-out of its own had passed: `EAGAIN` (std's `WouldBlock`) for sockets and
///   pipes, `EINPROGRESS` for `connect`, 0 for `poll`; a sleep ends early. It never unwinds. Plain system calls, and the
///   hooks outside fibers, know nothing of the scope.
/// - Code that does not wait is not interrupted; [`yield_now`](crate::yield_now) counts as a wait.
///
/// In a scope within a scope the earlier deadline counts, and `Err(Elapsed)` comes out of the one whose it was. Fibers
/// that `body` spawns are not bound by it, except those of a [`scope`](crate::scope()), which are cancelled when the
/// deadline ends the wait for them. A body that catches all panics is unwound again by its next wait.
///
/// Works on plain threads as well.
///
/// ```
/// use fiber_runtime::{Elapsed, sync::Semaphore, with_timeout};
/// # use std::time::Duration;
///
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// let none = Semaphore::new(0);
/// let outcome = with_timeout(Duration::from_millis(5), || { let _permit = none.acquire(); });
/// assert_eq!(outcome, Err(Elapsed));
/// # });
/// ```
///
/// # Errors
/// `Elapsed`, if `body` was unwound. A body that notices the deadline by an error returns what it likes.
pub fn with_deadline<T>(deadline: Instant, body: impl FnOnce() -> T) -> Result<T, Elapsed> {
    static NEXT_SCOPE: AtomicU64 = AtomicU64::new(1);

    let scope = NEXT_SCOPE.fetch_add(1, Ordering::Relaxed);
    let saved = Saved::narrow(Clock::new().nanos(deadline), scope);
    // Unwind safety is the caller's: what was unwound is over, and its remains are as after any panic.
    let result = catch_unwind(AssertUnwindSafe(body));
    drop(saved);
    result.or_else(|payload| match payload.downcast::<Unwinding>() {
        Ok(unwinding) if unwinding.scope == scope => Err(Elapsed),
        Ok(unwinding) => resume_unwind(unwinding),
        Err(payload) => resume_unwind(payload),
    })
}

/// As [`with_deadline`], from now. A timeout that no clock can express is none.
///
/// # Errors
/// As [`with_deadline`].
pub fn with_timeout<T>(timeout: Duration, body: impl FnOnce() -> T) -> Result<T, Elapsed> {
    match time::now().checked_add(timeout) {
        Some(deadline) => with_deadline(deadline, body),
        None => Ok(body()),
    }
}

/// The deadline that bounds the caller, if one does.
pub fn current_deadline() -> Option<Instant> {
    with_limits(|limits| limits.get()).map(|until| Clock::new().instant(until))
}

/// The payload that unwinds a scope.
struct Unwinding {
    scope: u64,
}

/// Whether a payload is that of a deadline, and no panic.
pub(super) fn is_unwinding(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Unwinding>()
}

/// The limit of a fiber or a plain thread.
pub(super) struct Limits {
    /// Nanoseconds of the workers' clock; `u64::MAX` is never.
    until: Cell<u64>,
    /// Whose deadline that is.
    scope: Cell<u64>,
    /// An I/O call in that scope has failed because of it.
    told: Cell<bool>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new()
    }
}

impl Limits {
    const fn new() -> Self {
        Limits { until: Cell::new(u64::MAX), scope: Cell::new(0), told: Cell::new(false) }
    }

    pub(super) fn get(&self) -> Option<u64> {
        Some(self.until.get()).filter(|&until| until != u64::MAX)
    }
}

thread_local! {
    /// Of what runs on this thread outside fibers.
    static OF_THREAD: Limits = const { Limits::new() };
}

fn with_limits<R>(body: impl Fn(&Limits) -> R) -> R {
    Worker::with_current_fiber(|_, fiber| body(&fiber.extras().limits))
        .unwrap_or_else(|| OF_THREAD.with(|limits| body(limits)))
}

/// As [`with_limits`], where making them would be in vain.
fn with_limits_in_use<R>(body: impl Fn(&Limits) -> Option<R>) -> Option<R> {
    match Worker::with_current_fiber(|_, fiber| fiber.extras.get().and_then(|extras| body(&extras.limits))) {
        Some(result) => result,
        None => OF_THREAD.with(|limits| body(limits)),
    }
}

/// The limit as it was before a scope, to be restored at its end.
pub(super) struct Saved {
    until: u64,
    scope: u64,
    told: bool,
    /// It is of the calling fiber, which does not change threads.
    not_send: PhantomData<*mut ()>,
}

impl Saved {
    fn narrow(until: u64, scope: u64) -> Self {
        Saved::replace(|before| if until < before.until { (until, scope, false) } else { before.parts() })
    }

    /// No limit for a while.
    pub(super) fn lift() -> Self {
        Saved::replace(|_| (u64::MAX, 0, false))
    }

    fn replace(change: impl Fn(&Saved) -> (u64, u64, bool)) -> Self {
        let saved = with_limits(|limits| Saved {
            until: limits.until.get(),
            scope: limits.scope.get(),
            told: limits.told.get(),
            not_send: PhantomData,
        });
        store(change(&saved));
        saved
    }

    fn parts(&self) -> (u64, u64, bool) {
        (self.until, self.scope, self.told)
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        // What was told within a scope that shares this one's deadline was told to this one as well.
        let told = with_limits(|limits| limits.scope.get() == self.scope && limits.told.get());
        store((self.until, self.scope, self.told || told));
    }
}

fn store((until, scope, told): (u64, u64, bool)) {
    with_limits(|limits| {
        limits.until.set(until);
        limits.scope.set(scope);
        limits.told.set(told);
    });
    Worker::with_current_fiber(|_, fiber| fiber.attention.set_limited(until != u64::MAX));
}

/// The earlier of a call's own deadline and the limit, and whether it is the limit's.
pub(crate) fn bound(deadline: Option<Instant>) -> (Option<Instant>, bool) {
    let limit = with_limits_in_use(Limits::get).filter(|_| !std::thread::panicking());
    match limit.map(|until| Clock::new().instant(until)) {
        Some(limit) if deadline.is_none_or(|deadline| limit < deadline) => (Some(limit), true),
        Some(_) | None => (deadline, false),
    }
}

/// Whether the caller's limit has passed. Not while it unwinds from a panic, for its destructors are not cut short, nor
/// while it is held.
pub(super) fn is_over() -> bool {
    with_limits_in_use(Limits::get).is_some_and(|until| until <= Clock::new().nanos(time::now()))
        && !super::hold::is_held()
        && !std::thread::panicking()
}

/// The payload for the scope that the limit belongs to.
pub(super) fn elapsed() -> Option<Box<dyn Any + Send>> {
    let scope = with_limits_in_use(|limits| limits.get().map(|_| limits.scope.get()))?;
    Some(Box::new(Unwinding { scope }))
}

/// The limit has passed: an error the first time, unwinding from then on.
#[cold]
pub(super) fn tell() -> io::Error {
    if with_limits(|limits| limits.told.replace(true)) {
        super::cancel::unwind();
    }
    Elapsed.into()
}
