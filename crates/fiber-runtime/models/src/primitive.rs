//! `crate::primitive` for models: the same names, made of loom's types.

use std::cell;

pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

pub(crate) use crate::world::eventfd::{AsRawFd, OwnedFd};
pub(crate) use crate::world::statics::StaticLock;

pub(crate) mod deque {
    //! Stands in for crossbeam's deques.
    pub(crate) use crate::world::deque::{Injector, Steal, Stealer, Worker};
}

/// A cell that reports two accesses of which neither happens before the other.
///
/// Every access counts as a write at the moment of `get`: stricter than the memory model, which allows several to read.
/// loom does not try the accesses of its own cell in both orders, so an atomic operation stands before each.
pub(crate) struct UnsafeCell<T: ?Sized> {
    watched: loom::cell::UnsafeCell<()>,
    here: AtomicUsize,
    value: cell::UnsafeCell<T>,
}

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell {
            watched: loom::cell::UnsafeCell::new(()),
            here: AtomicUsize::new(0),
            value: cell::UnsafeCell::new(value),
        }
    }

    pub(crate) fn into_inner(self) -> T {
        self.watched.with_mut(|_| ());
        self.value.into_inner()
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    pub(crate) fn get(&self) -> *mut T {
        self.here.fetch_add(1, Ordering::Relaxed);
        self.watched.with_mut(|_| ());
        self.value.get()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}
