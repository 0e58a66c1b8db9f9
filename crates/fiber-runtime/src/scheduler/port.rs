//! The part of a worker that other threads may touch.
//!
//! Ports are never freed: a worker takes one from a process-wide list when it starts and gives it back when it ends. So
//! a stale `Fiber` handle may use the port of its fiber's former worker without asking whether it is still there; at
//! worst it wakes a stranger for nothing.
//!
//! ```text
//!   sleeper                                       waker
//!   state = PARKED            (SeqCst)            push to the inbox or a deque
//!   fence                     (SeqCst)            fence                              (SeqCst)
//!   look at inbox and deques                      state PARKED -> NOTIFIED?  yes: write the eventfd
//!   nothing there: sleep
//! ```
//! One of the two sees the other: a wake is not lost, and the eventfd is written only for a sleeper.

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64};

use crossbeam_utils::CachePadded;

use super::inbox::Inbox;
use super::running::Running;
use super::worker::Worker;
use crate::fiber::header::Header;
use crate::metrics::Counters;
use crate::monitor;
use crate::primitive::{AsRawFd, AtomicBool, AtomicPtr, AtomicU8, Ordering, OwnedFd, StaticLock, fence};
use crate::sys;

/// What a worker is doing, as far as wakers care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// Runs fibers; looks at its inbox by itself.
    Running = 0,
    /// Has nothing to do and looks for work elsewhere.
    Searching = 1,
    /// Sleeps, or is about to.
    Parked = 2,
    /// Was woken because of its inbox.
    Notified = 3,
    /// Was woken to search; counted as a searcher by the waker.
    NotifiedToSearch = 4,
    /// Nobody drives it: the caller's worker between two calls of `block_on`.
    Away = 5,
}

impl State {
    fn from(raw: u8) -> State {
        match raw {
            0 => State::Running,
            1 => State::Searching,
            2 => State::Parked,
            3 => State::Notified,
            4 => State::NotifiedToSearch,
            5 => State::Away,
            other => unreachable!("worker state {other}"),
        }
    }
}

/// A message that is not about one fiber.
pub(crate) enum Control {
    /// `fd` is being closed: its waiters end with an error.
    Closing(i32),
    /// Call this, between two resumes: somebody wants to look at the worker's fibers.
    Visit(Box<dyn FnOnce(&Worker) + Send>),
}

struct ControlNode {
    message: Control,
    next: *mut ControlNode,
}

/// See the module's documentation.
pub(crate) struct Port {
    inbox: CachePadded<Inbox>,
    state: CachePadded<AtomicU8>,
    control: AtomicPtr<ControlNode>,
    /// Process-wide number, from 1; the bit in descriptors' masks derives from it.
    serial: u64,
    /// Made when a real worker first takes the port; a simulation never sleeps.
    eventfd: OnceLock<OwnedFd>,
    /// Whether a worker that reads control messages has the port.
    staffed: AtomicBool,
    /// The thread that drives the worker, by the kernel's number; 0 while nobody does.
    thread: AtomicI32,
    /// Fibers sent here by load that have not begun: see [`super::balance`].
    pub(super) arriving: AtomicU64,
    pub(crate) counters: CachePadded<Counters>,
    pub(crate) running: Running,
}

// SAFETY: the raw pointers inside are the heads of lock-free stacks of things that may change thread.
unsafe impl Send for Port {}
// SAFETY: as above; everything else is atomic.
unsafe impl Sync for Port {}

struct Ports {
    all: Vec<&'static Port>,
    free: Vec<&'static Port>,
}

static PORTS: StaticLock<Ports> = StaticLock::new(Ports { all: Vec::new(), free: Vec::new() });

impl Port {
    /// A port nobody else has.
    pub(crate) fn acquire() -> &'static Port {
        let port = PORTS.lock(|ports| ports.free.pop()).unwrap_or_else(|| {
            let fresh = Box::leak(Box::new(Port {
                inbox: CachePadded::new(Inbox::new()),
                state: CachePadded::new(AtomicU8::new(State::Away as u8)),
                control: AtomicPtr::new(std::ptr::null_mut()),
                serial: 0,
                eventfd: OnceLock::new(),
                staffed: AtomicBool::new(false),
                thread: AtomicI32::new(0),
                arriving: AtomicU64::new(0),
                counters: CachePadded::new(Counters::default()),
                running: Running::new(),
            }));
            PORTS.lock(|ports| {
                fresh.serial = ports.all.len() as u64 + 1;
                let fresh: &'static Port = fresh;
                ports.all.push(fresh);
                fresh
            })
        });
        port.counters.reset();
        port.state.store(State::Away as u8, Ordering::Relaxed);
        port
    }

    /// Gives the port back. Its worker has ended and delivered what was in the inbox.
    pub(crate) fn release(&'static self) {
        PORTS.lock(|ports| ports.free.push(self));
    }

    /// Calls `each` on every staffed port whose bit is set in `mask` (bit `serial % 32`).
    pub(crate) fn for_each_in_mask(mask: u32, mut each: impl FnMut(&'static Port)) {
        let mut at = 0;
        while let Some(port) = PORTS.lock(|ports| ports.all.get(at).copied()) {
            if mask & port.mask_bit() != 0 && port.staffed.load(Ordering::Acquire) {
                each(port);
            }
            at += 1;
        }
    }

    /// The bit that stands for this port in a descriptor's mask of reactors; shared when there are more than 32.
    pub(crate) fn mask_bit(&self) -> u32 {
        1 << (self.serial % 32)
    }

    /// Whether a worker reads the control messages.
    pub(crate) fn set_staffed(&self, staffed: bool) {
        self.staffed.store(staffed, Ordering::Release);
    }

    /// The calling thread drives the worker from now on, or (false) no longer.
    pub(super) fn set_driven(&self, driven: bool) {
        // Relaxed: a number to send a signal to; the receiver looks whether it is meant.
        self.thread.store(if driven { sys::thread_id() } else { 0 }, Ordering::Relaxed);
    }

    /// The thread that drives the worker; 0 when nobody does.
    pub(crate) fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// The eventfd, made on first use.
    pub(crate) fn eventfd(&self) -> std::io::Result<i32> {
        if let Some(fd) = self.eventfd.get() {
            return Ok(fd.as_raw_fd());
        }
        let fd = sys::eventfd()?;
        Ok(self.eventfd.get_or_init(|| fd).as_raw_fd())
    }

    /// Hands a fiber to the worker and wakes it if it sleeps.
    ///
    /// # Safety
    /// As for [`Inbox::push`].
    pub(crate) unsafe fn post(&self, fiber: NonNull<Header>) {
        // SAFETY: the caller's promise.
        unsafe { self.inbox.push(fiber) };
        self.notify();
    }

    /// Sends a control message and wakes the worker if it sleeps.
    pub(crate) fn send(&self, message: Control) {
        let node = Box::into_raw(Box::new(ControlNode { message, next: std::ptr::null_mut() }));
        let mut head = self.control.load(Ordering::Relaxed);
        loop {
            // SAFETY: the node is ours until the exchange below publishes it.
            unsafe { (*node).next = head };
            // Release pairs with the Acquire in `take_control`.
            match self.control.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        self.notify();
    }

    /// Wakes the worker if it sleeps. What it is to see must have been written before.
    #[inline]
    pub(crate) fn notify(&self) {
        self.notify_as(State::Notified);
    }

    /// As [`Port::notify`], for the waker that sends a searcher; false if the worker does not sleep.
    #[inline]
    pub(crate) fn notify_as(&self, state: State) -> bool {
        // Pairs with the fence in `park`: see the picture above.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) != State::Parked as u8 {
            return false;
        }
        let woken = self
            .state
            .compare_exchange(State::Parked as u8, state as u8, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok();
        if woken && let Some(fd) = self.eventfd.get() {
            self.counters.signals.add_shared(1);
            sys::eventfd_signal(fd.as_raw_fd());
        }
        woken
    }

    /// The worker says what it does. It does not sleep at the moment.
    #[inline]
    pub(crate) fn set_state(&self, state: State) {
        debug_assert!(state != State::Parked, "a worker parks with `park`");
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// What the worker does, as others see it.
    #[inline]
    pub(crate) fn state(&self) -> State {
        State::from(self.state.load(Ordering::Relaxed))
    }

    /// The worker is about to sleep: from here on it is notified. It must look at its queues once more.
    pub(crate) fn park(&self) {
        self.state.store(State::Parked as u8, Ordering::SeqCst);
        // Pairs with the fence in `notify_as`.
        fence(Ordering::SeqCst);
    }

    /// The worker is awake again; returns how that came about (`Parked`: by itself).
    #[must_use]
    pub(crate) fn unpark(&self) -> State {
        let before = State::from(self.state.swap(State::Running as u8, Ordering::SeqCst));
        monitor::worker_awake();
        before
    }

    /// Whether something waits in inbox or control.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        !self.inbox.is_empty() || !self.control.load(Ordering::Relaxed).is_null()
    }

    /// See [`Inbox::take`]; called by the port's worker only.
    #[inline]
    pub(crate) fn take_fibers(&self, each: impl FnMut(NonNull<Header>)) {
        self.inbox.take(each);
    }

    /// Takes the control messages; called by the port's worker only.
    pub(crate) fn take_control(&self, mut each: impl FnMut(Control)) {
        if self.control.load(Ordering::Relaxed).is_null() {
            return;
        }
        // Acquire pairs with the Release in `send`.
        let mut node = self.control.swap(std::ptr::null_mut(), Ordering::Acquire);
        while !node.is_null() {
            // SAFETY: the node came from `Box::into_raw` in `send`, and the swap made it ours.
            let owned = unsafe { Box::from_raw(node) };
            node = owned.next;
            each(owned.message);
        }
    }
}
