//! A place in a wait queue for somebody who waits in several queues at once.
//!
//! [`super::wait::wait`] owns the whole of a wait: it links a node, sleeps and unlinks. A `select!` sleeps once for many
//! nodes, so here the steps are apart: sit down, be notified or not, leave. Whoever leaves learns whether the
//! notification had arrived, and passes it on if it does not use it.

use std::cell::Cell;

use super::wait::{Node, WaitList};
use crate::primitive::Ordering;
use crate::waiter::Sleeper;

/// See the module's documentation. `P` is what the waker sees and may change, as in [`WaitList`].
///
/// # Invariants
/// While `taken`, the node was linked in one list and has not been looked at since: it is still linked, or notified.
pub(super) struct Seat<P> {
    node: Node<P>,
    taken: Cell<bool>,
}

/// What somebody who leaves finds.
pub(super) enum Left<P> {
    /// No notification came, and none will.
    Unnoticed,
    /// The notification came, with the payload as the waker left it.
    Notified(P),
}

impl<P: Default> Seat<P> {
    pub(super) fn new() -> Self {
        Self { node: Node::new(P::default()), taken: Cell::new(false) }
    }

    /// Whether there is anything to leave.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.get()
    }

    /// Whether a waker has unlinked the node.
    pub(super) fn is_notified(&self) -> bool {
        self.taken.get() && self.node.is_notified()
    }

    /// Waits in `list` from now on; `who` is woken by its notification.
    ///
    /// # Safety
    /// The seat is not taken. It stays where it is, alive, until [`Seat::leave`] was called with the same list, whose
    /// owner's lock is held in both calls.
    pub(super) unsafe fn sit(&self, list: &mut WaitList<P>, who: &Sleeper, payload: P, at_front: bool) {
        assert!(!self.taken.replace(true), "a seat is taken once");
        // Relaxed: nobody else knows the node before it is linked, under the lock.
        self.node.notified.store(false, Ordering::Relaxed);
        // SAFETY: the node is not linked, so it is ours alone; the caller keeps it in place until it is unlinked.
        unsafe {
            let slot = &mut *self.node.slot.get();
            slot.who = Some(who.clone());
            slot.payload = payload;
            list.link(&self.node, at_front);
        }
    }

    /// Ends the wait in `list`, under the lock of its owner. `None` if the seat was not taken.
    pub(super) fn leave(&self, list: &mut WaitList<P>) -> Option<Left<P>> {
        if !self.taken.replace(false) {
            return None;
        }
        // SAFETY: the node was linked in this list and only a notification, which happens under the lock that is held
        // here, unlinks it. Out of the list it is ours alone.
        unsafe {
            let slot = &mut *self.node.slot.get();
            if slot.linked {
                list.unlink(&self.node);
                slot.who = None;
                return Some(Left::Unnoticed);
            }
            Some(Left::Notified(std::mem::take(&mut slot.payload)))
        }
    }
}
