//! Stacks waiting to be used again: a LIFO per worker, and a depot shared by all.
//!
//! A worker takes the stack it gave back last, whose top is still in its cache. It talks to the depot in batches, so
//! the depot's lock is taken once for many stacks. What the depot holds beyond [`RESIDENT_BUDGET`] is emptied with
//! `MADV_DONTNEED`: guard markers survive that, contents do not, and an unused stack has none. Workers do that before they
//! sleep ([`trim`]), not when fibers end: in a burst that comes again and again, each stack would cost a system call and a
//! page fault every time.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{CLASSES, FiberStack, arena, slot_size};
use crate::primitive::StaticLock;
use crate::sys;

/// Stacks of one class a worker keeps before it gives a batch away.
const LOCAL_MAX: usize = if cfg!(fiber_model) { 2 } else { 128 };
/// Stacks moved between worker and depot at a time.
const BATCH: usize = if cfg!(fiber_model) { 1 } else { 64 };
/// Bytes of slots, over all classes, that the depot keeps possibly resident while workers have time to empty them. Most
/// stacks have touched a page or two of their slot, so what is resident is usually a tenth of it.
const RESIDENT_BUDGET: usize = 64 << 20;
/// Stacks that [`trim`] empties at a time.
const TRIM: usize = if cfg!(fiber_model) { 1 } else { 16 };

/// The stacks a worker has at hand.
pub(crate) struct StackCache {
    free: [Vec<FiberStack>; CLASSES],
    /// The runtime measures how deep stacks are used: all in `free` are zeroed.
    probed: bool,
}

impl StackCache {
    pub(crate) const fn new(probed: bool) -> Self {
        StackCache { free: [const { Vec::new() }; CLASSES], probed }
    }

    /// How many stacks are at hand.
    pub(crate) fn len(&self) -> usize {
        self.free.iter().map(Vec::len).sum()
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
        let warm = DEPOT.lock(|depot| depot.take(class, local));
        WARM_BYTES.fetch_sub(warm * slot_size(class), Ordering::Relaxed);
        if self.probed {
            local.iter().for_each(empty);
        }
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

    /// Moves the `count` stacks unused longest to the depot.
    #[cold]
    fn spill(&mut self, class: u8, count: usize) {
        let local = &mut self.free[usize::from(class)];
        let count = count.min(local.len());
        WARM_BYTES.fetch_add(count * slot_size(class), Ordering::Relaxed);
        DEPOT.lock(|depot| depot.warm[usize::from(class)].extend(local.drain(..count)));
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        for class in 0..CLASSES as u8 {
            while !self.free[usize::from(class)].is_empty() {
                self.spill(class, BATCH);
            }
        }
        while trim() {}
    }
}

/// Empties a few stacks of the depot, those unused longest, if it holds more than its budget. True: there may be more.
pub(crate) fn trim() -> bool {
    // Relaxed: a count, not what guards the stacks.
    if WARM_BYTES.load(Ordering::Relaxed) <= RESIDENT_BUDGET {
        return false;
    }
    for class in 0..CLASSES {
        let taken: Vec<FiberStack> = DEPOT.lock(|depot| {
            let warm = &mut depot.warm[class];
            warm.drain(..warm.len().min(TRIM)).collect()
        });
        if taken.is_empty() {
            continue;
        }
        WARM_BYTES.fetch_sub(taken.len() * slot_size(class as u8), Ordering::Relaxed);
        taken.iter().for_each(empty);
        DEPOT.lock(|depot| depot.cold[class].extend(taken));
        return true;
    }
    false
}

/// Gives the pages of an unused stack back to the kernel.
pub(super) fn empty(stack: &FiberStack) {
    let low = stack.guard().end;
    let length = stack.size() - stack.guard().len();
    // SAFETY: the stack is in a cache, so nothing lives on it; it reads as zeroes from now on, which the next fiber
    // on it cannot tell from what it expects: nothing.
    let _ = unsafe { sys::madvise(low, length, libc::MADV_DONTNEED) };
}

/// Stacks nobody has at hand.
struct Depot {
    /// Possibly resident, unused longest first; counted in [`WARM_BYTES`].
    warm: [VecDeque<FiberStack>; CLASSES],
    /// Emptied.
    cold: [Vec<FiberStack>; CLASSES],
}

static DEPOT: StaticLock<Depot> = StaticLock::new(Depot {
    warm: [const { VecDeque::new() }; CLASSES],
    cold: [const { Vec::new() }; CLASSES],
});

/// Bytes of the depot's slots that are possibly resident. Added before stacks come and subtracted after they have gone: at
/// times too much, never less than nothing.
static WARM_BYTES: AtomicUsize = AtomicUsize::new(0);

impl Depot {
    /// Moves a batch to `into`, warm ones first. Returns how many of them are warm.
    fn take(&mut self, class: u8, into: &mut Vec<FiberStack>) -> usize {
        let warm = &mut self.warm[usize::from(class)];
        let count = warm.len().min(BATCH);
        into.extend(warm.drain(warm.len() - count..));
        if count == 0 {
            let cold = &mut self.cold[usize::from(class)];
            let count = cold.len().min(BATCH);
            into.extend(cold.drain(cold.len() - count..));
        }
        count
    }
}
