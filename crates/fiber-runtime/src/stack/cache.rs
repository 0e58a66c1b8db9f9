//! Stacks waiting to be used again: a LIFO per worker, and a depot shared by all.
//!
//! A worker takes the stack it gave back last, whose top is still in its cache. It talks to the depot in batches, so
//! the depot's lock is taken once for many stacks. What the depot holds beyond [`RESIDENT_BUDGET`] has been emptied
//! with `MADV_DONTNEED`: guard markers survive that, contents do not, and an unused stack has none.

use std::io;

use super::{CLASSES, FiberStack, GUARD, arena, slot_size};
use crate::sync::Spin;
use crate::sys;

/// Stacks of one class a worker keeps before it gives a batch away.
const LOCAL_MAX: usize = 128;
/// Stacks moved between worker and depot at a time.
const BATCH: usize = 64;
/// Bytes of slots, over all classes, that the depot holds without emptying them. Most stacks have touched a page or two of
/// their slot, so what is resident is usually a tenth of it.
const RESIDENT_BUDGET: usize = 256 << 20;

/// The stacks a worker has at hand.
pub(crate) struct StackCache {
    free: [Vec<FiberStack>; CLASSES],
}

impl StackCache {
    pub(crate) const fn new() -> Self {
        StackCache { free: [const { Vec::new() }; CLASSES] }
    }

    /// A stack of `class`: the last one given back, else one of the depot, else a new one.
    #[inline]
    pub(crate) fn take(&mut self, class: u8) -> io::Result<FiberStack> {
        match self.free[usize::from(class)].pop() {
            Some(stack) => Ok(stack),
            None => self.refill(class),
        }
    }

    #[cold]
    fn refill(&mut self, class: u8) -> io::Result<FiberStack> {
        let local = &mut self.free[usize::from(class)];
        local.reserve(LOCAL_MAX);
        DEPOT.lock(|depot| depot.take(class, local));
        match local.pop() {
            Some(stack) => Ok(stack),
            None => arena::carve(class),
        }
    }

    /// Takes back a stack nothing runs on any more.
    #[inline]
    pub(crate) fn give(&mut self, stack: FiberStack) {
        let class = stack.class();
        let local = &mut self.free[usize::from(class)];
        local.push(stack);
        if local.len() > LOCAL_MAX {
            self.spill(class, BATCH);
        }
    }

    /// Moves the `count` stacks unused longest to the depot, emptying those the budget has no room for.
    #[cold]
    fn spill(&mut self, class: u8, count: usize) {
        let local = &mut self.free[usize::from(class)];
        let count = count.min(local.len());
        let bytes = count * slot_size(class);
        if DEPOT.lock(|depot| depot.reserve(bytes)) {
            DEPOT.lock(|depot| depot.warm[usize::from(class)].extend(local.drain(..count)));
        } else {
            for stack in &local[..count] {
                empty(stack);
            }
            DEPOT.lock(|depot| depot.cold[usize::from(class)].extend(local.drain(..count)));
        }
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        for class in 0..CLASSES as u8 {
            while !self.free[usize::from(class)].is_empty() {
                self.spill(class, BATCH);
            }
        }
    }
}

/// Gives the pages of an unused stack back to the kernel.
fn empty(stack: &FiberStack) {
    let low = stack.guard().end;
    let length = stack.size() - GUARD;
    // SAFETY: the stack is in a cache, so nothing lives on it; it reads as zeroes from now on, which the next fiber
    // on it cannot tell from what it expects: nothing.
    let _ = unsafe { sys::madvise(low, length, libc::MADV_DONTNEED) };
}

/// Stacks nobody has at hand.
struct Depot {
    /// Possibly resident; counted in `warm_bytes`.
    warm: [Vec<FiberStack>; CLASSES],
    /// Emptied.
    cold: [Vec<FiberStack>; CLASSES],
    warm_bytes: usize,
}

static DEPOT: Spin<Depot> = Spin::new(Depot {
    warm: [const { Vec::new() }; CLASSES],
    cold: [const { Vec::new() }; CLASSES],
    warm_bytes: 0,
});

impl Depot {
    /// Whether `bytes` more may stay resident; if so they are counted.
    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.warm_bytes + bytes <= RESIDENT_BUDGET;
        if fits {
            self.warm_bytes += bytes;
        }
        fits
    }

    fn take(&mut self, class: u8, into: &mut Vec<FiberStack>) {
        let warm = &mut self.warm[usize::from(class)];
        let count = warm.len().min(BATCH);
        into.extend(warm.drain(warm.len() - count..));
        self.warm_bytes -= count * slot_size(class);
        if count == 0 {
            let cold = &mut self.cold[usize::from(class)];
            let count = cold.len().min(BATCH);
            into.extend(cold.drain(cold.len() - count..));
        }
    }
}
