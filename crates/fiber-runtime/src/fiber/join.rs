//! Waiting for a fiber's end, and what comes of it. [`word`] is where the two meet.

mod word;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::Fiber;
use super::cancel::Shield;
use super::header::Header;
use crate::waiter::{self, Waiter};

pub(crate) use word::{Completed, JoinWord};

/// Why a fiber has no result.
pub enum JoinError {
    /// It panicked; the payload is what `std::panic::catch_unwind` would have given.
    Panicked(Box<dyn Any + Send + 'static>),
    /// It was cancelled: through its handle, its group, or because its runtime stopped.
    Cancelled,
}

impl JoinError {
    /// The panic's message, when the payload is text.
    pub fn message(&self) -> Option<&str> {
        match self {
            JoinError::Panicked(payload) => payload
                .downcast_ref::<&'static str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str)),
            JoinError::Cancelled => None,
        }
    }

    /// Whether the fiber was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, JoinError::Cancelled)
    }

    /// Whether the fiber panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self, JoinError::Panicked(_))
    }

    /// Goes on with the fiber's panic on this stack; a cancelled fiber gives a panic that says so.
    pub fn resume(self) -> ! {
        match self {
            JoinError::Panicked(payload) => std::panic::resume_unwind(payload),
            JoinError::Cancelled => panic!("the joined fiber was cancelled"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(_) => {
                f.debug_tuple("Panicked").field(&self.message().unwrap_or("(not text)")).finish()
            }
            JoinError::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(_) => {
                write!(f, "the fiber panicked: {}", self.message().unwrap_or("(the payload is not text)"))
            }
            JoinError::Cancelled => f.write_str("the fiber was cancelled"),
        }
    }
}

impl std::error::Error for JoinError {}

/// The right to wait for a fiber and to take its result.
///
/// Dropping the handle detaches the fiber: it runs on, and its result is dropped when it ends.
#[must_use = "dropping a JoinHandle detaches the fiber; say so with `drop` or `detach`"]
pub struct JoinHandle<T> {
    fiber: Fiber,
    result: PhantomData<T>,
}

// SAFETY: the handle gives away the `T` it stands for, and otherwise only uses the header's atomics.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle gives no access to the `T`.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    /// `header` is of a block with result type `T`, and the caller hands over the join handle's reference to it.
    pub(super) unsafe fn from_counted(header: NonNull<Header>) -> Self {
        JoinHandle { fiber: Fiber::from_counted(header), result: PhantomData }
    }

    /// Waits until the fiber has ended and returns its result. Works in a fiber, which parks, and in a plain thread.
    ///
    /// # Errors
    /// [`JoinError::Panicked`] with the payload, [`JoinError::Cancelled`].
    ///
    /// # Panics
    /// When a fiber joins itself, which would never end.
    #[track_caller]
    #[inline(always)]
    pub fn join(self) -> Result<T, JoinError> {
        let complete = self.wait(None);
        debug_assert!(complete, "a wait without a deadline ends with completion");
        self.into_result()
    }

    /// As [`join`](JoinHandle::join), at most for `timeout`. A timeout that no clock can express is none.
    ///
    /// # Errors
    /// The handle, when time is up.
    ///
    /// # Panics
    /// As [`join`](JoinHandle::join).
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        let deadline = crate::time::now().checked_add(timeout);
        if self.wait(deadline) { Ok(self.into_result()) } else { Err(self) }
    }

    /// As [`join`](JoinHandle::join), at most until `deadline` of [`time::now`](crate::time::now)'s clock.
    ///
    /// # Errors
    /// The handle, when time is up.
    ///
    /// # Panics
    /// As [`join`](JoinHandle::join).
    #[track_caller]
    pub fn join_until(self, deadline: Instant) -> Result<Result<T, JoinError>, Self> {
        if self.wait(Some(deadline)) { Ok(self.into_result()) } else { Err(self) }
    }

    /// Whether the fiber has ended, so that `join` would return at once.
    pub fn is_finished(&self) -> bool {
        self.fiber.header().join.is_complete()
    }

    /// The fiber.
    pub fn fiber(&self) -> &Fiber {
        &self.fiber
    }

    /// Cancels the fiber; see [`Fiber::cancel`]. The handle can still be joined, and says what came of it.
    #[doc(alias = "abort")]
    pub fn cancel(&self) {
        self.fiber.cancel();
    }

    /// Lets the fiber run on without anybody waiting for it.
    pub fn detach(self) {
        drop(self);
    }

    /// Leaves a waiter to be woken when the fiber ends; false if it has ended. The caller holds the handle alone until
    /// it calls [`JoinHandle::withdraw`].
    pub(crate) fn enrol(&self, waiter: Waiter) -> bool {
        self.fiber.header().join.enrol(waiter)
    }

    /// Takes the waiter back.
    pub(crate) fn withdraw(&self) {
        drop(Withdraw(&self.fiber.header().join));
    }

    /// Takes the result of a fiber that is complete.
    #[inline]
    pub(super) fn into_result(self) -> Result<T, JoinError> {
        let mut result: Option<Result<T, JoinError>> = None;
        {
            let header = self.fiber.header();
            debug_assert!(header.join.is_complete());
            // SAFETY: the fiber is complete, the handle exists, so the result is ours; `T` is the block's result type.
            unsafe { (header.vtable.take)(self.fiber.pointer(), (&raw mut result).cast()) };
        }
        // The result is gone, so all that is left to drop is the reference.
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and its other field has no destructor.
        drop(unsafe { std::ptr::read(&this.fiber) });
        result.expect("a complete fiber has a result, and its handle takes it once")
    }

    /// Waits for the end whatever happens: for callers that lent the fiber their stack. If the caller is to end meanwhile,
    /// the fiber is cancelled, and true is returned.
    pub(crate) fn wait_lent(&self) -> bool {
        let join = &self.fiber.header().join;
        if join.is_complete() || !join.enrol(Waiter::current()) {
            return false;
        }
        let mut shield = None;
        while !join.is_complete() {
            if waiter::wait("block_on", None) == waiter::Woken::Cancelled {
                self.cancel();
                shield.get_or_insert_with(Shield::raise);
            }
        }
        shield.is_some()
    }

    /// True when the fiber is complete, false when the deadline passed first.
    ///
    /// Inlined, as what leads to a switch is: see `park::switch`.
    #[track_caller]
    #[inline(always)]
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let join = &self.fiber.header().join;
        if join.is_complete() {
            return true;
        }
        let me = Waiter::current();
        let joins_itself = matches!(&me, Waiter::Fiber(current) if *current == self.fiber);
        assert!(!joins_itself, "fiber {} joins itself", self.fiber);
        if !join.enrol(me) {
            return true;
        }
        let _withdraw = Withdraw(join);
        while !join.is_complete() {
            match waiter::wait("join", deadline) {
                waiter::Woken::Signal => {}
                waiter::Woken::TimedOut => return join.is_complete(),
                waiter::Woken::Cancelled => super::cancel::unwind(),
            }
        }
        true
    }
}

/// Takes the waiter back however the wait ends, by unwinding too.
struct Withdraw<'a>(&'a JoinWord);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if !self.0.is_complete() {
            self.0.withdraw();
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let header = self.fiber.header();
        // A fiber that is complete is past looking at the word.
        if header.join.is_complete() || header.join.abandon() {
            // SAFETY: the fiber is complete and the handle had the right to its result.
            unsafe { (header.vtable.discard)(self.fiber.pointer()) };
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("fiber", &self.fiber)
            .field("finished", &self.is_finished())
            .finish()
    }
}
