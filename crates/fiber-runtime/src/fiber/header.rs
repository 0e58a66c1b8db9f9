//! The one block of memory a fiber is: header, closure, result.
//!
//! ```text
//!   Block<F, T>
//!   +-------------------------------------------------------------+----------------------+
//!   | Header                                                      | Stage<F, T>          |
//!   |  shared: refs, wake word, join word, link, home             |  closure, later the  |
//!   |  fixed:  vtable, id, name, stack class, group               |  result, later empty |
//!   |  owner:  phase, tokens, coroutine, yielder, timer node      |                      |
//!   +-------------------------------------------------------------+----------------------+
//! ```
//!
//! `Header` is the first field, so a pointer to it stands for the block whatever `F` and `T` are. References are
//! counted: one belongs to the runtime until the fiber has ended, one to the `JoinHandle`, one to each [`Fiber`].

use std::alloc::Layout;
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use corosensei::{Coroutine, Yielder};

use super::cancel::Attention;
use super::extras::Extras;
use super::join::{Completed, JoinError, JoinWord};
use super::wake::{Signals, WakeWord};
use super::{Fiber, blocks, cancel};
use crate::scheduler::port::Port;
use crate::sim::group::GroupCore;
use crate::stack::FiberStack;
use crate::timer::TimerNode;

/// Why a fiber gave its worker back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspend {
    /// It stays ready and goes to the end of the queue.
    Yield,
    /// It waits for one of the signals in `Owner::mask`, or for its timer.
    Park,
}

pub(crate) type FiberCoroutine = Coroutine<(), Suspend, (), FiberStack>;
pub(crate) type FiberYielder = Yielder<(), Suspend>;

/// Where a fiber is in its life. Only its worker reads or writes it; before the start, whoever holds the fiber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In a queue of un-started fibers; may still move to another worker.
    Unstarted,
    /// In its worker's ready queue.
    Ready,
    /// On the processor, or in a wait that blocks the thread for real.
    Running,
    /// Off its stack, in no queue, until a signal or its timer.
    Parked,
    /// Over; its stack is gone.
    Done,
}

/// What a fiber is, besides its closure and its result.
///
/// The first cache line has what every switch touches, and nothing else does: with ten thousand fibers taking turns, the
/// lines of each are what a switch costs.
#[repr(C, align(64))]
pub(crate) struct Header {
    // Touched on every resume.
    pub(crate) coroutine: UnsafeCell<Option<ManuallyDrop<FiberCoroutine>>>,
    pub(crate) phase: Cell<Phase>,
    pub(crate) tokens: Cell<Signals>,
    pub(crate) mask: Cell<Signals>,
    pub(crate) timed_out: Cell<bool>,
    pub(crate) attention: Attention,
    pub(crate) wake: WakeWord,
    pub(crate) class: u8,
    pub(crate) yielder: Cell<*const FiberYielder>,
    /// What only some fibers have.
    pub(crate) extras: OnceCell<Box<Extras>>,
    /// Where on its stack it was suspended: a hint for prefetching.
    pub(crate) resume_at: Cell<*const u8>,

    // Touched when it waits or is waited for.
    /// What the fiber waits for, in words, for dumps.
    pub(crate) label: Cell<&'static str>,
    /// When it began to wait, on the worker's clock; a little early, for it is the worker's last look at the clock.
    pub(crate) since: Cell<u64>,
    pub(crate) join: JoinWord,
    pub(crate) home: AtomicPtr<Port>,
    refs: AtomicU32,
    /// Index in its worker's table of started fibers.
    pub(crate) slot: Cell<u32>,

    // Touched at its start and end, and by timers, hooks and inboxes.
    pub(crate) vtable: &'static VTable,
    pub(crate) id: u64,
    pub(crate) timer: TimerNode,
    pub(crate) link: AtomicPtr<Header>,
    /// The addresses below the usable stack, for the overflow report.
    pub(crate) stack_guard: Cell<(usize, usize)>,
    /// Nested calls of [`crate::hook::disabled`].
    pub(crate) hooks_off: Cell<u32>,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) group: Option<Arc<GroupCore>>,
}

// Under AddressSanitizer a coroutine remembers more, and speed is of no matter.
const _: () = assert!(
    std::mem::offset_of!(Header, label) == 64 || size_of::<FiberCoroutine>() > 32,
    "what a switch touches fits the first cache line of a fiber"
);

// SAFETY (for the uses of `Header` across threads; the type itself stays !Sync): other threads reach a header through
// `Fiber` and `JoinHandle` only, which touch the atomics, the fixed fields, and nothing of the owner's.

impl Header {
    /// The operands that differ from fiber to fiber; everything else starts at rest.
    #[inline(always)]
    pub(crate) fn new(
        vtable: &'static VTable,
        id: u64,
        name: Option<Cow<'static, str>>,
        class: u8,
        group: Option<Arc<GroupCore>>,
    ) -> Self {
        Header {
            coroutine: UnsafeCell::new(None),
            phase: Cell::new(Phase::Unstarted),
            tokens: Cell::new(Signals::NONE),
            mask: Cell::new(Signals::NONE),
            timed_out: Cell::new(false),
            attention: Attention::new(),
            wake: WakeWord::new(),
            join: JoinWord::new(),
            class,
            yielder: Cell::new(std::ptr::null()),
            hooks_off: Cell::new(0),
            resume_at: Cell::new(std::ptr::null()),
            extras: OnceCell::new(),
            label: Cell::new(""),
            since: Cell::new(0),
            home: AtomicPtr::new(std::ptr::null_mut()),
            refs: AtomicU32::new(2),
            stack_guard: Cell::new((0, 0)),
            slot: Cell::new(u32::MAX),
            link: AtomicPtr::new(std::ptr::null_mut()),
            vtable,
            id,
            timer: TimerNode::new(),
            name,
            group,
        }
    }

    /// Whether this fiber, or the group it belongs to, was cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.attention.is_cancelled()
    }

    #[inline]
    pub(crate) fn retain(&self) {
        // Relaxed: the caller has a reference, so the count cannot reach zero meanwhile.
        let before = self.refs.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "{before} references to one fiber");
    }

    /// Gives up one reference.
    ///
    /// # Safety
    /// The caller owns one and does not use the header afterwards.
    #[inline]
    pub(crate) unsafe fn release(header: NonNull<Header>) {
        // SAFETY: the caller's reference keeps the block alive up to here.
        let this = unsafe { header.as_ref() };
        // The last reference, if this is it, cannot be cloned meanwhile: no need to write the count. Acquire, here and
        // in the fence, pairs with the Release of those who gave up theirs: every use of the block precedes its end.
        if this.refs.load(Ordering::Acquire) == 1 || this.refs.fetch_sub(1, Ordering::Release) == 1 {
            std::sync::atomic::fence(Ordering::Acquire);
            // SAFETY: that was the last reference, and `free` is the function for this block's real type.
            unsafe { (this.vtable.free)(header) }
        }
    }

    /// Number and name.
    pub(crate) fn identify(&self) -> (u64, Option<String>) {
        (self.id, self.name.as_deref().map(str::to_owned))
    }

    /// Name if it has one, else its number: for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.name {
            Some(name) => format!("'{name}' (#{})", self.id),
            None => format!("#{}", self.id),
        }
    }
}

/// What depends on the closure's and result's types.
pub(crate) struct VTable {
    /// Runs the closure, on the fiber's own stack, and stores its result.
    pub(crate) run: unsafe fn(NonNull<Header>),
    /// Drops the closure without running it and stores `JoinError::Cancelled` or the given payload as the result.
    pub(crate) abandon: unsafe fn(NonNull<Header>, Option<Box<dyn Any + Send>>),
    /// Moves the result to an `Option<Result<T, JoinError>>` that is `None` so far.
    pub(crate) take: unsafe fn(NonNull<Header>, *mut ()),
    /// Drops the result if it is still there.
    pub(crate) discard: unsafe fn(NonNull<Header>),
    /// Whether the result is a panic.
    pub(crate) panicked: unsafe fn(NonNull<Header>) -> bool,
    free: unsafe fn(NonNull<Header>),
}

enum Stage<F, T> {
    Waiting(F),
    Finished(Result<T, JoinError>),
    Empty,
}

/// Header, closure and result in one allocation.
#[repr(C)]
pub(crate) struct Block<F, T> {
    header: Header,
    stage: UnsafeCell<Stage<F, T>>,
}

impl<F: FnOnce() -> T, T> Block<F, T> {
    const VTABLE: VTable = VTable {
        run: Self::run,
        abandon: Self::abandon,
        take: take::<F, T>,
        discard: discard::<F, T>,
        panicked: panicked::<F, T>,
        free: free::<F, T>,
    };

    /// A new block with two references: the runtime's and the join handle's.
    pub(crate) fn allocate(
        body: F,
        id: u64,
        name: Option<Cow<'static, str>>,
        class: u8,
        group: Option<Arc<GroupCore>>,
    ) -> NonNull<Header> {
        let block: NonNull<Block<F, T>> = blocks::allocate(Layout::new::<Block<F, T>>()).cast();
        // Written in place: a block is a few hundred bytes, and built elsewhere it would be copied here.
        // SAFETY: the memory has the layout of a block and is ours alone.
        unsafe {
            block.write(Block {
                header: Header::new(&Self::VTABLE, id, name, class, group),
                stage: UnsafeCell::new(Stage::Waiting(body)),
            });
        }
        block.cast()
    }

    unsafe fn run(header: NonNull<Header>) {
        // SAFETY: the header is the first field of a `Block<F, T>`; until completion only the fiber touches the stage.
        let (this, stage) = unsafe { (header.as_ref(), &mut *header.cast::<Self>().as_ref().stage.get()) };
        let Stage::Waiting(body) = std::mem::replace(stage, Stage::Empty) else {
            unreachable!("a fiber runs its closure once");
        };
        let result = if this.is_cancelled() {
            this.attention.shield_for_good();
            match catch_unwind(AssertUnwindSafe(|| drop(body))) {
                Ok(()) => Err(JoinError::Cancelled),
                Err(payload) => Err(JoinError::Panicked(payload)),
            }
        } else {
            catch_unwind(AssertUnwindSafe(body)).map_err(cancel::classify)
        };
        *stage = Stage::Finished(result);
    }

    unsafe fn abandon(header: NonNull<Header>, payload: Option<Box<dyn Any + Send>>) {
        // SAFETY: as in `run`; the fiber never starts, and the caller holds it alone.
        let stage = unsafe { &mut *header.cast::<Self>().as_ref().stage.get() };
        let body = std::mem::replace(stage, Stage::Empty);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(body)));
        *stage = Stage::Finished(Err(match (payload, dropped) {
            (Some(payload), _) | (None, Err(payload)) => JoinError::Panicked(payload),
            (None, Ok(())) => JoinError::Cancelled,
        }));
    }
}

unsafe fn discard<F, T>(header: NonNull<Header>) {
    // SAFETY: the header is the first field of a `Block<F, T>`; the join word gave the caller the result alone.
    let stage = unsafe { &mut *header.cast::<Block<F, T>>().as_ref().stage.get() };
    let result = std::mem::replace(stage, Stage::Empty);
    // A destructor that panics must not unwind into the scheduler or a destructor of the handle.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(result))) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

unsafe fn panicked<F, T>(header: NonNull<Header>) -> bool {
    // SAFETY: as in `discard`.
    let stage = unsafe { &*header.cast::<Block<F, T>>().as_ref().stage.get() };
    matches!(stage, Stage::Finished(Err(JoinError::Panicked(_))))
}

unsafe fn free<F, T>(header: NonNull<Header>) {
    // SAFETY: written as a block of this type in `allocate`, and the last reference is gone. The stage is empty unless
    // the runtime was torn down before the fiber started, so that no value is dropped on a foreign thread.
    unsafe {
        header.cast::<Block<F, T>>().drop_in_place();
        blocks::free(header.cast(), Layout::new::<Block<F, T>>());
    }
}

unsafe fn take<F, T>(header: NonNull<Header>, into: *mut ()) {
    // SAFETY: the join word gave the caller the result alone, and `into` is where the handle, which knows `T`, wants it.
    unsafe {
        let stage = &mut *header.cast::<Block<F, T>>().as_ref().stage.get();
        if let Stage::Finished(result) = std::mem::replace(stage, Stage::Empty) {
            into.cast::<Option<Result<T, JoinError>>>().write(Some(result));
        }
    }
}

/// The runtime's own reference to an un-started fiber, on its way through a deque or an inbox.
pub(crate) struct Unstarted(pub(crate) NonNull<Header>);

// SAFETY: an un-started fiber is a closure that is `Send` (or it is never put where another thread takes it), and
// nothing of it has been pinned to a thread yet.
unsafe impl Send for Unstarted {}

impl Unstarted {
    /// Ends a fiber that will never start, because its runtime is gone.
    pub(crate) fn abandon(self) {
        // SAFETY: the runtime's reference, which this value is; the fiber is in no queue.
        unsafe {
            let header = self.0.as_ref();
            (header.vtable.abandon)(self.0, None);
            if let Some(group) = &header.group {
                group.leave(header.id);
            }
            match header.join.complete() {
                Completed::Wake(waiter) => waiter.wake(),
                Completed::Kept => {}
                Completed::Unwanted => (header.vtable.discard)(self.0),
            }
            if let Some(extras) = header.extras.get() {
                extras.end(header.id);
            }
            Header::release(self.0);
        }
    }
}

/// A counted handle for a header.
///
/// # Safety
/// `header` must be alive: the caller has or borrows a reference.
pub(crate) unsafe fn handle(header: NonNull<Header>) -> Fiber {
    // SAFETY: the caller's promise.
    unsafe { header.as_ref() }.retain();
    Fiber::from_counted(header)
}
