//! The queue of fibers that are ready: a ring that only its worker touches.
//!
//! No atomics, no links through the fibers: the next few fibers are known without touching them, so their memory can be
//! fetched while the current one runs. With ten thousand fibers on a worker that is most of the cost of a switch.

use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;

use crate::fiber::header::Header;

const INITIAL: usize = 64;

/// A growing FIFO ring of pointers. Owns the runtime's reference to each fiber in it.
///
/// # Invariants
/// The buffer's length is a power of two; `tail - head` (wrapping) is the number of elements and at most that length.
pub(crate) struct ReadyQueue {
    buffer: UnsafeCell<Box<[*mut Header]>>,
    /// The buffer's length less one.
    mask: Cell<usize>,
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        ReadyQueue {
            buffer: UnsafeCell::new(vec![std::ptr::null_mut(); INITIAL].into()),
            mask: Cell::new(INITIAL - 1),
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    /// The number of fibers in it.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tail.get() == self.head.get()
    }

    /// Appends a fiber.
    #[inline(always)]
    pub(crate) fn push(&self, fiber: NonNull<Header>) {
        if self.len() > self.mask.get() {
            self.grow();
        }
        let tail = self.tail.get();
        // SAFETY: the queue is `!Sync` and no reference to the buffer outlives a method: none exists now. The mask keeps
        // the index below the length.
        unsafe { *(&mut *self.buffer.get()).get_unchecked_mut(tail & self.mask.get()) = fiber.as_ptr() };
        self.tail.set(tail.wrapping_add(1));
    }

    /// Puts a fiber before all others.
    #[cold]
    pub(crate) fn push_front(&self, fiber: NonNull<Header>) {
        if self.len() > self.mask.get() {
            self.grow();
        }
        let head = self.head.get().wrapping_sub(1);
        // SAFETY: as in `push`.
        unsafe { (&mut *self.buffer.get())[head & self.mask.get()] = fiber.as_ptr() };
        self.head.set(head);
    }

    /// Takes the oldest fiber.
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<NonNull<Header>> {
        let head = self.head.get();
        if head == self.tail.get() {
            return None;
        }
        self.head.set(head.wrapping_add(1));
        Some(self.at(head))
    }

    /// The fiber `ahead` places from the front, if there is one.
    #[inline(always)]
    pub(crate) fn peek(&self, ahead: usize) -> Option<NonNull<Header>> {
        if ahead >= self.len() {
            return None;
        }
        Some(self.at(self.head.get().wrapping_add(ahead)))
    }

    /// Takes the fiber `ahead` places from the front and puts the first in its place. For simulations.
    pub(crate) fn swap_remove(&self, ahead: usize) -> Option<NonNull<Header>> {
        let taken = self.peek(ahead)?;
        let first = self.at(self.head.get()).as_ptr();
        // SAFETY: as in `push`.
        unsafe { (&mut *self.buffer.get())[self.head.get().wrapping_add(ahead) & self.mask.get()] = first };
        self.head.set(self.head.get().wrapping_add(1));
        Some(taken)
    }

    /// The fiber at a position between head and tail.
    #[inline(always)]
    fn at(&self, position: usize) -> NonNull<Header> {
        // SAFETY: as in `push`; and what is between head and tail was put there by `push` or `push_front`.
        unsafe { NonNull::new_unchecked(*(&*self.buffer.get()).get_unchecked(position & self.mask.get())) }
    }

    #[cold]
    fn grow(&self) {
        let count = self.len();
        let mut larger = Vec::with_capacity(count * 2);
        larger.extend((0..count).map(|ahead| self.at(self.head.get().wrapping_add(ahead)).as_ptr()));
        larger.resize(count * 2, std::ptr::null_mut());
        // SAFETY: as in `push`.
        unsafe { *self.buffer.get() = larger.into() };
        self.mask.set(count * 2 - 1);
        self.head.set(0);
        self.tail.set(count);
    }
}
