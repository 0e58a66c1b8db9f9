//! The process-wide table of descriptor generations.
//!
//! A descriptor number is reused by the kernel as soon as it is closed, but a worker's registration is of the old open
//! file. `closing` counts the number's generation up; a worker whose registration carries another generation registers
//! anew. The table also remembers which workers have registered the number, so that only those are told of a close; and
//! a note on what kind of file it is, for those who would have to ask the kernel at each call.

use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

const CHUNK: usize = 1024;
const CHUNKS: usize = 4096;

/// One descriptor number.
pub(crate) struct Entry {
    /// The generation in the upper half, in the lower half the mask bits of the ports that have registered this
    /// generation. One word, so that "who has registered what is now being closed" has one answer.
    state: AtomicU64,
    /// A generation in the upper half, in the lower half what somebody noted of its file. Good for nothing under any
    /// other generation.
    #[cfg(feature = "hook")]
    note: AtomicU64,
}

impl Entry {
    const fn new() -> Self {
        Entry {
            state: AtomicU64::new(1 << 32),
            #[cfg(feature = "hook")]
            note: AtomicU64::new(0),
        }
    }

    /// The current generation, never zero.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        // Acquire pairs with the Release in `retire`: who sees the new generation sees the close that caused it.
        (self.state.load(Ordering::Acquire) >> 32) as u32
    }

    /// A worker is about to register the number: it hears of a close from now on. Returns the generation.
    pub(crate) fn enrol(&self, bit: u32) -> u32 {
        (self.state.fetch_or(u64::from(bit), Ordering::AcqRel) >> 32) as u32
    }

    /// The number's current file goes away: returns who has registered it.
    pub(crate) fn retire(&self) -> u32 {
        let next = |word: u64| {
            let generation = ((word >> 32) as u32).wrapping_add(1).max(1);
            u64::from(generation) << 32
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| Some(next(word)));
        // The closure always gives a value, so this is `Ok`.
        before.unwrap_or_else(|word| word) as u32
    }

    /// What was noted of the file of `generation`; 0 is nothing.
    #[cfg(feature = "hook")]
    #[inline]
    pub(crate) fn note(&self, generation: u32) -> u32 {
        // Relaxed: the note says nothing of any other memory.
        let note = self.note.load(Ordering::Relaxed);
        if (note >> 32) as u32 == generation { note as u32 } else { 0 }
    }

    /// Notes something of the file, seen after the generation was.
    #[cfg(feature = "hook")]
    pub(crate) fn set_note(&self, generation: u32, note: u32) {
        self.note.store(u64::from(generation) << 32 | u64::from(note), Ordering::Relaxed);
    }
}

/// Chunks of the table, allocated when a number in them is first waited for, never freed.
static TABLE: [AtomicPtr<[Entry; CHUNK]>; CHUNKS] = [const { AtomicPtr::new(null_mut()) }; CHUNKS];

fn split(fd: RawFd) -> Option<(usize, usize)> {
    let fd = usize::try_from(fd).ok()?;
    (fd < CHUNK * CHUNKS).then_some((fd / CHUNK, fd % CHUNK))
}

/// In a forked child: nobody has registered anything. Who does so again does it under a new generation.
pub(crate) fn forget() {
    for chunk in &TABLE {
        // Acquire pairs with the Release in `entry`. SAFETY: null, or a leaked chunk.
        let chunk = unsafe { chunk.load(Ordering::Acquire).as_ref() };
        for entry in chunk.into_iter().flatten() {
            entry.retire();
        }
    }
}

/// The entry, if anybody has ever waited for a number near it.
pub(crate) fn existing(fd: RawFd) -> Option<&'static Entry> {
    let (chunk, at) = split(fd)?;
    // Acquire pairs with the Release in `entry`.
    let chunk = TABLE[chunk].load(Ordering::Acquire);
    // SAFETY: null, or a leaked chunk.
    unsafe { chunk.as_ref() }.map(|chunk| &chunk[at])
}

/// The entry, made if need be; `None` for numbers beyond the table (4 million) and negative ones.
pub(crate) fn entry(fd: RawFd) -> Option<&'static Entry> {
    if let Some(entry) = existing(fd) {
        return Some(entry);
    }
    add_chunk(split(fd)?.0);
    existing(fd)
}

/// A function of its own, and made in place: a chunk on the stack would be two more pages of every fiber that waits for a
/// descriptor.
#[cold]
#[inline(never)]
fn add_chunk(chunk: usize) {
    let fresh: Box<[Entry]> = (0..CHUNK).map(|_| Entry::new()).collect();
    let fresh: Box<[Entry; CHUNK]> = fresh.try_into().ok().expect("a chunk has the length of a chunk");
    let fresh = Box::into_raw(fresh);
    // Release pairs with the Acquire in `existing`.
    if TABLE[chunk].compare_exchange(null_mut(), fresh, Ordering::Release, Ordering::Relaxed).is_err() {
        // SAFETY: another thread was faster; nobody has seen this chunk.
        drop(unsafe { Box::from_raw(fresh) });
    }
}
