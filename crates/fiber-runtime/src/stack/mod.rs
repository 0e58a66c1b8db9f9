//! Fiber stacks: where they live, how they are guarded, and how they are used again.
//!
//! ```text
//!   slot (a power of two, aligned to nothing but the page)
//!   low                                                          high
//!   +--------+--------------------------------------------+------+
//!   | guard  |  <------------------------ stack grows     |colour|
//!   | 1 page |                                            |      |
//!   +--------+--------------------------------------------+------+
//!            ^ limit of what may be touched               ^ base
//! ```
//!
//! Slots are cut from large reserved mappings ([`arena`]); nothing is committed until it is touched. The guard is a
//! marker in the page table (`MADV_GUARD_INSTALL`, Linux 6.13) that does not split the mapping, so a million guarded
//! stacks fit under the default `vm.max_map_count`; older kernels get `mprotect`. The *colour* moves the top of each
//! stack by a few cache lines: without it the hot ends of all stacks would compete for the same cache sets.
//!
//! A finished fiber's stack goes to its worker's cache and from there to a shared depot ([`cache`]); beyond a budget
//! of resident memory the depot gives the pages back to the kernel and keeps the guarded address range.

mod arena;
mod cache;
pub(crate) mod overflow;

use std::num::NonZeroUsize;

pub(crate) use cache::StackCache;

/// The smallest slot, guard included.
pub(crate) const MIN_SLOT: usize = 16 * 1024;
/// Slots double from one class to the next: 16 KiB to 64 MiB.
pub(crate) const CLASSES: usize = 13;
/// The largest stack a fiber can ask for.
pub(crate) const MAX_SLOT: usize = MIN_SLOT << (CLASSES - 1);
/// Bytes at the low end of a slot that fault when touched.
pub(crate) const GUARD: usize = 4096;
/// Tops of stacks start on one of this many cache lines of their first page.
const COLOURS: usize = 16;

/// The size class that holds `bytes`, at most the largest.
#[inline]
pub(crate) fn class_of(bytes: usize) -> u8 {
    let slot = bytes.clamp(MIN_SLOT, MAX_SLOT).next_power_of_two();
    (slot.trailing_zeros() - MIN_SLOT.trailing_zeros()) as u8
}

/// Bytes of a slot of `class`, guard included.
#[inline]
pub(crate) const fn slot_size(class: u8) -> usize {
    MIN_SLOT << class
}

/// One guarded stack. It is a value without a destructor: it comes from a [`StackCache`] and goes back to one.
///
/// # Invariants
/// `[low, low + slot_size(class))` is a slot of the arena with its guard installed, and belongs to this value alone.
#[derive(Debug)]
pub(crate) struct FiberStack {
    low: NonZeroUsize,
    class: u8,
    colour: u8,
}

impl FiberStack {
    fn new(low: NonZeroUsize, class: u8, colour: u8) -> Self {
        FiberStack { low, class, colour: colour % COLOURS as u8 }
    }

    /// The addresses that fault: below the usable part.
    pub(crate) fn guard(&self) -> std::ops::Range<usize> {
        self.low.get()..self.low.get() + GUARD
    }

    /// Bytes of the slot, guard included.
    pub(crate) fn size(&self) -> usize {
        slot_size(self.class)
    }

    fn top(&self) -> usize {
        self.low.get() + self.size() - usize::from(self.colour) * 64
    }
}

// SAFETY: the invariant of the type: a guard page at the low end, more than `MIN_STACK_SIZE` usable bytes above it
// (the smallest slot less guard and largest colour is over 11 KiB), and both ends are multiples of 16.
unsafe impl corosensei::stack::Stack for FiberStack {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.top()).expect("a slot lies above address zero")
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        self.low
    }
}

#[cfg(test)]
mod tests;
