//! The word through which other threads wake a fiber.
//!
//! A fiber belongs to one worker from its first instruction to its last. Whether it is running, ready or parked is
//! therefore a plain value that only this worker reads and writes: a wake by a fiber of the same worker, the most
//! frequent one, costs no atomic operation. A wake from elsewhere is a *post*: signals are set in this word, and
//! whoever sets the first one puts the fiber into the inbox of its worker, which delivers them between two resumes.
//!
//! So there is no moment in which a fiber is "about to park": its worker delivers signals only when no fiber runs,
//! hence after the switch, and the two orders of a wake and a park meet in one place.
//!
//! ```text
//!   worker (owner of fiber F)                    another thread
//!   -------------------------                    ----------------------------------
//!   F decides to park
//!                                                post: signals |= EVENT, was none -> inbox.push(F), notify
//!   switch to the worker's stack
//!   phase(F) = Parked
//!   ... runs others, or polls
//!   inbox.take -> F: collect signals
//!   phase is Parked -> Ready, queue
//!
//!                                                post: signals |= EVENT, was none -> inbox.push(F), notify
//!   inbox.take -> F: collect signals
//!   phase is Ready -> keep as token
//!   F runs, decides to park:
//!   finds the token, takes it, goes on
//! ```
//!
//! A fiber that has not started has no worker. Signals stay in the word and `start` picks them up.

use crate::primitive::{AtomicU8, Ordering};

/// A set of reasons to wake a fiber.
///
/// Two kinds of waits must not steal each other's wake-ups: the user's `park`, and the waits inside the runtime (a
/// lock, a join, a socket). Cancellation ends either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Signals(u8);

impl Signals {
    pub(crate) const NONE: Signals = Signals(0);
    /// `Fiber::unpark` was called: ends `park`.
    pub(crate) const UNPARK: Signals = Signals(2);
    /// What an internal wait waits for has happened: ends that wait.
    pub(crate) const EVENT: Signals = Signals(4);
    /// The fiber was cancelled: ends every wait.
    pub(crate) const CANCEL: Signals = Signals(8);
    const ALL: u8 = 2 | 4 | 8;

    #[inline]
    pub(crate) fn intersects(self, other: Signals) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(crate) fn union(self, other: Signals) -> Signals {
        Signals(self.0 | other.0)
    }

    #[inline]
    pub(crate) fn without(self, other: Signals) -> Signals {
        Signals(self.0 & !other.0)
    }
}

const STARTED: u8 = 1;

/// See the module's documentation.
///
/// # Invariants
/// While `STARTED` is set, the fiber is in an inbox, or about to be put into one by the thread that set the first
/// signal, if and only if a signal is set.
pub(crate) struct WakeWord(AtomicU8);

/// What the poster has to do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Post {
    /// Put the fiber into its worker's inbox.
    Deliver,
    /// Nothing: it is on its way there already, and the worker will see this signal too.
    Merged,
    /// Nothing: the fiber has not started and finds the signal when it does.
    Early,
}

impl WakeWord {
    pub(crate) fn new() -> Self {
        WakeWord(AtomicU8::new(0))
    }

    /// Sets signals from a thread that is not the fiber's worker.
    #[inline]
    pub(crate) fn post(&self, signals: Signals) -> Post {
        // Release pairs with the Acquire in `collect` and `start`: what the poster wrote before is visible to the
        // fiber when it wakes. Acquire pairs with the Release in `start`: who sees STARTED sees the home as well.
        let before = self.0.fetch_or(signals.0, Ordering::AcqRel);
        if before & STARTED == 0 {
            Post::Early
        } else if before & Signals::ALL != 0 {
            Post::Merged
        } else {
            Post::Deliver
        }
    }

    /// The fiber is about to run for the first time, on the calling worker; returns what was posted until now.
    #[inline]
    pub(crate) fn start(&self) -> Signals {
        // AcqRel: see `post`.
        let before = self.0.swap(STARTED, Ordering::AcqRel);
        debug_assert_eq!(before & STARTED, 0, "a fiber starts once");
        Signals(before & Signals::ALL)
    }

    /// The worker took the fiber out of its inbox; returns what was posted and makes room for the next post.
    #[inline]
    pub(crate) fn collect(&self) -> Signals {
        // Acquire pairs with the Release in `post`.
        Signals(self.0.fetch_and(STARTED, Ordering::AcqRel) & Signals::ALL)
    }
}
