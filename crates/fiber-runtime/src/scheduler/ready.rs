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
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        ReadyQueue {
            buffer: UnsafeCell::new(vec![std::ptr::null_mut(); INITIAL].into()),
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
        // SAFETY: the queue is `!Sync` and no reference to the buffer outlives a method: none exists now.
        let capacity = unsafe { &*self.buffer.get() }.len();
        if self.len() == capacity {
            self.grow();
        }
        let tail = self.tail.get();
        // SAFETY: as above; the mask keeps the index below the length.
        unsafe {
            let buffer = &mut *self.buffer.get();
            let mask = buffer.len() - 1;
            *buffer.get_unchecked_mut(tail & mask) = fiber.as_ptr();
        }
        self.tail.set(tail.wrapping_add(1));
    }

    /// Puts a fiber before all others.
    #[cold]
    pub(crate) fn push_front(&self, fiber: NonNull<Header>) {
        // SAFETY: as in `push`.
        let capacity = unsafe { &*self.buffer.get() }.len();
        if self.len() == capacity {
            self.grow();
        }
        let head = self.head.get().wrapping_sub(1);
        // SAFETY: as in `push`.
        unsafe {
            let buffer = &mut *self.buffer.get();
            let mask = buffer.len() - 1;
            buffer[head & mask] = fiber.as_ptr();
        }
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
        NonNull::new(self.at(head))
    }

    /// The fiber `ahead` places from the front, if there is one.
    #[inline(always)]
    pub(crate) fn peek(&self, ahead: usize) -> Option<NonNull<Header>> {
        if ahead >= self.len() {
            return None;
        }
        NonNull::new(self.at(self.head.get().wrapping_add(ahead)))
    }

    /// Takes the fiber `ahead` places from the front and puts the first in its place. For simulations.
    pub(crate) fn swap_remove(&self, ahead: usize) -> Option<NonNull<Header>> {
        let taken = self.peek(ahead)?;
        let first = self.at(self.head.get());
        // SAFETY: as in `push`.
        unsafe {
            let buffer = &mut *self.buffer.get();
            let mask = buffer.len() - 1;
            buffer[self.head.get().wrapping_add(ahead) & mask] = first;
        }
        self.head.set(self.head.get().wrapping_add(1));
        Some(taken)
    }

    #[inline(always)]
    fn at(&self, position: usize) -> *mut Header {
        // SAFETY: as in `push`.
        unsafe {
            let buffer = &*self.buffer.get();
            *buffer.get_unchecked(position & (buffer.len() - 1))
        }
    }

    #[cold]
    fn grow(&self) {
        let count = self.len();
        let mut larger = Vec::with_capacity(count * 2);
        larger.extend((0..count).map(|ahead| self.at(self.head.get().wrapping_add(ahead))));
        larger.resize(count * 2, std::ptr::null_mut());
        // SAFETY: as in `push`.
        unsafe { *self.buffer.get() = larger.into() };
        self.head.set(0);
        self.tail.set(count);
    }
}
