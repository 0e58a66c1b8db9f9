//! Fibers: what one is, how it waits, how it ends.
//!
//! - [`header`]: the block of memory; [`blocks`]: where it comes from; [`wake`]: the word other threads wake it through;
//!   [`park`]: suspension.
//! - [`builder`]: making one; [`join`]: its result; [`extras`]: what few fibers have; [`hold`]: keeping the worker.
//! - [`scope`](mod@scope), [`join_set`]: many at once; [`keeper`]: how they keep count; [`local`]: what each has for itself;
//!   [`priority`]: who goes first.
//! - [`cancel`], [`token`]: ending one from outside; [`deadline`]: ending what a piece of its code waits for.

pub(crate) mod blocks;
mod builder;
pub(crate) mod cancel;
pub(crate) mod deadline;
pub(crate) mod extras;
pub(crate) mod header;
mod hold;
mod join;
mod join_set;
mod keeper;
mod local;
pub(crate) mod park;
mod priority;
mod scope;
mod token;
pub(crate) mod wake;

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub use builder::FiberBuilder;
pub(crate) use builder::{Placement, SpawnOptions, Spawner, spawn_unchecked};
pub use cancel::{Cancelled, shielded};
pub use deadline::{Elapsed, current_deadline, with_deadline, with_timeout};
pub use hold::no_yield;
pub(crate) use join::Completed;
pub use join::{JoinError, JoinHandle};
pub use join_set::JoinSet;
pub use local::{AccessError, FiberLocal};
pub use priority::Priority;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use token::CancelToken;

use crate::scheduler::worker::Worker;
use crate::waiter::Woken;
use header::Header;
use wake::{Post, Signals};

/// A handle for a fiber: to wake it, to cancel it, to name it. Clones refer to the same fiber.
///
/// `park` and `unpark` work as `std::thread::park` does: an `unpark` leaves a token, a `park` takes it or waits for it,
/// and two tokens are one. A token from another worker or thread arrives when the fiber's worker next reads its mail, so
/// one that was left before a `park` may end the next one: look at what you wait for each time.
pub struct Fiber {
    header: NonNull<Header>,
}

// SAFETY: a `Fiber` uses the header's atomics and fixed fields; the owner's fields only on the owner's thread, which
// `signal` checks.
unsafe impl Send for Fiber {}
// SAFETY: as above.
unsafe impl Sync for Fiber {}

impl Fiber {
    /// Takes over one reference to `header`.
    #[inline]
    pub(crate) fn from_counted(header: NonNull<Header>) -> Self {
        Fiber { header }
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: this handle's reference keeps the block alive.
        unsafe { self.header.as_ref() }
    }

    #[inline]
    pub(crate) fn pointer(&self) -> NonNull<Header> {
        self.header
    }

    /// The fiber's number: unique within the process (within the run, in a simulation).
    pub fn id(&self) -> u64 {
        self.header().id
    }

    /// The name it was given.
    pub fn name(&self) -> Option<&str> {
        self.header().name.as_deref()
    }

    /// Makes the fiber's current or next [`park`](crate::park) return. From a fiber of the same worker this is a queue
    /// operation without atomics; from elsewhere it goes through the worker's inbox.
    #[inline]
    pub fn unpark(&self) {
        self.signal(Signals::UNPARK);
    }

    /// Ends an internal wait; see [`crate::waiter`].
    #[inline]
    pub(crate) fn wake(&self) {
        self.signal(Signals::EVENT);
    }

    /// Asks the fiber to end. A native I/O call (one that returns `io::Result`), the current or the next, fails with
    /// [`Cancelled`] once, for the fiber to end in order; any other wait, and the second I/O call, unwinds it, running
    /// destructors, and joining it gives [`JoinError::Cancelled`]. A fiber that has not started never does. A hooked
    /// libc call fails with `ECANCELED`, and nothing unwinds through it.
    ///
    /// Locks of [`crate::sync`] that unwinding releases are not poisoned. A guard of `std::sync::Mutex` or `RwLock` that
    /// is dropped by unwinding poisons its lock, as in a panic: std goes by `std::thread::panicking()`. One that is
    /// dropped because the code returns the error does not.
    pub fn cancel(&self) {
        self.header().attention.set_cancelled();
        self.signal(Signals::CANCEL);
    }

    /// Whether somebody cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.header().is_cancelled()
    }

    #[inline]
    fn signal(&self, signals: Signals) {
        // SAFETY: this handle's reference keeps the block alive.
        if !unsafe { Self::signal_if_local(self.header, signals) } {
            self.post(signals);
        }
    }

    /// As [`Fiber::wake`], if the calling worker is the fiber's; else false, and nothing happens.
    ///
    /// # Safety
    /// The header is alive.
    #[inline(always)]
    pub(crate) unsafe fn wake_if_local(header: NonNull<Header>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { Self::signal_if_local(header, Signals::EVENT) }
    }

    /// # Safety
    /// The header is alive.
    #[inline(always)]
    unsafe fn signal_if_local(header: NonNull<Header>, signals: Signals) -> bool {
        // Relaxed: `home` is written once, by its worker on its thread. If that is us we read our own write; if we
        // read anything else we go the long way, which orders it.
        // SAFETY: the caller's promise.
        let home = unsafe { header.as_ref() }.home.load(Ordering::Relaxed);
        // A pointer comes out of the closure, which is small enough to be inlined wherever this is.
        let local =
            Worker::with_current(|worker| std::ptr::eq(worker.port(), home).then_some(NonNull::from(worker)));
        if let Some(Some(worker)) = local {
            // SAFETY: the worker this thread drives, and no other code ran since it was asked for.
            unsafe { worker.as_ref() }.deliver(header, signals);
            return true;
        }
        false
    }

    #[cold]
    fn post(&self, signals: Signals) {
        let header = self.header();
        if header.join.is_complete() {
            return;
        }
        match header.wake.post(signals) {
            Post::Deliver => {
                header.retain();
                // Relaxed: `Post::Deliver` means the start was seen, with Acquire.
                let home = header.home.load(Ordering::Relaxed);
                // SAFETY: a started fiber has a home, ports are never freed, and the inbox takes the new reference.
                unsafe { (*home).post(self.header) };
            }
            Post::Merged | Post::Early => {}
        }
    }
}

impl Clone for Fiber {
    #[inline]
    fn clone(&self) -> Self {
        self.header().retain();
        Fiber { header: self.header }
    }
}

impl Drop for Fiber {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this handle's reference, given up once.
        unsafe { Header::release(self.header) }
    }
}

impl PartialEq for Fiber {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header
    }
}

impl Eq for Fiber {}

impl std::hash::Hash for Fiber {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.header.hash(state);
    }
}

impl fmt::Debug for Fiber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fiber").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

/// Name and number, for messages: `'parser' (#17)`, or `#17` without a name.
impl fmt::Display for Fiber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "'{name}' (#{})", self.id()),
            None => write!(f, "#{}", self.id()),
        }
    }
}

/// Why a timed [`park_until`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A token was there or came.
    Unparked,
    /// The deadline passed.
    TimedOut,
}

/// The calling fiber, if the caller is in one.
#[inline]
pub fn try_current() -> Option<Fiber> {
    Worker::with_current_fiber(|_, fiber| {
        fiber.retain();
        Fiber::from_counted(NonNull::from(fiber))
    })
}

/// The calling fiber.
///
/// # Panics
/// Outside a fiber.
#[track_caller]
pub fn current() -> Fiber {
    try_current().expect("fiber_runtime::current() is called in a fiber")
}

/// Whether the caller is in a fiber.
#[inline]
pub fn in_fiber() -> bool {
    Worker::with_current_fiber(|_, _| ()).is_some()
}

// `yield_now`, `park` and what they call are inlined to the caller on purpose: see `park::switch`. A switch costs 9 ns
// then, and 20 ns more when one frame stands between.

/// Gives way: every other ready fiber of this worker runs before this one goes on, and so do those that have not started
/// and that nobody else can take, up to 65,536 of them. In a plain thread, `std::thread::yield_now`.
#[inline(always)]
pub fn yield_now() {
    park::yield_now();
}

/// Waits for a token ([`Fiber::unpark`]) and takes it. In a plain thread, `std::thread::park`.
#[inline(always)]
pub fn park() {
    let _ = park_until(None);
}

/// Waits for a token until `deadline` (of [`time::now`](crate::time::now)'s clock); `None` waits for ever.
#[inline(always)]
pub fn park_until(deadline: Option<Instant>) -> Wake {
    // SAFETY: the references end with this function.
    let Some((worker, fiber)) = (unsafe { Worker::current_fiber() }) else { return park_thread(deadline) };
    match park::wait(worker, fiber, Signals::UNPARK, "park", deadline) {
        Woken::Signal => Wake::Unparked,
        Woken::TimedOut => Wake::TimedOut,
        Woken::Cancelled => cancel::unwind(),
    }
}

#[cold]
fn park_thread(deadline: Option<Instant>) -> Wake {
    let (deadline, is_limit) = deadline::bound(deadline);
    let Some(deadline) = deadline else {
        std::thread::park();
        return Wake::Unparked;
    };
    std::thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
    match Instant::now() < deadline {
        true => Wake::Unparked,
        false if is_limit => cancel::unwind(),
        false => Wake::TimedOut,
    }
}
