//! Fibers without stacks: the block that queues pass round, and the shipped words in it.

use std::time::Instant;

use loom::thread::JoinHandle;

use super::waiter::Waiter;

#[path = "../../../src/fiber/wake.rs"]
pub(crate) mod wake;

#[path = "../../../src/fiber/join/word.rs"]
pub(crate) mod word;

/// Where a new fiber may start; as shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Anywhere,
    Here,
    On(usize),
}

pub(crate) mod header {
    //! The block.

    use std::cell::Cell;
    use std::ptr::NonNull;

    use super::wake::{Signals, WakeWord};
    use crate::primitive::{AtomicBool, AtomicPtr, Ordering, UnsafeCell};

    /// As shipped.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Phase {
        Unstarted,
        Ready,
        Running,
        Parked,
        Done,
    }

    /// The shared part of the shipped header, and a cell for what its users hand to each other.
    pub(crate) struct Header {
        pub(crate) link: AtomicPtr<Header>,
        pub(crate) wake: WakeWord,
        pub(crate) number: usize,
        /// Written before the fiber is handed over, read by whoever gets it.
        pub(crate) cargo: UnsafeCell<usize>,
        pub(crate) ran: AtomicBool,
        pub(crate) phase: Cell<Phase>,
        pub(crate) tokens: Cell<Signals>,
        pub(crate) mask: Cell<Signals>,
        pub(crate) timed_out: Cell<bool>,
    }

    // SAFETY: the cells are touched by the owner only, as the shipped ones; loom watches `cargo`.
    unsafe impl Sync for Header {}
    // SAFETY: as above.
    unsafe impl Send for Header {}

    impl Header {
        pub(crate) fn new(number: usize) -> Self {
            Header {
                link: AtomicPtr::new(std::ptr::null_mut()),
                wake: WakeWord::new(),
                number,
                cargo: UnsafeCell::new(0),
                ran: AtomicBool::new(false),
                phase: Cell::new(Phase::Unstarted),
                tokens: Cell::new(Signals::NONE),
                mask: Cell::new(Signals::NONE),
                timed_out: Cell::new(false),
            }
        }

        pub(crate) fn describe(&self) -> String {
            self.number.to_string()
        }

        pub(crate) fn identify(&self) -> (u64, Option<String>) {
            (0, Some(self.describe()))
        }

        /// Writes or reads the cargo; loom complains if somebody else may be at it.
        pub(crate) fn touch_cargo(&self) {
            // SAFETY: `get` has asserted that no other access is concurrent.
            unsafe { *self.cargo.get() += 1 };
        }

        /// The fiber runs, once.
        pub(crate) fn run(&self) {
            self.touch_cargo();
            assert!(!self.ran.swap(true, Ordering::AcqRel), "fiber {} runs twice", self.number);
        }
    }

    /// As shipped: a fiber on its way through a deque or an inbox.
    pub(crate) struct Unstarted(pub(crate) NonNull<Header>);

    // SAFETY: a header is `Sync`, and outlives the model that uses it.
    unsafe impl Send for Unstarted {}

    impl Unstarted {
        /// No model ends before its fibers have run.
        pub(crate) fn abandon(self) {
            panic!("a fiber is abandoned");
        }
    }
}

pub(crate) mod cancel {
    //! The unwinding of a cancelled fiber.

    /// The payload.
    pub(crate) struct Cancelled;

    pub(crate) fn unwind() -> ! {
        std::panic::resume_unwind(Box::new(Cancelled))
    }
}

/// A fiber that is a thread of loom's, by where it sleeps.
#[derive(Clone)]
pub(crate) struct Fiber(Waiter);

/// Tokens: no model stops a runtime.
#[derive(Clone)]
pub(crate) struct CancelToken;

impl CancelToken {
    pub(crate) fn new() -> Self {
        CancelToken
    }

    pub(crate) fn child_token(&self) -> Self {
        CancelToken
    }

    pub(crate) fn cancel(&self) {}
}

impl Fiber {
    /// A thread that runs `body`, as a fiber would.
    pub(crate) fn spawn(body: impl FnOnce() + 'static) -> (Fiber, JoinHandle<()>) {
        let parker = Waiter::new();
        let me = parker.clone();
        let thread = loom::thread::spawn(move || {
            me.settle();
            body();
        });
        (Fiber(parker), thread)
    }

    pub(crate) fn unpark(&self) {
        self.0.wake();
    }
}

/// Whoever spawns, in `io_manager/timer.rs`.
pub(crate) struct Handle;

/// A park whose deadline does not come by itself.
pub(crate) fn park_until(_deadline: Option<Instant>) {
    let _ = crate::waiter::wait("park", None);
}
