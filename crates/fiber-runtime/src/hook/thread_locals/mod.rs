//! Thread-locals of libraries that each fiber has for itself: tokio's.
//!
//! A blocking client that is made of an asynchronous one (`postgres`, `reqwest::blocking`) runs `block_on` of a tokio
//! runtime in each call. tokio notes in thread-locals which runtime the *thread* is in. Fibers of a worker share them: while
//! one waits in `epoll_wait`, the next that enters `block_on` is told that it cannot start a runtime from within a
//! runtime. So each fiber gets thread-locals of its own, without a change to the library:
//!
//! ```text
//!   TLS block of the worker's thread        buffers of the fibers that use such thread-locals
//!   +-----------------------------+         fiber A (waits):  A's CONTEXT, A's CURRENT_PARKER, A's CURRENT
//!   | ...                         |         fiber B (runs):   the thread's, while B's are in the block
//!   | tokio's CONTEXT         (B) |
//!   | tokio's CURRENT_PARKER  (B) |         a switch from B to A: exchange(block, B's buffer),
//!   | tokio's task CURRENT    (B) |                               exchange(block, A's buffer)
//!   +-----------------------------+
//! ```
//!
//! # Where they are
//! On ELF, `thread_local!` is a symbol of type TLS: an offset in the block that each thread has for the executable (or the
//! shared object that this crate is part of). [`elf`] reads the names of those symbols, once per process, when the first
//! worker begins: a millisecond for a debug executable of 30 MB with 23,000 symbols. The block of a thread is found by a
//! thread-local of our own, whose offset is known.
//!
//! # Which fibers have their own
//! Those that use one for the first time. std registers a destructor then, with libc's `__cxa_thread_atexit_impl`, which is
//! defined here: a destructor of one of these thread-locals, registered in a fiber, is the fiber's. From then on the fiber's
//! bytes are exchanged for the thread's whenever it leaves its worker and when it is back. At its end the destructors
//! run on its own stack, the last one first, and the thread's bytes are back. A fiber that never touches such a
//! thread-local pays nothing, and what other libraries register goes to libc.
//!
//! Every thread-local on the list has a destructor and is only reached through `LocalKey::with`, which registers it
//! before the first use; so none is changed unseen. (What is `const` and has nothing to drop could be: none of that kind
//! may be put on the list.)
//!
//! A thread that drives a worker (`use_caller`, a simulation) may be in a tokio runtime itself. Its bytes are put aside
//! while it does, and fibers find what a new thread would. What the worker's own thread uses outside fibers is kept apart
//! in the same way, and ends when it stops driving.
//!
//! # Why it is sound
//! To move the bytes of a value away while code on a suspended stack has a reference to it, and back to the same address before
//! that code goes on, is unseen by that code. It must also be unseen by everybody else, so:
//! - No other *thread* may have a pointer into the block. A thread-local that lends itself to others, as the queue nodes of
//!   `parking_lot` do, must never be on the list.
//! - No code of the same thread that runs meanwhile may have one: other fibers see their own value at the address, and the
//!   pointers they have are to theirs.
//! - std's list of destructors must not know of it, or it would drop the wrong value: hence the registration.
//!
//! So the list names thread-locals, not crates, and gives the reason for each; see [`KNOWN`]. They were looked at in
//! tokio 1.54. A thread-local that a later version adds is shared by the fibers of a worker, as all others are, and
//! `tests/libraries` fails until somebody has looked at it. `task_local!` makes thread-locals of the crate that calls
//! it, which are shared.
//!
//! # When there are none
//! [`private_thread_locals`](super::private_thread_locals) says why: the program was stripped of its symbols (`strip = true`), its file cannot be
//! read, or libc is linked statically, so that its function could not be forwarded to. tokio's own panic is what a user sees then.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use super::private::{PrivateThreadLocals, ThreadLocalsError};
use crate::fiber::header::Header;
use crate::scheduler::worker::Worker;

mod elf;

/// Thread-locals that may be exchanged under a suspended fiber, by the path of the static, and why each may.
const KNOWN: &[&str] = &[
    // The runtime that the thread is in: handle, scheduler, task, budget, random numbers. All of it are `Cell`s, so it is
    // not `Sync` and no reference leaves the thread. The scheduler's pointer is to the stack of whoever is in `block_on`,
    // and is set back by its guard, on the same stack. Handles are counted references. Dropping it drops the handle.
    "tokio::runtime::context::CONTEXT",
    // What wakes a thread that waits in `block_on` of a runtime that other threads drive. Wakers get a counted reference to
    // what is behind it, never its address. Dropping it gives that reference up.
    "tokio::runtime::park::CURRENT_PARKER",
    // The `LocalSet` that is being polled: a counted reference, and a flag. Guards on the stack of the one who polls have
    // its address and are gone before the poll ends.
    "tokio::task::local::CURRENT",
];

/// Crates whose other thread-locals are reported as not looked at.
const CRATES: &[&str] = &["tokio"];

/// Thread-locals, each a `Cell<bool>`, that are true while a library takes its thread for the owner of a lock, which it may be about to
/// take. Another fiber of the thread would be let past the lock: so a fiber that waits or gives way by a call of `std::sync`
/// meanwhile keeps its worker.
const FLAGS: &[&str] = &["backtrace::lock::LOCK_HELD"];

/// A destructor that std registered: the function, and the value.
type Destructor = (unsafe extern "C" fn(*mut u8), *mut u8);

/// Where the thread-locals of [`KNOWN`] are in the block of every thread.
struct Map {
    names: PrivateThreadLocals,
    /// Offset of [`BLOCK`].
    anchor: usize,
    /// Disjoint.
    ranges: Vec<Range>,
    /// What a new thread finds in the ranges, one after the other.
    fresh: Box<[u8]>,
    /// Offsets of [`FLAGS`].
    flags: Vec<usize>,
}

/// A part of a thread's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    offset: usize,
    length: usize,
}

static MAP: OnceLock<Result<Map, ThreadLocalsError>> = OnceLock::new();

thread_local! {
    /// Marks the block: its offset is known from the symbols, its address from the thread.
    static ANCHOR: Cell<u8> = const { Cell::new(0) };
}

/// See [`super::private_thread_locals`]. Looks for them now, if no worker has begun yet.
pub(super) fn found() -> Result<PrivateThreadLocals, ThreadLocalsError> {
    match map() {
        Ok(map) => Ok(map.names.clone()),
        Err(error) => Err(error.clone()),
    }
}

fn map() -> &'static Result<Map, ThreadLocalsError> {
    MAP.get_or_init(|| {
        if cfg!(target_feature = "crt-static") {
            return Err(ThreadLocalsError::NotBuilt);
        }
        let anchor = ANCHOR.with(|anchor| ptr::from_ref(anchor).addr());
        elf::module_of(anchor)?.map(anchor)
    })
}

impl Map {
    /// The ranges that are in use, if any library on the list is part of the program.
    fn get() -> Option<&'static Map> {
        MAP.get()?.as_ref().ok().filter(|map| !map.ranges.is_empty())
    }

    /// The calling thread's block.
    fn block(&self) -> *mut u8 {
        ANCHOR.with(|anchor| ptr::from_ref(anchor).cast_mut().cast::<u8>().wrapping_sub(self.anchor))
    }

    /// Whether `object` lies in one of the calling thread's ranges.
    fn contains(&self, object: *mut u8) -> bool {
        let offset = object.addr().wrapping_sub(self.block().addr());
        self.ranges.iter().any(|range| (range.offset..range.offset + range.length).contains(&offset))
    }

    /// Each range's place in the calling thread's block, its place in a buffer, and its length.
    fn places(&self) -> impl Iterator<Item = (*mut u8, usize, usize)> {
        let block = self.block();
        self.ranges.iter().scan(0, move |at, range| {
            let place = (block.wrapping_add(range.offset), *at, range.length);
            *at += range.length;
            Some(place)
        })
    }
}

/// Whether a library takes the calling thread for the owner of a lock: see [`FLAGS`].
pub(super) fn thread_owns_a_lock() -> bool {
    let Some(Ok(map)) = MAP.get() else { return false };
    let block = map.block();
    // SAFETY: a byte in this thread's block, which only this thread writes, through a `Cell`.
    map.flags.iter().any(|&offset| unsafe { block.wrapping_add(offset).read_volatile() } != 0)
}

/// The bytes of somebody's thread-locals while they are not in the thread's block.
type Bytes = Box<[MaybeUninit<u8>]>;

/// The thread-locals of a fiber, or those that a worker's thread uses outside fibers.
///
/// # Invariants
/// `aside` is empty, and there are no destructors, unless it is in use. Then, while the owner runs, the owner's bytes are in the
/// thread's block and the thread's are in `aside`; otherwise the other way round.
#[derive(Default)]
pub(crate) struct Private {
    aside: Cell<Bytes>,
    destructors: RefCell<Vec<Destructor>>,
    in_use: Cell<bool>,
}

impl Private {
    /// Whether there is something to exchange.
    #[inline(always)]
    pub(crate) fn are_in_use(&self) -> bool {
        self.in_use.get()
    }

    /// The owner is about to leave the processor, or is back on it: exchanges its bytes for the thread's. Does not suspend or
    /// unwind.
    #[cold]
    pub(crate) fn exchange(&self) {
        let Some(map) = Map::get() else { return };
        let mut aside = self.aside.take();
        assert_eq!(aside.len(), map.fresh.len(), "the bytes of all ranges are aside");
        for (place, at, length) in map.places() {
            // SAFETY: the place is in this thread's block, `length` bytes of a static that is on the list, and the buffer
            // has as many from `at` on. That nobody looks at the place meanwhile is what the list promises; see the
            // module's documentation. Bytes are exchanged as what they are, padding and pointers included.
            unsafe {
                ptr::swap_nonoverlapping(place.cast::<MaybeUninit<u8>>(), aside.as_mut_ptr().add(at), length);
            }
        }
        self.aside.set(aside);
    }

    /// The owner's use begins: from now on what is in the block is its own.
    fn begin(&self, map: &Map) {
        let mut aside: Bytes = Box::new_uninit_slice(map.fresh.len());
        for (place, at, length) in map.places() {
            // SAFETY: as in `exchange`; the block is only read.
            unsafe {
                ptr::copy_nonoverlapping(place.cast::<MaybeUninit<u8>>(), aside.as_mut_ptr().add(at), length)
            };
        }
        self.aside.set(aside);
        self.in_use.set(true);
    }

    /// The owner's use ends: runs the destructors, the last one first, and those that they register; then the thread's bytes are back.
    /// Runs where the owner does. As at a thread's end, a destructor that panics aborts.
    #[cold]
    pub(crate) fn end(&self) {
        if !self.in_use.get() {
            return;
        }
        while let Some((destroy, object)) = { self.destructors.borrow_mut().pop() } {
            // SAFETY: std's promise to whoever registers destructors: to be called once, on the thread of the value, which
            // a fiber does not leave. The value is the owner's, whose bytes are in the block.
            unsafe { destroy(object) };
        }
        // What is in the buffer afterwards are the owner's values, which have been dropped.
        self.exchange();
        self.in_use.set(false);
        drop(self.aside.take());
    }
}

/// Takes a destructor that std wants to be called at the thread's end, if it is of a thread-local that the caller, a
/// fiber or a worker, has for itself.
pub(super) fn keep(destroy: unsafe extern "C" fn(*mut u8), object: *mut u8) -> bool {
    let Some(map) = Map::get().filter(|map| map.contains(object)) else { return false };
    let of_fiber = Worker::with_current_fiber(|_, fiber| {
        fiber.keep_destructor(map, (destroy, object));
    });
    of_fiber.or_else(|| Worker::with_current(|worker| worker.thread_locals.push((destroy, object)))).is_some()
}

impl Header {
    fn keep_destructor(&self, map: &Map, destructor: Destructor) {
        let private = &self.extras().thread_locals;
        if !private.in_use.get() {
            private.begin(map);
            self.attention.set_private();
        }
        private.push(destructor);
    }
}

impl Private {
    fn push(&self, destructor: Destructor) {
        self.destructors.borrow_mut().push(destructor);
    }
}

impl Worker {
    /// The calling thread begins to drive this worker: fibers are to find what a new thread would. Ends with
    /// [`Worker::restore_thread_locals`].
    pub(crate) fn set_thread_locals_aside(&self) {
        // Found before any fiber runs here: what one uses is known from its first use on.
        if map().is_err() {
            return;
        }
        let Some(map) = Map::get() else { return };
        self.thread_locals.begin(map);
        for (place, at, length) in map.places() {
            // SAFETY: as in `Private::exchange`. These are the bytes that libc gives a new thread.
            unsafe { ptr::copy_nonoverlapping(map.fresh.as_ptr().add(at), place, length) };
        }
    }

    /// The calling thread has driven this worker: its own thread-locals are back.
    pub(crate) fn restore_thread_locals(&self) {
        self.thread_locals.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbols_of_this_program_are_found_and_are_its_own() {
        let map = map().as_ref().expect("tests are not stripped");
        assert_eq!(map.block().wrapping_add(map.anchor).addr(), ANCHOR.with(|own| ptr::from_ref(own).addr()));
        let of_another_thread = std::thread::spawn(|| map.block().addr()).join().unwrap();
        assert_ne!(of_another_thread, map.block().addr());
        // No library of the list is linked here, so nothing is exchanged and no destructor kept.
        assert_eq!(map.names.private, [""; 0]);
        assert!(Map::get().is_none());
    }
}
