//! Fibers that have not started and that only this worker will start, and those that gave way to them.
//!
//! A fiber that forks into ten, each of which forks into ten, should not end up as a thousand stacks: what was spawned
//! last starts first, so that a tree of fibers is walked in depth and its stacks are used again while they are warm (the
//! space bound of Cilk's schedulers, Blumofe and Leiserson 1999). Siblings start in the order in which they were spawned:
//!
//! ```text
//!   spawned by F, then by its first child      next to start
//!   F: a b c                                   a          (c b a on the stack, a on top)
//!   a: d e                                     d, e, b, c
//! ```
//!
//! A stack starves what lies at its bottom as long as more comes on top, so one start in [`OLDEST_SHARE`] is the oldest.
//! And a fiber that gives way waits until there is none of them, which is what it gave way for, but for [`PATIENCE`]
//! starts at most.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::ptr::NonNull;

use crate::fiber::header::Header;

/// One start in so many is the oldest's.
pub(super) const OLDEST_SHARE: u32 = 64;
/// Starts that a fiber which gave way lets happen before it.
const PATIENCE: u32 = 1 << 16;

/// See the module's documentation. Owns the runtime's reference to each fiber in it.
///
/// # Invariants
/// The first `sealed` of `queue` are a stack, newest last; those after it are in the order in which they came.
/// `yielded` is empty if `queue` is.
pub(super) struct Young {
    queue: UnsafeCell<VecDeque<NonNull<Header>>>,
    yielded: UnsafeCell<VecDeque<NonNull<Header>>>,
    sealed: Cell<usize>,
    len: Cell<usize>,
    starts: Cell<u32>,
}

impl Young {
    pub(super) const fn new() -> Self {
        Young {
            queue: UnsafeCell::new(VecDeque::new()),
            yielded: UnsafeCell::new(VecDeque::new()),
            sealed: Cell::new(0),
            len: Cell::new(0),
            starts: Cell::new(0),
        }
    }

    /// The number of fibers that have not started.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len.get()
    }

    /// Whether there is none, and nobody gave way to one.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    /// The number of those that gave way.
    pub(super) fn patient(&self) -> usize {
        // SAFETY: as in `push`.
        unsafe { &*self.yielded.get() }.len()
    }

    /// Adds a fiber that was spawned just now.
    #[inline]
    pub(super) fn push(&self, fiber: NonNull<Header>) {
        // SAFETY: the type is `!Sync` and no reference to the queue outlives a method: none exists now.
        unsafe { &mut *self.queue.get() }.push_back(fiber);
        self.len.set(self.len.get() + 1);
    }

    /// Calls `each` on those that have not started, at most `limit` of them.
    pub(super) fn for_each(&self, limit: usize, each: impl FnMut(NonNull<Header>)) {
        // SAFETY: as in `push`; `each` reads the fibers and does not come back here.
        unsafe { &*self.queue.get() }.iter().take(limit).copied().for_each(each);
    }

    /// A started fiber gives way to those that have not started. There is at least one.
    #[cold]
    pub(super) fn give_way(&self, fiber: NonNull<Header>) {
        debug_assert!(!self.is_empty(), "there is somebody to give way to");
        // SAFETY: as in `push`.
        unsafe { &mut *self.yielded.get() }.push_back(fiber);
    }

    /// Takes the next fiber: to start, or, now and then, one that gave way. Those that gave way to nobody else go to
    /// `ready` when the last one starts.
    pub(super) fn pop(&self, ready: impl FnMut(NonNull<Header>)) -> Option<NonNull<Header>> {
        // SAFETY: as in `push`; `ready` does not come back here.
        let (queue, yielded) = unsafe { (&mut *self.queue.get(), &mut *self.yielded.get()) };
        let starts = self.starts.get().wrapping_add(1);
        self.starts.set(starts);
        if starts.is_multiple_of(PATIENCE)
            && let Some(patient) = yielded.pop_front()
        {
            return Some(patient);
        }
        let fiber = if starts.is_multiple_of(OLDEST_SHARE) {
            self.sealed.set(self.sealed.get().saturating_sub(1));
            queue.pop_front()
        } else {
            self.seal(queue);
            queue.pop_back()
        };
        self.len.set(queue.len());
        if queue.is_empty() && !yielded.is_empty() {
            yielded.drain(..).for_each(ready);
        }
        fiber
    }

    /// Puts those that came since the last time on the stack, the first on top, which is about to be taken.
    #[inline]
    fn seal(&self, queue: &mut VecDeque<NonNull<Header>>) {
        let (mut low, mut high) = (self.sealed.get(), queue.len());
        self.sealed.set(high.saturating_sub(1));
        while low + 1 < high {
            high -= 1;
            queue.swap(low, high);
            low += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fiber(number: usize) -> NonNull<Header> {
        NonNull::without_provenance(std::num::NonZeroUsize::new(number).unwrap())
    }

    fn pop(young: &Young, ready: &mut Vec<usize>) -> Option<usize> {
        young.pop(|fiber| ready.push(fiber.addr().get())).map(|fiber| fiber.addr().get())
    }

    #[test]
    fn siblings_start_in_order_and_children_before_their_parents_siblings() {
        let (young, mut ready) = (Young::new(), Vec::new());
        (1..=3).for_each(|number| young.push(fiber(number)));
        assert_eq!(pop(&young, &mut ready), Some(1));
        (4..=5).for_each(|number| young.push(fiber(number)));
        let rest: Vec<_> = std::iter::from_fn(|| pop(&young, &mut ready)).collect();
        assert_eq!(rest, [4, 5, 2, 3]);
        assert!(young.is_empty());
    }

    #[test]
    fn who_gives_way_comes_after_all_that_have_not_started() {
        let (young, mut ready) = (Young::new(), Vec::new());
        (1..=2).for_each(|number| young.push(fiber(number)));
        young.give_way(fiber(90));
        assert_eq!(pop(&young, &mut ready), Some(1));
        young.give_way(fiber(91));
        assert_eq!((ready.len(), pop(&young, &mut ready)), (0, Some(2)));
        assert_eq!(ready, [90, 91]);
    }

    #[test]
    fn neither_the_oldest_nor_who_gave_way_starves() {
        let (young, mut ready) = (Young::new(), Vec::new());
        (1..=2).for_each(|number| young.push(fiber(number)));
        young.give_way(fiber(90));
        let mut started = Vec::new();
        // Each start brings a new fiber, for ever.
        for number in 100..100 + 2 * PATIENCE as usize {
            started.extend(pop(&young, &mut ready));
            young.push(fiber(number));
        }
        let place = |number| started.iter().position(|&started| started == number);
        assert_eq!(place(1), Some(0));
        assert!(place(2) <= Some(2 * OLDEST_SHARE as usize), "started as {:?}", place(2));
        assert!(place(90).is_some_and(|place| place <= PATIENCE as usize), "went on as {:?}", place(90));
        assert!(ready.is_empty());
    }
}
