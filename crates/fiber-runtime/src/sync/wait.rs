//! The wait queue under every primitive: who waits, in which order, and how a wait ends.
//!
//! A queue is a list of nodes that live on the stacks of those who wait, so that waiting allocates nothing. The list is
//! guarded by the [`Spin`] of its owner, which is never held across a suspension.
//!
//! ```text
//!   waiter                                      waker
//!   lock { look; not yet: link the node }
//!                                               lock { unlink the node; its fiber is of this
//!                                                      worker: wake it, else take a handle;
//!   wait                                               set its flag: the last touch }
//!   flag set: the node is ours again            wake the handle, if there is one
//!   flag not set: a stray wake, wait again
//! ```
//!
//! A fiber of the waker's own worker is woken under the lock: that puts it into the ready queue and no more, and saves
//! counting a reference. A wake between the linking and the wait is kept ([`crate::waiter`]). A wait ends in one of
//! three ways: it is notified; its deadline passes; or its fiber is cancelled and unwinds. In the latter two the node
//! is unlinked under the lock first, and the owner of the queue is told whether the notification had already arrived,
//! so that it can pass it on.

use std::ptr;
use std::time::Instant;

use super::Spin;
use crate::fiber::cancel;
use crate::primitive::{AtomicBool, Ordering, UnsafeCell};
use crate::waiter::{self, Sleeper, Waiter, Woken};

/// What is left to do for those notified under a lock, once it is released.
#[must_use = "a notified waiter may have to be woken"]
pub(super) struct Wakeup(Option<Waiter>);

impl Wakeup {
    #[inline(always)]
    pub(super) fn wake(self) {
        if let Some(who) = self.0 {
            who.wake();
        }
    }
}

/// Several of those. Usually none is left to do, so an empty one is cheap to make and to drop.
pub(super) struct Wakes {
    first: Option<Waiter>,
    #[expect(clippy::box_collection, reason = "one word, not three, in every operation that wakes nobody")]
    more: Option<Box<Vec<Waiter>>>,
}

impl Wakes {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { first: None, more: None }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, wakeup: Option<Wakeup>) {
        if let Some(Wakeup(Some(who))) = wakeup {
            self.push_handle(who);
        }
    }

    #[cold]
    fn push_handle(&mut self, who: Waiter) {
        match self.first {
            None => self.first = Some(who),
            Some(_) => self.more.get_or_insert_default().push(who),
        }
    }

    #[inline(always)]
    pub(super) fn wake(self) {
        if self.first.is_some() {
            self.wake_handles();
        }
    }

    #[cold]
    fn wake_handles(self) {
        for who in self.first.into_iter().chain(self.more.into_iter().flat_map(|more| *more)) {
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

pub(super) struct Node<P> {
    /// Set by the waker as its last touch of the node; from then on the waiter owns all of it.
    pub(super) notified: AtomicBool,
    pub(super) slot: UnsafeCell<Slot<P>>,
}

pub(super) struct Slot<P> {
    prev: *const Node<P>,
    next: *const Node<P>,
    pub(super) linked: bool,
    pub(super) who: Option<Sleeper>,
    pub(super) payload: P,
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

    /// Unlinks the first waiter and sets its flag. The caller finishes the wake-up once the lock is released.
    #[inline(always)]
    pub(super) fn notify_front(&mut self) -> Option<Wakeup> {
        if self.head.is_null() {
            return None;
        }
        let node = self.head;
        // SAFETY: a linked node is alive, and stays so until `notified` is set, which is the last access here; its
        // waiter does not return from `wait` before that, or before it gets the lock the caller holds.
        unsafe {
            self.unlink(&*node);
            let who = (*(*node).slot.get()).who.take();
            let wakeup = Wakeup(who.and_then(|who| who.wake_or_handle()));
            // Pairs with the acquiring load in `Node::is_notified`.
            (*node).notified.store(true, Ordering::Release);
            Some(wakeup)
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
    #[inline(always)]
    pub(super) unsafe fn link(&mut self, node: &Node<P>, at_front: bool) {
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
    #[inline(always)]
    pub(super) unsafe fn unlink(&mut self, node: &Node<P>) {
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
    pub(super) fn new(payload: P) -> Self {
        let slot = Slot { prev: ptr::null(), next: ptr::null(), linked: false, who: None, payload };
        Self { notified: AtomicBool::new(false), slot: UnsafeCell::new(slot) }
    }

    pub(super) fn is_notified(&self) -> bool {
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
///
/// Inlined, as everything between a fiber's call and the switch: see `park::switch`.
#[inline(always)]
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
        let who = Sleeper::current();
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
        notified = leave(lock, list, &node, ended, abandoned);
    }
    let payload = node.slot.into_inner().payload;
    if ended == Woken::Cancelled {
        drop(payload);
        cancel::unwind();
    }
    if notified { Waited::Notified(payload) } else { Waited::TimedOut(payload) }
}

/// The waiter's deadline has passed, or its fiber was cancelled: takes it out of the list, or finds that a notification
/// came first (true).
#[cold]
fn leave<S, P>(
    lock: &Spin<S>,
    list: ListOf<S, P>,
    node: &Node<P>,
    ended: Woken,
    abandoned: impl FnOnce(&mut S, bool, &mut P, &mut Wakes),
) -> bool {
    let mut wakes = Wakes::new();
    let notified = lock.lock(|state| {
        let notified = node.is_notified();
        if notified && ended != Woken::Cancelled {
            return true;
        }
        if !notified {
            // SAFETY: the node was linked in this list, and only a notification unlinks it.
            unsafe { list(state).unlink(node) };
        }
        // SAFETY: the node is out of the list, so its payload is ours alone.
        abandoned(state, notified, unsafe { &mut (*node.slot.get()).payload }, &mut wakes);
        notified
    });
    wakes.wake();
    notified
}
