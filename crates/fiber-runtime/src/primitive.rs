//! What lock-free code is made of: atomics, the cells they guard, the deques of un-started fibers.
//!
//! The files that are checked by models (`models/` beside this folder) import these names from here and nowhere else.
//! There the same files are compiled once more, and this module is one that explores every interleaving and every
//! outcome that the memory model allows. Here it is nothing but other names.

pub(crate) use std::cell::UnsafeCell;
pub(crate) use std::hint::spin_loop;
pub(crate) use std::os::fd::{AsRawFd, OwnedFd};
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(feature = "hook")]
pub(crate) use std::sync::atomic::AtomicU32;

/// The lock of a static. (A static outlives an iteration of a model, and loom's types do not.)
pub(crate) use crate::sync::Spin as StaticLock;

/// The deques of un-started fibers, which threads steal from.
pub(crate) mod deque {
    pub(crate) use crossbeam_deque::{Injector, Steal, Stealer, Worker};
}
