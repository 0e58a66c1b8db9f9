//! What is read of fibers while they may not run: a bounded copy, made by the worker that owns them.
//!
//! A capture is a piece of memory, allocated by whoever asks and filled on the worker's thread: between two resumes, or,
//! if the worker does not get there, in a signal handler that has interrupted its running fiber. So filling it takes no
//! lock and allocates nothing. Stacks are copied as they are; unwinding and names of functions are made of the copy
//! later, on the asker's thread, while the worker goes on. A worker with many fibers is asked piece by piece.

use super::registers::{self, Registers};
use crate::fiber::header::{Header, Phase};
use crate::scheduler::worker::Worker;

/// Fibers in one piece.
const MAX_RECORDS: usize = 1024;
/// Words of stacks in one piece: 2 MiB.
const MAX_WORDS: usize = 256 << 10;
/// Words of one suspended fiber's stack. The innermost frames are in them; deeper ones may be missing.
const MAX_SUSPENDED: usize = 2 << 10;
/// Words of a running fiber's stack.
const MAX_RUNNING: usize = 8 << 10;
/// Fibers that have not started in one piece.
const MAX_UNSTARTED: usize = MAX_RECORDS / 2;
/// Bytes of a name that are kept.
const MAX_NAME: usize = 120;

/// A name in place, cut if it is very long.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    bytes: [u8; MAX_NAME],
    length: u8,
}

impl Name {
    fn of(fiber: &Header) -> Option<Name> {
        let name = fiber.name.as_deref()?;
        let mut length = name.len().min(MAX_NAME);
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        let mut bytes = [0; MAX_NAME];
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        Some(Name { bytes, length: length as u8 })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or("?")
    }
}

/// A copy of the used part of a stack.
#[derive(Clone, Copy)]
pub(crate) struct StackCopy {
    pub(crate) registers: Registers,
    /// Where the copy begins in `Capture::words`, and its length.
    first: u32,
    count: u32,
    /// Whether the outer end is missing.
    pub(crate) cut: bool,
}

/// What is known of one fiber.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) name: Option<Name>,
    pub(crate) phase: Phase,
    pub(crate) label: &'static str,
    /// How long it has waited, in nanoseconds, if it waits.
    pub(crate) waited: u64,
    pub(crate) stack: Option<StackCopy>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The fiber that runs, and nothing else.
    Running,
    /// Every fiber, from this place of the worker's table of started fibers on; those that have not started, and the one
    /// that runs, with the first piece.
    All(u32),
}

/// See the module's documentation.
pub(crate) struct Capture {
    pub(crate) wanted: Wanted,
    pub(crate) records: Vec<Record>,
    words: Vec<u64>,
    /// Where the next piece begins, if this is not the last.
    pub(crate) next: Option<u32>,
    /// Whether it was filled while a fiber was interrupted.
    pub(crate) interrupted: bool,
}

impl Capture {
    /// Room for one piece.
    pub(crate) fn new(wanted: Wanted) -> Self {
        let (records, words) = match wanted {
            Wanted::Running => (1, MAX_RUNNING),
            Wanted::All(_) => (MAX_RECORDS, MAX_WORDS),
        };
        Capture {
            wanted,
            records: Vec::with_capacity(records),
            words: Vec::with_capacity(words),
            next: None,
            interrupted: false,
        }
    }

    /// The words of a copied stack: the first is at the stack pointer.
    pub(crate) fn words(&self, stack: &StackCopy) -> &[u64] {
        &self.words[stack.first as usize..][..stack.count as usize]
    }

    /// Fills the capture on the worker's thread, between two resumes or (in a simulation) in a fiber that asks.
    pub(crate) fn fill(&mut self, worker: &Worker) {
        let Wanted::All(from) = self.wanted else { return };
        if from == 0 {
            worker.for_each_unstarted(MAX_UNSTARTED, |fiber| {
                if self.has_room(0) {
                    self.records.push(record(fiber, 0));
                }
            });
        }
        self.fill_started(worker, from);
    }

    /// Fills the capture in a signal handler on the worker's thread, which `registers` describe if they are known. False:
    /// no fiber was interrupted, so nothing of the worker may be read.
    pub(crate) fn fill_interrupted(&mut self, worker: &Worker, registers: Option<Registers>) -> bool {
        let Some(fiber) = worker.running_fiber() else { return false };
        // SAFETY: the current fiber has not ended, and cannot while the handler runs.
        let fiber = unsafe { fiber.as_ref() };
        self.interrupted = true;
        let frames = registers::frames_of(fiber);
        // Elsewhere: on a stack that the fiber has switched to by itself, or the worker is about to switch to or from
        // the fiber. Then the worker's table may be half written.
        let on_its_stack = registers.is_some_and(|registers| frames.contains(&registers.sp));
        if !matches!(self.wanted, Wanted::All(from) if from > 0) {
            let mut running = record(fiber, 0);
            running.phase = Phase::Running;
            running.stack = registers.and_then(|registers| {
                if !on_its_stack {
                    return Some(StackCopy { registers, first: 0, count: 0, cut: true });
                }
                // SAFETY: the handler has interrupted this very stack.
                unsafe { self.copy(fiber, registers, MAX_RUNNING) }
            });
            self.records.push(running);
        }
        if on_its_stack && let Wanted::All(from) = self.wanted {
            self.fill_started(worker, from);
        }
        true
    }

    fn fill_started(&mut self, worker: &Worker, from: u32) {
        let now = worker.now_nanos();
        self.next = worker.for_each_started(from, |fiber| {
            if !self.has_room(MAX_SUSPENDED) {
                return false;
            }
            let suspended = matches!(fiber.phase.get(), Phase::Parked | Phase::Ready);
            if fiber.phase.get() == Phase::Running && self.interrupted {
                // Recorded already.
                return true;
            }
            let mut record = record(fiber, now);
            if suspended {
                // SAFETY: the fiber is suspended, and this is its worker's thread, which resumes nothing meanwhile.
                record.stack = unsafe {
                    registers::of_suspended(fiber)
                        .and_then(|registers| self.copy(fiber, registers, MAX_SUSPENDED))
                };
            }
            self.records.push(record);
            true
        });
    }

    /// Whether one more record and `words` more words fit without allocating.
    fn has_room(&self, words: usize) -> bool {
        self.records.len() < self.records.capacity() && self.words.len() + words <= self.words.capacity()
    }

    /// Copies the used part of the fiber's stack, at most `limit` words.
    ///
    /// # Safety
    /// The fiber is off its stack, or the caller has interrupted it.
    unsafe fn copy(&mut self, fiber: &Header, registers: Registers, limit: usize) -> Option<StackCopy> {
        let frames = registers::frames_of(fiber);
        if !frames.contains(&registers.sp) || !registers.sp.is_multiple_of(8) {
            return None;
        }
        let used = ((frames.end - registers.sp) / 8) as usize;
        let count = used.min(limit).min(self.words.capacity() - self.words.len());
        let first = self.words.len();
        // SAFETY: `count` words from the stack pointer on are on the fiber's stack, on which nobody runs; the vector's
        // spare capacity has room for them, and they are initialised by the copy.
        unsafe {
            registers::copy_words(registers.sp, self.words.as_mut_ptr().add(first), count);
            self.words.set_len(first + count);
        }
        Some(StackCopy { registers, first: first as u32, count: count as u32, cut: count < used })
    }
}

fn record(fiber: &Header, now: u64) -> Record {
    let phase = fiber.phase.get();
    let waited = if phase == Phase::Parked { now.saturating_sub(fiber.since.get()) } else { 0 };
    Record { id: fiber.id, name: Name::of(fiber), phase, label: fiber.label.get(), waited, stack: None }
}
