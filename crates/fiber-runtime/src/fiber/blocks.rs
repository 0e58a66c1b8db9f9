//! Memory for the blocks of fibers: a worker uses those of its ended fibers again.
//!
//! Blocks begin on a cache line, which general allocators are slow at, and a spawn should cost no more than what it
//! writes. A block may be freed on another thread than it was allocated on: it goes to that thread's worker, or back to
//! the allocator, which is told the same layout either way.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{NonNull, null_mut};

use super::header::Header;
use crate::scheduler::worker::Worker;

/// Blocks are allocated in multiples of a cache line, which is also their alignment.
const LINE: usize = align_of::<Header>();
/// Blocks of more lines than this, closures of a kilobyte or so, are left to the allocator.
const MAX_LINES: usize = 24;
/// Free blocks of one size a worker keeps.
const MAX_FREE: u32 = 1024;

/// The free blocks of one worker, a list for each number of lines.
pub(crate) struct BlockCache {
    lists: [List; MAX_LINES + 1],
}

/// Blocks of one size; the first word of each leads to the next.
struct List {
    first: Cell<*mut FreeBlock>,
    count: Cell<u32>,
}

struct FreeBlock {
    next: *mut FreeBlock,
}

impl BlockCache {
    pub(crate) const fn new() -> Self {
        BlockCache {
            lists: [const { List { first: Cell::new(null_mut()), count: Cell::new(0) } }; MAX_LINES + 1],
        }
    }

    #[inline]
    fn take(&self, lines: usize) -> Option<NonNull<u8>> {
        let list = &self.lists[lines];
        let block = NonNull::new(list.first.get())?;
        // SAFETY: a listed block is memory of `lines` lines that nobody else uses, and `give` wrote its first word.
        list.first.set(unsafe { block.read() }.next);
        list.count.set(list.count.get() - 1);
        Some(block.cast())
    }

    /// False: the list is full.
    ///
    /// # Safety
    /// `block` is memory of `lines` lines, allocated with [`layout_of`], that nobody uses any more.
    #[inline]
    unsafe fn give(&self, block: NonNull<u8>, lines: usize) -> bool {
        let list = &self.lists[lines];
        if list.count.get() >= MAX_FREE {
            return false;
        }
        // SAFETY: the caller's promise; a line is larger than a pointer and aligned for it.
        unsafe { block.cast::<FreeBlock>().write(FreeBlock { next: list.first.get() }) };
        list.first.set(block.as_ptr().cast());
        list.count.set(list.count.get() + 1);
        true
    }
}

impl Drop for BlockCache {
    fn drop(&mut self) {
        for lines in 0..=MAX_LINES {
            while let Some(block) = self.take(lines) {
                // SAFETY: listed blocks were allocated with this layout.
                unsafe { dealloc(block.as_ptr(), layout_of(lines)) };
            }
        }
    }
}

/// The number of lines of a block that a worker may keep.
#[inline]
fn lines_of(layout: Layout) -> Option<usize> {
    let lines = layout.size().div_ceil(LINE);
    (layout.align() == LINE && lines <= MAX_LINES).then_some(lines)
}

#[inline]
fn layout_of(lines: usize) -> Layout {
    Layout::from_size_align(lines * LINE, LINE).expect("a few kilobytes are a layout")
}

/// Memory for a block, which has at least a header.
#[inline]
pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
    let lines = lines_of(layout);
    let kept = lines.and_then(|lines| Worker::with_current(|worker| worker.blocks().take(lines)).flatten());
    kept.unwrap_or_else(|| allocate_new(lines.map_or(layout, layout_of)))
}

#[cold]
fn allocate_new(layout: Layout) -> NonNull<u8> {
    // SAFETY: a block has a header, so the size is not zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Takes back what [`allocate`] gave for `layout`.
///
/// # Safety
/// That, and nobody uses it any more.
#[inline]
pub(super) unsafe fn free(block: NonNull<u8>, layout: Layout) {
    let lines = lines_of(layout);
    if let Some(lines) = lines {
        // SAFETY: the caller's promise, and `allocate` rounded the layout in the same way.
        let kept = Worker::with_current(|worker| unsafe { worker.blocks().give(block, lines) });
        if kept == Some(true) {
            return;
        }
    }
    // SAFETY: as above.
    unsafe { dealloc(block.as_ptr(), lines.map_or(layout, layout_of)) };
}
