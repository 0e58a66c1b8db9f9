//! Fiber stacks: where they live, how they are guarded, and how they are used again.
//!
//! ```text
//!   slot: an odd number of pages and a power of two
//!   low                                                          high
//!   +---------+-------------------------------------------+------+
//!   | guard   |  <----------------------- stack grows     |colour|
//!   | 1 or 17 |                                           |      |
//!   +---------+-------------------------------------------+------+
//!             ^ limit of what may be touched               ^ base
//! ```
//!
//! The guard comes on top of the power of two, so that slots are an odd number of pages apart: at a power of two, the hot
//! pages of all stacks would share a sixteenth of the sets of the processor's address translation buffers (measured with
//! 10,000 fibers taking turns).
//!
//! rustc touches every page of a large frame in turn, so for Rust one page is enough. C compilers do so only on request, and a
//! frame that is larger than the guard reaches over it, into the neighbour's stack. What calls C wants a large stack, and
//! a large stack has a guard of 17 pages, more than C frames commonly have. Small stacks are for millions of fibers, and keep one
//! page: each page of a guard costs eight bytes of page table.
//!
//! Slots are cut from large reserved mappings ([`arena`]); nothing is committed until it is touched. The guard is a
//! marker in the page table (`MADV_GUARD_INSTALL`, Linux 6.13) that does not split the mapping, so a million guarded
//! stacks fit under the default `vm.max_map_count`; older kernels get `mprotect`. The *colour* moves the top of each
//! stack by a few cache lines: without it the hot ends of all stacks would compete for the same cache sets.
//!
//! A finished fiber's stack goes to its worker's cache and from there to a shared depot ([`cache`]); beyond a budget
//! of resident memory workers with nothing else to do give the pages back to the kernel and keep the guarded range.

mod arena;
mod cache;
pub(crate) mod overflow;
pub(crate) mod probe;

use std::num::NonZeroUsize;

pub(crate) use cache::{StackCache, trim};

/// The smallest stack.
pub(crate) const MIN_STACK: usize = 16 * 1024;
/// Stacks double from one class to the next: 16 KiB to 64 MiB.
pub(crate) const CLASSES: usize = 13;
/// The largest stack a fiber can ask for.
pub(crate) const MAX_STACK: usize = MIN_STACK << (CLASSES - 1);
/// Bytes at the low end of a small stack's slot that fault when touched.
pub(crate) const GUARD: usize = 4096;
/// As [`GUARD`], for large stacks. An odd number of pages, too.
pub(crate) const LARGE_GUARD: usize = 17 * 4096;
/// The smallest stack with a large guard.
const LARGE_STACK: usize = 256 * 1024;
/// Tops of stacks start on one of this many cache lines of their first page.
const COLOURS: usize = 16;

/// The size class that holds `bytes`, at most the largest.
#[inline]
pub(crate) fn class_of(bytes: usize) -> u8 {
    let size = bytes.clamp(MIN_STACK, MAX_STACK).next_power_of_two();
    (size.trailing_zeros() - MIN_STACK.trailing_zeros()) as u8
}

/// Bytes of a stack of `class`.
#[inline]
pub(crate) const fn stack_size(class: u8) -> usize {
    MIN_STACK << class
}

/// Bytes of the guard below a stack of `class`.
#[inline]
pub(crate) const fn guard_size(class: u8) -> usize {
    if stack_size(class) < LARGE_STACK { GUARD } else { LARGE_GUARD }
}

/// Bytes of the slot of a stack of `class`, guard included.
#[inline]
pub(crate) const fn slot_size(class: u8) -> usize {
    guard_size(class) + stack_size(class)
}

/// One guarded stack. It is a value without a destructor: it comes from a [`StackCache`] and goes back to one.
///
/// One word, so that what a switch reads of a fiber fits one cache line: the address of the top, on a cache line, and in its
/// low bits the class. The slot ends at the next page boundary.
///
/// # Invariants
/// `[low, low + slot_size(class))` is a slot of the arena with its guard (`guard_size(class)` bytes) installed, and belongs to this value alone.
#[derive(Debug)]
pub(crate) struct FiberStack(NonZeroUsize);

const PAGE: usize = 4096;
const LINE: usize = 64;
const _: () = assert!(CLASSES <= LINE && COLOURS * LINE < PAGE);

impl FiberStack {
    fn new(low: NonZeroUsize, class: u8, colour: usize) -> Self {
        assert!(low.get().is_multiple_of(PAGE), "the slot at {low:#x} does not begin on a page");
        let top = low.get() + slot_size(class) - colour % COLOURS * LINE;
        FiberStack(NonZeroUsize::new(top | usize::from(class)).expect("a slot lies above address zero"))
    }

    /// Where the slot begins.
    #[inline]
    fn low(&self) -> usize {
        self.top().next_multiple_of(PAGE) - self.size()
    }

    /// The slot's size class.
    #[inline]
    fn class(&self) -> u8 {
        (self.0.get() % LINE) as u8
    }

    /// The addresses that fault: below the usable part.
    pub(crate) fn guard(&self) -> std::ops::Range<usize> {
        self.low()..self.low() + guard_size(self.class())
    }

    /// Bytes of the slot, guard included.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        slot_size(self.class())
    }

    #[inline]
    fn top(&self) -> usize {
        self.0.get() & !(LINE - 1)
    }
}

// SAFETY: the invariant of the type: a guard of a page or more at the low end, more than `MIN_STACK_SIZE` usable bytes above it
// (the smallest slot less guard and largest colour is 15 KiB), and both ends are multiples of 16.
unsafe impl corosensei::stack::Stack for FiberStack {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        // SAFETY: the top of a slot of `MIN_STACK` bytes or more is not zero.
        unsafe { NonZeroUsize::new_unchecked(self.top()) }
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.low()).expect("a slot lies above address zero")
    }
}

#[cfg(test)]
mod tests;
