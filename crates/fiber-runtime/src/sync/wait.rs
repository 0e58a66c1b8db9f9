//! The wait queue under every primitive: who waits, in which order, and how a wait ends.
//!
//! A queue is a list of nodes that live on the stacks of those who wait, so that waiting allocates nothing. The list is
//! guarded by the [`Spin`] of its owner, which is never held across a suspension.
//!
//! ```text
//!   waiter                                      waker
//!   lock { look; not yet: link the node }
//!                                               lock { unlink the node, take its handle,
//!   wait                                               set its flag: the last touch }
//!   flag set: the node is ours again            wake the handle
//!   flag not set: a stray wake, wait again
//! ```
//!
//! A wake between the linking and the wait is kept ([`crate::waiter`]). A wait ends in one of three ways: it is
//! notified; its deadline passes; or its fiber is cancelled and unwinds. In the latter two the node is unlinked under
//! the lock first, and the owner of the queue is told whether the notification had already arrived, so that it can
//! pass it on.

use std::ptr;
use std::time::Instant;

use super::Spin;
use crate::fiber::cancel;
use crate::primitive::{AtomicBool, Ordering, UnsafeCell};
use crate::waiter::{self, Waiter, Woken};

/// Handles gathered under a lock, to be woken once it is released.
pub(super) struct Wakes {
    inline: [Option<Waiter>; Self::INLINE],
    len: usize,
    more: Vec<Waiter>,
}

impl Wakes {
    const INLINE: usize = 4;

    pub(super) fn new() -> Self {
        Self { inline: [const { None }; Self::INLINE], len: 0, more: Vec::new() }
    }

    pub(super) fn push(&mut self, who: Option<Waiter>) {
        let Some(who) = who else { return };
        if self.len < Self::INLINE {
            self.inline[self.len] = Some(who);
        } else {
            self.more.push(who);
        }
        self.len += 1;
    }

    pub(super) fn wake(self) {
        for who in self.inline.into_iter().flatten().chain(self.more) {
            who.wake();
        }
    }
}

/// A list of waiters, first in, first out. `P` is what each brings along and what the waker may change: its kind, its
/// share, the value it wants to hand over.
///
/// # Invariants
/// Every linked node is alive: [`wait`] unlinks its node before it returns or unwinds. Links and payloads are touched
/// only under the lock of the list's owner.
pub(super) struct WaitList<P> {
    head: *const Node<P>,
    tail: *const Node<P>,
}

// SAFETY: the list reaches nodes of other threads, always under its owner's lock, and moves payloads between threads.
unsafe impl<P: Send> Send for WaitList<P> {}

struct Node<P> {
    /// Set by the waker as its last touch of the node; from then on the waiter owns all of it.
    notified: AtomicBool,
    slot: UnsafeCell<Slot<P>>,
}

struct Slot<P> {
    prev: *const Node<P>,
    next: *const Node<P>,
    linked: bool,
    who: Option<Waiter>,
    payload: P,
}

impl<P> WaitList<P> {
    pub(super) const fn new() -> Self {
        Self { head: ptr::null(), tail: ptr::null() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// What the first waiter brought along.
    pub(super) fn front(&mut self) -> Option<&mut P> {
        if self.head.is_null() {
            return None;
        }
        // SAFETY: a linked node is alive (invariant), and the exclusive borrow of the list stands for its owner's lock.
        Some(unsafe { &mut (*(*self.head).slot.get()).payload })
    }

    /// Unlinks the first waiter and sets its flag. The caller unparks the handle once the lock is released.
    pub(super) fn notify_front(&mut self) -> Option<Waiter> {
        if self.head.is_null() {
            return None;
        }
        let node = self.head;
        // SAFETY: a linked node is alive, and stays so until `notified` is set, which is the last access here.
        unsafe {
            self.unlink(&*node);
            let who = (*(*node).slot.get()).who.take();
            // Pairs with the acquiring load in `Node::is_notified`.
            (*node).notified.store(true, Ordering::Release);
            who
        }
    }

    /// Notifies everybody who waits now.
    pub(super) fn notify_all(&mut self, wakes: &mut Wakes) {
        while !self.is_empty() {
            wakes.push(self.notify_front());
        }
    }

    /// # Safety
    /// The node is not linked anywhere and stays where it is, alive, until it is unlinked.
    unsafe fn link(&mut self, node: &Node<P>, at_front: bool) {
        // SAFETY: neighbours are linked and thus alive; slots are touched under the owner's lock, which the exclusive
        // borrow of the list stands for; no two of these references are to the same slot.
        unsafe {
            let slot = &mut *node.slot.get();
            assert!(!slot.linked, "a waiter is linked once");
            slot.linked = true;
            if at_front {
                (slot.prev, slot.next) = (ptr::null(), self.head);
                match self.head.as_ref() {
                    Some(head) => (*head.slot.get()).prev = node,
                    None => self.tail = node,
                }
                self.head = node;
            } else {
                (slot.prev, slot.next) = (self.tail, ptr::null());
                match self.tail.as_ref() {
                    Some(tail) => (*tail.slot.get()).next = node,
                    None => self.head = node,
                }
                self.tail = node;
            }
        }
    }

    /// # Safety
    /// The node is linked in this list.
    unsafe fn unlink(&mut self, node: &Node<P>) {
        // SAFETY: as in `link`.
        unsafe {
            let (prev, next) = {
                let slot = &mut *node.slot.get();
                assert!(slot.linked, "a waiter is unlinked once");
                slot.linked = false;
                (slot.prev, slot.next)
            };
            match prev.as_ref() {
                Some(prev) => (*prev.slot.get()).next = next,
                None => self.head = next,
            }
            match next.as_ref() {
                Some(next) => (*next.slot.get()).prev = prev,
                None => self.tail = prev,
            }
        }
    }
}

impl<P> Node<P> {
    fn new(payload: P) -> Self {
        let slot = Slot { prev: ptr::null(), next: ptr::null(), linked: false, who: None, payload };
        Self { notified: AtomicBool::new(false), slot: UnsafeCell::new(slot) }
    }

    fn is_notified(&self) -> bool {
        // Pairs with the releasing store in `WaitList::notify_front`.
        self.notified.load(Ordering::Acquire)
    }
}

/// What a caller finds when it looks under the lock before waiting.
pub(super) enum Enter<R> {
    /// No need to wait.
    Ready(R),
    /// Wait, behind everybody else.
    Back,
    /// Wait, before everybody else: a waiter that was woken and came too late.
    Front,
}

/// How a wait ended. The payload is as the waker left it.
pub(super) enum Waited<R, P> {
    /// There was no wait.
    Ready(R),
    Notified(P),
    TimedOut(P),
}

/// Which list of an owner's state a waiter goes into.
pub(super) type ListOf<S, P> = fn(&mut S) -> &mut WaitList<P>;

/// Looks under the lock and, if need be, waits in the list. Unwinds when the fiber is cancelled.
///
/// - `label` says in a dump of fibers what this one waits for.
/// - `enter` looks, and takes what it came for if it is there.
/// - `before_wait` runs once the waiter is queued and the lock released.
/// - `abandoned` runs under the lock when the waiter leaves without what it came for, by deadline or by cancellation.
///   Its flag says that the notification had arrived (only by cancellation) and must be passed on.
pub(super) fn wait<S, P, R>(
    (lock, list): (&Spin<S>, ListOf<S, P>),
    label: &'static str,
    payload: P,
    deadline: Option<Instant>,
    enter: impl FnOnce(&mut S, &mut P) -> Enter<R>,
    before_wait: impl FnOnce(),
    abandoned: impl FnOnce(&mut S, bool, &mut P, &mut Wakes),
) -> Waited<R, P> {
    let node = Node::new(payload);

    let ready = lock.lock(|state| {
        // SAFETY: the node is not linked yet, so it is ours alone.
        let decision = enter(state, unsafe { &mut (*node.slot.get()).payload });
        let at_front = match decision {
            Enter::Ready(ready) => return Some(ready),
            Enter::Front => true,
            Enter::Back => false,
        };
        let who = Waiter::current();
        // SAFETY: as above for the slot; `node` stays in this frame, which is not left before it is unlinked: from
        // here on nothing unwinds until `cancel::unwind` below.
        unsafe {
            (*node.slot.get()).who = Some(who);
            list(state).link(&node, at_front);
        }
        None
    });
    if let Some(ready) = ready {
        return Waited::Ready(ready);
    }

    before_wait();
    let mut ended = Woken::Signal;
    while ended == Woken::Signal && !node.is_notified() {
        ended = waiter::wait(label, deadline);
    }
    let mut notified = node.is_notified();
    if ended == Woken::Cancelled || !notified {
        let mut wakes = Wakes::new();
        lock.lock(|state| {
            notified = node.is_notified();
            if notified && ended != Woken::Cancelled {
                return;
            }
            if !notified {
                // SAFETY: the node was linked in this list, and only a notification unlinks it.
                unsafe { list(state).unlink(&node) };
            }
            // SAFETY: the node is out of the list, so its payload is ours alone.
            abandoned(state, notified, unsafe { &mut (*node.slot.get()).payload }, &mut wakes);
        });
        wakes.wake();
    }
    let payload = node.slot.into_inner().payload;
    if ended == Woken::Cancelled {
        drop(payload);
        cancel::unwind();
    }
    if notified { Waited::Notified(payload) } else { Waited::TimedOut(payload) }
}
