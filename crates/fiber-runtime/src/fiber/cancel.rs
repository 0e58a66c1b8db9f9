//! Ending a fiber from outside.
//!
//! Cancellation is a bit and a wake. What the fiber was doing decides how it hears of it:
//!
//! ```text
//!   a native call that returns io::Result     fails with an error around `Cancelled`, once; the next one unwinds
//!   any other native wait (sleep, lock, ...)  unwinds
//!   a hooked libc call                        fails with ECANCELED; nothing ever unwinds through it
//! ```
//!
//! Unwinding carries a private payload, so that destructors run, and ends at the fiber's entry as `JoinError::Cancelled`.
//! A fiber that is already unwinding is left alone, and one that catches the payload and goes on meets it again at its
//! next wait. A deadline that has passed ([`super::deadline`]) speaks to the code in its scope in the same way.

use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU8, Ordering};

use super::deadline;
use super::header::Header;
use super::join::JoinError;
use crate::net::op::Stop;
use crate::scheduler::worker::Worker;

/// What the first native I/O call of a cancelled fiber fails with, inside an [`io::Error`] of kind `Other`; and what a
/// [`CancelToken`](crate::CancelToken) says when it is asked.
///
/// The error is the fiber's chance to end in order. Whoever ignores it is unwound by the next call.
///
/// ```
/// # use fiber_runtime::{Cancelled, net::TcpListener, spawn, yield_now};
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
/// let server = spawn(move || listener.accept().map(drop));
/// yield_now();
/// server.cancel();
/// let error = server.join().unwrap().unwrap_err();
/// assert!(Cancelled::is_in(&error));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fiber was cancelled")]
pub struct Cancelled;

impl Cancelled {
    /// Whether `error` says that the calling fiber was cancelled.
    pub fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Cancelled>())
    }
}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> io::Error {
        io::Error::other(cancelled)
    }
}

/// Runs `body` without noticing that the fiber is cancelled or that a deadline around it passes: for an end that must
/// be complete. What came meanwhile is noticed by the first wait after it. Deadlines set inside hold.
///
/// ```
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// let fiber = fiber_runtime::spawn(|| {
///     fiber_runtime::shielded(|| fiber_runtime::time::sleep(std::time::Duration::from_millis(5)));
///     "in peace"
/// });
/// fiber_runtime::yield_now();
/// fiber.cancel();
/// assert_eq!(fiber.join().unwrap(), "in peace");
/// # });
/// ```
pub fn shielded<T>(body: impl FnOnce() -> T) -> T {
    let _shield = Shield::raise();
    body()
}

/// While it lives, the calling fiber does not notice its cancellation, nor the deadlines set before.
pub(crate) struct Shield {
    /// Whether this is the outermost one.
    first: bool,
    _limits: deadline::Saved,
    not_send: PhantomData<*mut ()>,
}

impl Shield {
    pub(crate) fn raise() -> Self {
        let first = Worker::with_current_fiber(|_, fiber| fiber.attention.raise_shield()) == Some(true);
        Shield { first, _limits: deadline::Saved::lift(), not_send: PhantomData }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        if self.first {
            Worker::with_current_fiber(|_, fiber| fiber.attention.lower_shield());
        }
    }
}

/// What a fiber has to look at before it waits, in one byte: nothing to look at costs one comparison.
pub(crate) struct Attention(AtomicU8);

const CANCELLED: u8 = 1;
/// A deadline scope is open.
const LIMITED: u8 = 2;
/// It does not notice that it is cancelled.
const SHIELDED: u8 = 4;
/// It has been in spans, which its extras keep.
const SPANNED: u8 = 8;
/// It has thread-locals of its own, which its extras exchange.
#[cfg(feature = "hook")]
const PRIVATE: u8 = 32;
/// It does not give way: [`super::hold`].
const HELD: u8 = 128;
/// It is of low priority, and yields in another way.
const LOW: u8 = 16;

impl Attention {
    pub(crate) const fn new() -> Self {
        Attention(AtomicU8::new(0))
    }

    /// Whether there is anything to look at.
    #[inline(always)]
    pub(crate) fn is_needed(&self) -> bool {
        // Relaxed: a hint until a signal or a queue orders it; a fiber that misses it now sees it when it is woken.
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Any thread.
    pub(crate) fn set_cancelled(&self) {
        // Relaxed: the signal that follows orders it.
        self.0.fetch_or(CANCELLED, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// The fiber itself. An atomic operation, for `set_cancelled` may come at the same time.
    pub(super) fn set_limited(&self, limited: bool) {
        if limited {
            self.0.fetch_or(LIMITED, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!LIMITED, Ordering::Relaxed);
        }
    }

    /// The fiber itself enters a span; from now on its extras are asked at every switch.
    pub(crate) fn set_spanned(&self) {
        if self.0.load(Ordering::Relaxed) & SPANNED == 0 {
            self.0.fetch_or(SPANNED, Ordering::Relaxed);
        }
    }

    /// The fiber itself has thread-locals of its own; from now on its extras are asked at every switch.
    #[cfg(feature = "hook")]
    pub(crate) fn set_private(&self) {
        self.0.fetch_or(PRIVATE, Ordering::Relaxed);
    }

    /// The fiber itself. False: it was raised before.
    fn raise_shield(&self) -> bool {
        self.0.fetch_or(SHIELDED, Ordering::Relaxed) & SHIELDED == 0
    }

    /// The fiber itself.
    fn lower_shield(&self) {
        self.0.fetch_and(!SHIELDED, Ordering::Relaxed);
    }

    /// The fiber's closure has returned. Destructors that still run are not cut short.
    pub(crate) fn shield_for_good(&self) {
        // Two plain operations, for every fiber ends once: a cancellation in between is lost, and nothing with it.
        self.0.store(self.0.load(Ordering::Relaxed) | SHIELDED, Ordering::Relaxed);
    }

    /// While the fiber is being made.
    pub(super) fn set_low(&self) {
        self.0.fetch_or(LOW, Ordering::Relaxed);
    }

    pub(super) fn is_low(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LOW != 0
    }

    fn asks_to_end(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (CANCELLED | SHIELDED | HELD) == CANCELLED
    }

    /// The fiber itself. False: it holds already.
    pub(super) fn hold(&self) -> bool {
        self.0.fetch_or(HELD, Ordering::Relaxed) & HELD == 0
    }

    /// The fiber itself.
    pub(super) fn let_go(&self) {
        self.0.fetch_and(!HELD, Ordering::Relaxed);
    }

    pub(crate) fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed) & HELD != 0
    }
}

impl Header {
    /// Whether this fiber is to end now: it was cancelled, and is neither unwinding already nor shielded nor held.
    #[inline(always)]
    pub(crate) fn must_end(&self) -> bool {
        self.attention.is_needed() && self.must_end_indeed()
    }

    #[cold]
    fn must_end_indeed(&self) -> bool {
        self.attention.asks_to_end() && !std::thread::panicking()
    }
}

/// The payload that unwinds a cancelled fiber.
struct Unwinding;

/// Unwinds the current fiber, which is cancelled, or the scope whose deadline has passed. For waits that cannot fail,
/// after they have cleaned up. `resume_unwind` does not call the panic hook: neither is a failure.
#[cold]
pub(crate) fn unwind() -> ! {
    let must_end = Worker::with_current_fiber(|_, fiber| fiber.must_end()) == Some(true);
    if !must_end && let Some(elapsed) = deadline::elapsed() {
        resume_unwind(elapsed);
    }
    resume_unwind(Box::new(Unwinding))
}

/// Whether a payload is that of [`unwind`], and no panic.
pub(crate) fn is_unwinding(payload: &(dyn Any + Send)) -> bool {
    is_cancellation(payload) || deadline::is_unwinding(payload)
}

/// Whether a payload is that of a cancellation, and no panic.
pub(super) fn is_cancellation(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Unwinding>()
}

/// What an unwinding fiber's payload means.
pub(super) fn classify(payload: Box<dyn Any + Send>) -> JoinError {
    if is_cancellation(&*payload) { JoinError::Cancelled } else { JoinError::Panicked(payload) }
}

/// Whether an I/O call that begins now has to fail at once: the fiber is cancelled, or the deadline of its scope has
/// passed. It fails although its descriptor may be ready, so that a stream that never runs dry ends as well.
#[inline]
pub(crate) fn stop_of_call() -> Option<Stop> {
    match Worker::with_current_fiber(|worker, fiber| {
        if fiber.attention.is_needed() { stop_of_fiber(worker, fiber) } else { None }
    }) {
        Some(stop) => stop,
        None => deadline::is_over().then_some(Stop::TimedOut),
    }
}

#[cold]
fn stop_of_fiber(worker: &Worker, fiber: &Header) -> Option<Stop> {
    if fiber.must_end() {
        return Some(Stop::Errno(libc::ECANCELED));
    }
    let limit = fiber.extras.get().and_then(|extras| extras.limit())?;
    (limit <= worker.now_nanos() && !fiber.attention.is_held() && !std::thread::panicking())
        .then_some(Stop::TimedOut)
}

/// The end of a native call, as an error. Unwinds when the reason is one that the fiber, or the code in a deadline's
/// scope, was told of before.
impl From<Stop> for io::Error {
    fn from(stop: Stop) -> io::Error {
        match stop {
            Stop::TimedOut if deadline::is_over() => deadline::tell(),
            Stop::TimedOut => io::ErrorKind::TimedOut.into(),
            Stop::Errno(libc::ECANCELED) => tell(),
            Stop::Errno(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

/// A call ended with `ECANCELED`: its fiber was cancelled, or its descriptor closed under it.
#[cold]
fn tell() -> io::Error {
    let told = Worker::with_current_fiber(|_, fiber| {
        fiber.must_end().then(|| fiber.extras().told_of_cancel.replace(true))
    })
    .flatten();
    match told {
        None => io::Error::from_raw_os_error(libc::ECANCELED),
        Some(false) => Cancelled.into(),
        Some(true) => unwind(),
    }
}
