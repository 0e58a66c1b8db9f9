//! Waits that are seen and must block the worker: recognised by where they come from, counted, and reported once a kind.
//!
//! Unwinding takes microseconds and naming functions far longer, so neither is done each time. Of the first waits of each
//! sort, and of fewer and fewer later ones, the stack is unwound in place; if it is not one that was seen before, a thread
//! is started that names its functions, and reports the wait if it is the first of its kind. The fiber blocks meanwhile, or
//! goes on: it waits for nobody.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::outcome::Errno;
use crate::dump::{Backtrace, Frame, registers};
use crate::scheduler::worker::Worker;

/// So many waits of each sort are looked at, and later those whose number is a power of two.
const LOOKS: u32 = 64;
/// Stacks that are told apart, and threads that are started for them. More are not looked at.
const SITES: usize = 64;
/// Frames of a stack that are kept.
const FRAMES: usize = 48;

/// The system call that a wait was made by.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(super) enum By {
    /// What `std::thread::park` does.
    Park = 0,
    /// Any other.
    Futex = 1,
}

/// What waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockingKind {
    /// `std::thread::park`, called by somebody who is none of those below.
    ThreadPark,
    /// A channel of `std::sync::mpsc`.
    StdChannel,
    /// The end of `std::thread::scope`.
    ThreadScope,
    /// A channel of `crossbeam-channel`.
    CrossbeamChannel,
    /// `parking_lot`.
    ParkingLot,
    /// Another user of `FUTEX_WAIT`.
    Futex,
}

/// A wait that blocked its worker: the first of its kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BlockingWait {
    /// What waited.
    pub kind: BlockingKind,
    /// The runtime's name.
    pub runtime: String,
    /// The worker, from 0.
    pub worker: usize,
    /// The fiber's number.
    pub fiber: u64,
    /// Its name.
    pub name: Option<String>,
    /// Where it waited.
    pub backtrace: Backtrace,
}

/// The waits that were reported until now: the first of each [kind](BlockingKind) in the life of the process. A report
/// takes some milliseconds to arrive here, and longer when the program's debug information is read for the first time.
pub fn blocking_waits() -> Vec<BlockingWait> {
    REPORTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

static REPORTS: Mutex<Vec<BlockingWait>> = Mutex::new(Vec::new());
static WAITS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// Hashes of stacks that were seen; 0 is none.
static SEEN: [AtomicU64; SITES] = [const { AtomicU64::new(0) }; SITES];

/// The calling fiber, if there is one and it has not asked for plain calls, is about to block its worker.
#[inline]
pub(super) fn note(by: By) {
    if super::is_cooperative() {
        note_wait(by);
    }
}

#[cold]
fn note_wait(by: By) {
    let may_look = Worker::with_current_fiber(|worker, fiber| {
        worker.counters().blocking_waits.add(1);
        // What unwinds or is held may be inside an allocator.
        !fiber.attention.is_held() && !std::thread::panicking()
    });
    // Relaxed: a number.
    let count = WAITS[by as usize].fetch_add(1, Ordering::Relaxed);
    if may_look == Some(true) && (count < LOOKS || count.is_power_of_two()) {
        let errno = Errno::save();
        look(by);
        let _: isize = errno.finish(Ok(0), 0);
    }
}

fn look(by: By) {
    let Some(frames) = Worker::with_current_fiber(|_, fiber| registers::frames_of(fiber)) else { return };
    let mut stack = Vec::with_capacity(FRAMES);
    // SAFETY: unwinding by the tables of the program is safe beside other threads on Linux. The function that is safe takes
    // a lock, for which a fiber might park, and remembers by a thread-local that it has it.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            // Below the fiber's first frame is its worker.
            let is_fibers = frames.contains(&(frame.sp() as u64));
            if is_fibers {
                stack.push(frame.ip() as u64);
            }
            is_fibers && stack.len() < FRAMES
        });
    }
    if !is_new(&stack) {
        return;
    }
    let Some((worker, fiber, name, runtime)) = Worker::with_current_fiber(|worker, fiber| {
        let (fiber, name) = fiber.identify();
        (worker.index(), fiber, name, worker.shared().config().name.clone())
    }) else {
        return;
    };
    let name_functions = move || {
        let is_own = |frame: &Frame| OWN.iter().any(|origin| origin.is_of(frame));
        let backtrace = Backtrace::of_addresses(&stack, is_own, stack.len() == FRAMES);
        let kind = BlockingKind::of(by, &backtrace);
        publish(BlockingWait { kind, runtime, worker, fiber, name, backtrace });
    };
    // Without a thread there is no report, but a count.
    drop(std::thread::Builder::new().name("moon-report".to_owned()).spawn(name_functions));
}

/// Whether this stack was not seen before; from now on it was. False also when there is no room to remember it.
fn is_new(stack: &[u64]) -> bool {
    let mix = |hash: u64, address: &u64| (hash.rotate_left(5) ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = stack.iter().fold(1, mix) | 1;
    for seen in &SEEN {
        // Relaxed: only the number itself matters.
        match seen.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(other) if other == hash => return false,
            Err(_) => {}
        }
    }
    false
}

fn publish(wait: BlockingWait) {
    let is_first = {
        let mut reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = reports.iter().all(|report| report.kind != wait.kind);
        if is_first {
            reports.push(wait.clone());
        }
        is_first
    };
    if is_first {
        tracing::warn!(
            runtime = %wait.runtime,
            worker = wait.worker,
            fiber = wait.fiber,
            name = wait.name.as_deref().unwrap_or_default(),
            "{wait}",
        );
    }
}

impl BlockingKind {
    /// What makes a fiber wait and not its worker, in place of this.
    pub fn instead(self) -> &'static str {
        match self {
            BlockingKind::ThreadPark => "fiber_runtime::park",
            BlockingKind::StdChannel | BlockingKind::CrossbeamChannel => "fiber_runtime::sync::channel",
            BlockingKind::ThreadScope => "fiber_runtime::scope",
            BlockingKind::ParkingLot => "std::sync or fiber_runtime::sync",
            BlockingKind::Futex => "std::sync, fiber_runtime::sync or fiber_runtime::offload",
        }
    }

    /// By the innermost function that is not of the mechanism of waiting itself.
    fn of(by: By, backtrace: &Backtrace) -> BlockingKind {
        /// Whose functions, and what they stand for.
        const KINDS: [(Origin, BlockingKind); 6] = [
            (Origin("std::sync::mpmc::", "library/std/src/sync/mpmc/"), BlockingKind::StdChannel),
            (Origin("std::sync::mpsc::", "library/std/src/sync/mpsc"), BlockingKind::StdChannel),
            (Origin("std::thread::scoped::", "library/std/src/thread/scoped.rs"), BlockingKind::ThreadScope),
            (Origin("crossbeam_channel::", "/crossbeam-channel-"), BlockingKind::CrossbeamChannel),
            (Origin("parking_lot", "/parking_lot"), BlockingKind::ParkingLot),
            (Origin("lock_api::", "/lock_api-"), BlockingKind::ParkingLot),
        ];
        /// How a parked thread gets to the system call.
        const MECHANISM: [Origin; 3] = [
            Origin("std::sys::", "library/std/src/sys/"),
            Origin("std::thread::", "library/std/src/thread/"),
            Origin("core::", "library/core/src/"),
        ];
        for frame in backtrace.frames() {
            if let Some((_, kind)) = KINDS.iter().find(|(origin, _)| origin.is_of(frame)) {
                return *kind;
            }
            if !MECHANISM.iter().any(|origin| origin.is_of(frame)) {
                break;
            }
        }
        match by {
            By::Park => BlockingKind::ThreadPark,
            By::Futex => BlockingKind::Futex,
        }
    }
}

/// Where functions come from: how their names begin, and a part of the name of their files. With line tables only, or for
/// code that was inlined, the name of a function is without its path, but then its file is known.
struct Origin(&'static str, &'static str);

impl Origin {
    fn is_of(&self, frame: &Frame) -> bool {
        let function = frame.function.as_deref().unwrap_or_default();
        let file = frame.file.as_deref().and_then(Path::to_str).unwrap_or_default();
        function.trim_start_matches('<').starts_with(self.0) || file.contains(self.1)
    }
}

/// How this crate gets to see the stack.
const OWN: [Origin; 2] =
    [Origin("backtrace::", "/backtrace-0"), Origin("fiber_runtime::hook::", "fiber-runtime/src/hook/")];

impl fmt::Display for BlockingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlockingKind::ThreadPark => "std::thread::park",
            BlockingKind::StdChannel => "a channel of std::sync::mpsc",
            BlockingKind::ThreadScope => "the end of std::thread::scope",
            BlockingKind::CrossbeamChannel => "a channel of crossbeam-channel",
            BlockingKind::ParkingLot => "a lock of parking_lot",
            BlockingKind::Futex => "a futex",
        })
    }
}

impl fmt::Display for BlockingWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fiber #{}", self.fiber)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        write!(f, " blocks worker {} of '{}': it waits for {}, ", self.worker, self.runtime, self.kind)?;
        write!(
            f,
            "and no other fiber of the worker runs meanwhile; use {}\n{}",
            self.kind.instead(),
            self.backtrace
        )
    }
}
