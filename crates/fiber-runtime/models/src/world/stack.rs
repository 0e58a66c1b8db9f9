//! Stacks that are numbers.

#[path = "../../../src/stack/cache.rs"]
mod cache;

pub(crate) use cache::{StackCache, trim};

use std::ops::Range;

pub(crate) const CLASSES: usize = 1;

/// One is over the depot's budget: it empties what it can.
pub(crate) const fn slot_size(_class: u8) -> usize {
    65 << 20
}

/// As shipped, a value without a destructor.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FiberStack(pub(crate) usize);

impl FiberStack {
    pub(crate) fn class(&self) -> u8 {
        0
    }

    pub(crate) fn guard(&self) -> Range<usize> {
        self.0..self.0
    }

    pub(crate) fn size(&self) -> usize {
        slot_size(0)
    }
}

pub(crate) mod arena {
    //! New stacks, numbered from zero in each iteration.

    use std::cell::Cell;
    use std::io;

    use super::FiberStack;

    thread_local! {
        /// loom runs its threads on one thread of the system.
        pub(crate) static CARVED: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn carve(_class: u8) -> io::Result<FiberStack> {
        Ok(FiberStack(CARVED.replace(CARVED.get() + 1)))
    }
}

pub(crate) mod probe {
    /// Measures nothing.
    #[derive(Default)]
    pub(crate) struct Probe;
}
