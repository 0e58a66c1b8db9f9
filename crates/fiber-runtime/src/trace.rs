//! `tracing` spans that belong to the fiber that entered them.
//!
//! A subscriber keeps the spans that are entered per *thread*, and a worker's fibers share its thread. A fiber that waits
//! inside a span would leave the span open for whoever runs next, and close the wrong one later. [`FiberSubscriber`]
//! stands between `tracing` and a subscriber and remembers, per fiber, what is entered: when the fiber leaves its
//! worker the spans are exited, innermost first, and when it is back they are entered again. Code inside knows nothing
//! of it; `span.enter()` across a wait is right in a fiber.
//!
//! ```
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! let subscriber = tracing_subscriber::registry().with(tracing_subscriber::fmt::layer());
//! let subscriber = fiber_runtime::trace::FiberSubscriber::new(subscriber);
//! tracing::subscriber::set_global_default(subscriber).expect("nobody has set one");
//! ```
//!
//! - A new fiber has no open span, as a new thread has none. To take one along, move it:
//!   `spawn(move || span.in_scope(work))`.
//! - Spans that a thread has open while it drives a worker (`use_caller`, a simulation) are not open in the fibers.
//! - A span that is still entered when its fiber ends (its guard was leaked) is exited then.
//! - A fiber that has never entered a span pays nothing. One that has takes the longer way through every switch (20 to 40 ns
//!   for two fibers that wake each other, release build on a busy machine), with two calls of the subscriber for each span
//!   that is open meanwhile.
//! - What the subscriber does while it handles a span or an event blocks the worker rather than parking the fiber, so its
//!   locks are not held across a switch. It should write to files, pipes or memory, not to a slow peer.
//! - Set it as the *global* default. `with_default` and `set_default` choose a subscriber for the thread: a fiber that
//!   waits inside of them leaves it to others, and there is no way to see that from here.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_core::span::Current;

use crate::hook;
use crate::scheduler::worker::Worker;

/// A subscriber whose entered spans belong to fibers. See the [module's documentation](self).
#[derive(Debug)]
pub struct FiberSubscriber<S> {
    inner: Arc<S>,
}

impl<S: Subscriber + Send + Sync> FiberSubscriber<S> {
    /// Wraps `inner`, with all its layers.
    pub fn new(inner: S) -> Self {
        FiberSubscriber { inner: Arc::new(inner) }
    }

    /// The wrapped subscriber.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Subscriber + Send + Sync> Subscriber for FiberSubscriber<S> {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.inner.on_register_dispatch(dispatch);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.inner.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.inner.max_level_hint()
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        hook::disabled(|| self.inner.new_span(attributes))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        hook::disabled(|| self.inner.record(span, values));
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        hook::disabled(|| self.inner.record_follows_from(span, follows));
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.inner.event_enabled(event)
    }

    fn event(&self, event: &Event<'_>) {
        hook::disabled(|| self.inner.event(event));
    }

    fn enter(&self, span: &Id) {
        with_spans(|spans| spans.push(span, &self.inner));
        hook::disabled(|| self.inner.enter(span));
    }

    fn exit(&self, span: &Id) {
        with_spans(|spans| spans.remove(span));
        hook::disabled(|| self.inner.exit(span));
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.inner.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        hook::disabled(|| self.inner.try_close(span))
    }

    fn current_span(&self) -> Current {
        self.inner.current_span()
    }

    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        // SAFETY: the inner subscriber answers for itself and for what it wraps.
        unsafe { self.inner.downcast_raw(id) }
    }
}

/// A span that is entered, and the subscriber that is to be told.
struct Open {
    span: Id,
    subscriber: Arc<dyn Subscriber + Send + Sync>,
}

/// The spans that a fiber, or a thread outside of fibers, has entered and not exited, outermost first.
#[derive(Default)]
pub(crate) struct Spans {
    open: RefCell<Vec<Open>>,
    /// The length of `open`.
    count: Cell<usize>,
    /// A subscriber is being told of a switch: what it enters and exits itself is its own affair, and a switch in the
    /// middle of that is not told of.
    switching: Cell<bool>,
}

impl Spans {
    const fn new() -> Self {
        Spans { open: RefCell::new(Vec::new()), count: Cell::new(0), switching: Cell::new(false) }
    }

    /// Whether a switch is to be told of.
    #[inline(always)]
    pub(crate) fn are_open(&self) -> bool {
        self.count.get() != 0
    }

    fn push<S: Subscriber + Send + Sync>(&self, span: &Id, subscriber: &Arc<S>) {
        if !self.switching.get() {
            let subscriber: Arc<dyn Subscriber + Send + Sync> = subscriber.clone();
            self.open.borrow_mut().push(Open { span: span.clone(), subscriber });
            self.count.set(self.count.get() + 1);
        }
    }

    fn remove(&self, span: &Id) {
        if !self.switching.get() {
            let mut open = self.open.borrow_mut();
            // Guards may be dropped in any order.
            if let Some(at) = open.iter().rposition(|open| open.span == *span) {
                open.remove(at);
                self.count.set(open.len());
            }
        }
    }

    /// Exits what is open, innermost first: the fiber is about to leave its worker.
    #[cold]
    pub(crate) fn leave(&self) {
        self.tell(|open| open.iter().rev().for_each(|open| open.subscriber.exit(&open.span)));
    }

    /// Enters it again, outermost first: the fiber is back.
    #[cold]
    pub(crate) fn enter(&self) {
        self.tell(|open| open.iter().for_each(|open| open.subscriber.enter(&open.span)));
    }

    /// Exits what is open for good: the fiber has ended.
    pub(crate) fn close(&self) {
        self.leave();
        self.count.set(0);
        drop(self.open.take());
    }

    fn tell(&self, tell: impl Fn(&[Open])) {
        if self.switching.get() || !self.are_open() {
            return;
        }
        self.switching.set(true);
        // A subscriber that panics has been heard of through the panic hook; a switch must not unwind.
        let _ = catch_unwind(AssertUnwindSafe(|| hook::disabled(|| tell(&self.open.borrow()))));
        self.switching.set(false);
    }
}

thread_local! {
    /// The spans of a thread outside of fibers.
    static THREAD: Spans = const { Spans::new() };
}

/// Calls `change` with the spans of the calling fiber, or of the thread.
fn with_spans(change: impl Fn(&Spans)) {
    let in_fiber = Worker::with_current_fiber(|_, fiber| {
        fiber.attention.set_spanned();
        change(&fiber.extras().spans);
    });
    if in_fiber.is_none() {
        // A thread that is being torn down does not drive a worker any more: nobody will ask.
        let _ = THREAD.try_with(change);
    }
}

/// The calling thread begins to drive a worker: its own spans rest until the guard drops.
pub(crate) fn leave_thread() -> ThreadSpans {
    let _ = THREAD.try_with(Spans::leave);
    ThreadSpans(())
}

/// See [`leave_thread`].
pub(crate) struct ThreadSpans(());

impl Drop for ThreadSpans {
    fn drop(&mut self) {
        let _ = THREAD.try_with(Spans::enter);
    }
}
