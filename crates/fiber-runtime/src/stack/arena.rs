//! The reserved mappings that slots are cut from.
//!
//! One list of chunks a size class, process-wide and never unmapped: address space is plentiful, and a slot stays a
//! slot for ever, which is what lets stacks travel between runtimes and simulations without a census.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{CLASSES, FiberStack, guard_size, slot_size};
use crate::sync::Spin;
use crate::sys;

/// A chunk reserves this many slots, at least [`MIN_CHUNK`] bytes.
const CHUNK_SLOTS: usize = 256;
const MIN_CHUNK: usize = 64 << 20;

/// `MADV_GUARD_INSTALL`, Linux 6.13; not yet in libc.
const MADV_GUARD_INSTALL: i32 = 102;

/// What is left of the newest chunk of a class.
#[derive(Clone, Copy)]
struct Chunk {
    next: usize,
    end: usize,
}

static CHUNKS: Spin<[Chunk; CLASSES]> = Spin::new([Chunk { next: 0, end: 0 }; CLASSES]);

/// Whether guards are markers: unknown, yes, no.
static GUARD_KIND: AtomicU8 = AtomicU8::new(GUARD_UNKNOWN);
const GUARD_UNKNOWN: u8 = 0;
const GUARD_MARKER: u8 = 1;
const GUARD_MPROTECT: u8 = 2;

/// Cuts a new slot and guards it. Fails when the kernel refuses address space or, with `mprotect` guards, another map.
pub(super) fn carve(class: u8) -> io::Result<FiberStack> {
    let slot = slot_size(class);
    let low = loop {
        if let Some(low) = take(class, slot) {
            break low;
        }
        // Mapping is a system call, so it happens outside the lock. Two threads may both map; the later chunk wins
        // and the rest of the other is never used: address space, not memory.
        let (start, length) = reserve((slot * CHUNK_SLOTS).max(MIN_CHUNK), slot)?;
        // Huge pages would make one touched byte cost 2 MiB. Kernels without them answer EINVAL, which is as good.
        // SAFETY: the range was mapped just now and is not used yet; the advice changes neither contents nor access.
        let _ = unsafe { sys::madvise(start, length, libc::MADV_NOHUGEPAGE) };
        CHUNKS.lock(|chunks| chunks[usize::from(class)] = Chunk { next: start, end: start + length });
    };
    install_guard(low, guard_size(class))?;
    Ok(FiberStack::new(NonZeroUsize::new(low).expect("mmap does not return zero"), class, low / slot))
}

/// Reserves `length` bytes, or the largest part of that which the process may still have, which is at least one slot: a
/// limit on address space should stop the fiber that does not fit, and none before.
fn reserve(mut length: usize, slot: usize) -> io::Result<(usize, usize)> {
    loop {
        match sys::map_reserve(length) {
            Ok(start) => return Ok((start, length)),
            Err(error) if length / 2 < slot => return Err(error),
            Err(_) => length /= 2,
        }
    }
}

fn take(class: u8, slot: usize) -> Option<usize> {
    CHUNKS.lock(|chunks| {
        let chunk = &mut chunks[usize::from(class)];
        (chunk.end - chunk.next >= slot).then(|| {
            let low = chunk.next;
            chunk.next += slot;
            low
        })
    })
}

/// Whether the kernel takes guard markers. Known once a slot has been cut.
#[cfg(test)]
pub(super) fn guards_are_markers() -> bool {
    GUARD_KIND.load(Ordering::Relaxed) == GUARD_MARKER
}

fn install_guard(low: usize, length: usize) -> io::Result<()> {
    // Relaxed: the value is a hint about the kernel; every thread that finds it unknown finds out for itself.
    if GUARD_KIND.load(Ordering::Relaxed) != GUARD_MPROTECT {
        // SAFETY: the range is the low end of a slot that `carve` holds and nobody has used.
        match unsafe { sys::madvise(low, length, MADV_GUARD_INSTALL) } {
            Ok(()) => {
                GUARD_KIND.store(GUARD_MARKER, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            Err(_) => GUARD_KIND.store(GUARD_MPROTECT, Ordering::Relaxed),
        }
    }
    // SAFETY: as above.
    unsafe { sys::protect_none(low, length) }
}
