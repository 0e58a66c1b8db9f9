//! Cancelling many things with one word: fibers, waits, and whatever asks.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Fiber;
use super::cancel::Cancelled;
use super::keeper::{Keeper, Members};
use crate::sync::select::Operation;
use crate::sync::{Notified, Notify, Spin};

/// A word that is said once, to everybody who holds a clone: stop.
///
/// It cancels the fibers bound to it ([`FiberBuilder::cancel_token`](crate::FiberBuilder::cancel_token)), wakes those who
/// wait for it, and says so to its children. A child can be cancelled alone; its parent hears nothing of that. Fibers
/// that a bound fiber spawns are not bound: hand the token on.
///
/// ```
/// use fiber_runtime::{CancelToken, FiberBuilder, JoinError, park};
///
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// let server = CancelToken::new();
/// let request = server.child_token();
/// let fiber = FiberBuilder::new().cancel_token(&request).spawn(park);
/// server.cancel();
/// assert!(request.is_cancelled());
/// assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
/// # });
/// ```
#[derive(Clone)]
pub struct CancelToken {
    core: Arc<TokenCore>,
}

struct TokenCore {
    /// Set before the state is looked through: see `cancel`.
    cancelled: AtomicBool,
    state: Spin<State>,
    /// Wakes those who wait for the word.
    said: Notify,
}

struct State {
    members: Members,
    children: Vec<Weak<TokenCore>>,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        let state = Spin::new(State { members: Members::new(), children: Vec::new() });
        CancelToken {
            core: Arc::new(TokenCore { cancelled: AtomicBool::new(false), state, said: Notify::new() }),
        }
    }

    /// A token that is cancelled with this one, or before it.
    pub fn child_token(&self) -> CancelToken {
        let child = CancelToken::new();
        let cancelled = self.core.state.lock(|state| {
            if state.children.len() == state.children.capacity() {
                // Before it grows: dead children make room, so that it holds at most twice the living.
                state.children.retain(|child| child.strong_count() > 0);
                let living = state.children.len();
                state.children.reserve(living.max(4));
            }
            state.children.push(Arc::downgrade(&child.core));
            self.is_cancelled()
        });
        if cancelled {
            child.cancel();
        }
        child
    }

    /// Cancels: bound fibers ([`Fiber::cancel`]), children, and those who wait. The second time it does nothing.
    pub fn cancel(&self) {
        let mut found = vec![self.core.clone()];
        // A list and no recursion: chains of children may be long.
        while let Some(core) = found.pop() {
            if core.cancelled.swap(true, Ordering::SeqCst) {
                continue;
            }
            // Whoever registers later does so under this lock and then sees the flag.
            let (fibers, children) =
                core.state.lock(|state| (state.members.cancel(), std::mem::take(&mut state.children)));
            fibers.iter().for_each(Fiber::cancel);
            core.said.notify_all();
            found.extend(children.iter().filter_map(Weak::upgrade));
        }
    }

    /// Whether it, or a token it is a child of, was cancelled.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.core.cancelled.load(Ordering::SeqCst)
    }

    /// For code that computes: `token.check()?` now and then.
    ///
    /// # Errors
    /// The token was cancelled.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Waits until the token is cancelled. In a fiber or a plain thread.
    pub fn cancelled(&self) {
        let cancelled = self.wait(None);
        debug_assert!(cancelled, "a wait without a deadline ends with the word");
    }

    /// Waits until the token is cancelled, at most until `deadline`. True: it was.
    pub fn cancelled_until(&self, deadline: Instant) -> bool {
        self.wait(Some(deadline))
    }

    /// The token's cancellation, for [`select!`](crate::select!).
    pub fn cancelled_arm(&self) -> impl Operation<Outcome = ()> {
        self.said().notified_arm()
    }

    fn wait(&self, deadline: Option<Instant>) -> bool {
        self.said().wait_deadline("cancel token", deadline)
    }

    /// A wait for the word, which is over at once if it was said.
    fn said(&self) -> Notified<'_> {
        // In this order: either the flag is seen, or the notification after it is.
        let said = self.core.said.notified();
        if self.is_cancelled() { said.already() } else { said }
    }

    pub(super) fn keeper(&self) -> Arc<dyn Keeper> {
        self.core.clone()
    }
}

impl Keeper for TokenCore {
    fn entered(&self, fiber: &Fiber) {
        let fiber = fiber.clone();
        if self.state.lock(|state| state.members.enter(fiber.clone())) {
            fiber.cancel();
        }
    }

    fn ended(&self, id: u64) {
        drop(self.state.lock(|state| state.members.leave(id)));
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        CancelToken::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.is_cancelled())
            .field("fibers", &self.core.state.lock(|state| state.members.len()))
            .finish()
    }
}
