//! A worker's epoll instance and the descriptors registered with it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Poll, Token};

use super::drained::Tide;
use super::gathered::Wanted;
use super::manner::Manner;
use super::{Interest, table};
use crate::fiber::header::Header;
use crate::fiber::park;
use crate::fiber::wake::Signals;
use crate::hook;
use crate::scheduler::worker::Worker;
use crate::sys;
use crate::waiter::Woken;

/// Events taken from the kernel at a time.
const EVENTS: usize = 512;

/// Tokens of the worker's own descriptors; those of sources have a generation, hence a bit, above the number.
const WAKE: Token = Token(1);
const TIMER: Token = Token(2);

/// A fiber waiting for one direction of one descriptor. Lives on the fiber's stack.
pub(crate) struct IoWaiter {
    fiber: NonNull<Header>,
    outcome: Cell<Outcome>,
}

impl IoWaiter {
    pub(crate) fn new(fiber: &Header) -> Self {
        IoWaiter { fiber: NonNull::from(fiber), outcome: Cell::new(Outcome::Waiting) }
    }

    /// Whether an edge, or the descriptor's end, has taken it out.
    pub(crate) fn is_woken(&self) -> bool {
        self.outcome.get() != Outcome::Waiting
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Waiting,
    Ready,
    Closed,
}

/// One direction of a descriptor.
#[derive(Default)]
struct Direction {
    registered: bool,
    /// An edge came and nobody was waiting.
    ready: bool,
    /// How blocking calls wait for it.
    manner: Manner,
    /// All are woken by an edge: the kernel does not say for how many it is enough.
    waiters: Vec<NonNull<IoWaiter>>,
}

/// What this worker knows of a descriptor.
#[derive(Default)]
pub(super) struct Source {
    generation: u32,
    read: Direction,
    write: Direction,
    pub(super) tide: Tide,
}

impl Source {
    fn direction(&mut self, interest: Interest) -> &mut Direction {
        match interest {
            Interest::Read => &mut self.read,
            Interest::Write => &mut self.write,
        }
    }

    pub(super) fn remember_edge(&mut self) {
        self.read.ready = true;
    }

    fn token(&self, fd: RawFd) -> Token {
        Token((self.generation as usize) << 32 | fd as usize)
    }
}

/// See the module's documentation.
pub(crate) struct Poller {
    poll: RefCell<Poll>,
    events: RefCell<Events>,
    /// Indexed by descriptor number.
    sources: RefCell<Vec<Option<Box<Source>>>>,
    timer: OwnedFd,
    /// When the timerfd will expire, in the worker's nanoseconds; `u64::MAX` when it will not.
    armed: Cell<u64>,
}

impl Poller {
    /// An epoll instance with the worker's eventfd and a timerfd in it.
    pub(crate) fn new(wake: RawFd) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = sys::timerfd()?;
        // What the eventfd's previous worker was told does not concern this one.
        let _ = sys::read(wake, &mut [0; 8]);
        poll.registry().register(&mut SourceFd(&wake), WAKE, mio::Interest::READABLE)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, mio::Interest::READABLE)?;
        Ok(Poller {
            poll: RefCell::new(poll),
            events: RefCell::new(Events::with_capacity(EVENTS)),
            sources: RefCell::new(Vec::new()),
            timer,
            armed: Cell::new(u64::MAX),
        })
    }

    /// Sees to it that a blocking poll ends by `deadline`. A timer armed for earlier is left alone: it ends one poll
    /// for nothing, which is cheaper than a system call whenever the earliest deadline moves.
    fn arm(&self, now: u64, deadline: Option<u64>) -> io::Result<()> {
        let Some(deadline) = deadline else { return Ok(()) };
        if self.armed.get() > now && self.armed.get() <= deadline {
            return Ok(());
        }
        sys::timerfd_arm(self.timer.as_raw_fd(), deadline.saturating_sub(now))?;
        self.armed.set(deadline);
        Ok(())
    }
}

impl Worker {
    /// Asks the kernel for events and wakes the fibers they are for. With `block`, sleeps until there is one or until
    /// `deadline`. Returns the number of events.
    pub(crate) fn poll(&self, block: bool, now: u64, deadline: Option<u64>) -> u64 {
        let Some(poller) = self.poller() else { return 0 };
        if block && let Err(error) = poller.arm(now, deadline) {
            panic!("arming the worker's timerfd: {error}");
        }
        let timeout = (!block).then_some(Duration::ZERO);
        let mut events = poller.events.borrow_mut();
        // mio's poll arrives in the hook of epoll_wait. Where a fiber blocks its thread it is not the fiber's to wait in.
        match hook::disabled(|| poller.poll.borrow_mut().poll(&mut events, timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return 0,
            Err(error) => panic!("waiting for events in worker {}: {error}", self.index()),
        }
        let mut count = 0;
        for event in events.iter() {
            count += 1;
            match event.token() {
                WAKE => {}
                TIMER => poller.armed.set(u64::MAX),
                token => self.dispatch(poller, token, event),
            }
        }
        self.counters().polls.add(1);
        self.counters().events.add(count);
        count
    }

    fn dispatch(&self, poller: &Poller, token: Token, event: &Event) {
        let fd = token.0 as u32 as usize;
        let generation = (token.0 >> 32) as u32;
        let mut sources = poller.sources.borrow_mut();
        let Some(Some(source)) = sources.get_mut(fd) else { return };
        // An event of the number's previous file.
        if source.generation != generation {
            return;
        }
        let failed = event.is_error() || (event.is_read_closed() && event.is_write_closed());
        if event.is_readable() || event.is_read_closed() || event.is_priority() || failed {
            source.tide.edge(event.is_read_closed() || event.is_priority() || failed);
            self.edge(&mut source.read);
        }
        if event.is_writable() || event.is_write_closed() || failed {
            self.edge(&mut source.write);
        }
    }

    fn edge(&self, direction: &mut Direction) {
        direction.ready = direction.waiters.is_empty();
        self.finish_waits(direction, Outcome::Ready);
    }

    fn finish_waits(&self, direction: &mut Direction, outcome: Outcome) {
        for waiter in direction.waiters.drain(..) {
            // SAFETY: a waiter in the list is on the stack of a fiber that waits in `wait_for_descriptor`, which takes
            // it out of the list before it returns.
            let waiter = unsafe { waiter.as_ref() };
            waiter.outcome.set(outcome);
            self.deliver(waiter.fiber, Signals::EVENT);
        }
    }

    /// The worker's side of [`super::wait`].
    pub(crate) fn wait_for_descriptor(
        &self,
        fiber: &Header,
        fd: RawFd,
        interest: Interest,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let Some(poller) = self.poller() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a simulation has no descriptors"));
        };
        if fiber.must_end() {
            return Err(cancelled());
        }
        let waiter = IoWaiter::new(fiber);
        // SAFETY: `waiter` stays in this frame until it was taken out, by an edge or below.
        if !unsafe { self.enlist(poller, &waiter, fd, interest) }? {
            return Ok(());
        }
        let label = match interest {
            Interest::Read => "readable descriptor",
            Interest::Write => "writable descriptor",
        };
        let mut result = Ok(());
        while waiter.outcome.get() == Outcome::Waiting {
            result = end_of_wait(fiber, park::wait(self, fiber, Signals::EVENT, label, deadline));
            if result.is_err() {
                break;
            }
        }
        match waiter.outcome.get() {
            Outcome::Waiting => {
                self.strike(&waiter, fd, interest);
                result
            }
            // A cancelled fiber must not go on to use what became ready at the same moment.
            Outcome::Ready if fiber.must_end() => Err(cancelled()),
            Outcome::Ready => Ok(()),
            Outcome::Closed => Err(cancelled()),
        }
    }

    /// As [`Worker::wait_for_descriptor`], until one of several may be ready. Those that epoll cannot watch are left out:
    /// they do not become ready.
    pub(super) fn wait_for_any(
        &self,
        fiber: &Header,
        wanted: &[Wanted],
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let Some(poller) = self.poller() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a simulation has no descriptors"));
        };
        if fiber.must_end() {
            return Err(cancelled());
        }
        let waiters = wanted.iter().map(|_| IoWaiter::new(fiber)).collect();
        let standing = Standing { worker: self, wanted, waiters };
        for (waiter, &(fd, interest)) in standing.waiters.iter().zip(wanted) {
            // SAFETY: the waiters stay in their allocation until `standing` has taken them out, at the latest when it is
            // dropped.
            match unsafe { self.enlist(poller, waiter, fd, interest) } {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
                Err(error) => return Err(error),
            }
        }
        let mut result = Ok(());
        while !standing.waiters.iter().any(IoWaiter::is_woken) {
            result =
                end_of_wait(fiber, park::wait(self, fiber, Signals::EVENT, "several descriptors", deadline));
            if result.is_err() {
                break;
            }
        }
        let has = |outcome| standing.waiters.iter().any(|waiter| waiter.outcome.get() == outcome);
        if has(Outcome::Closed) || (has(Outcome::Ready) && fiber.must_end()) {
            return Err(cancelled());
        }
        if has(Outcome::Ready) { Ok(()) } else { result }
    }

    /// Makes `waiter` wait for an edge; false if one has come before, so that the caller looks again.
    ///
    /// # Safety
    /// The waiter stays where it is, alive, until an edge has come or [`Worker::strike`] was called.
    pub(crate) unsafe fn enlist(
        &self,
        poller: &Poller,
        waiter: &IoWaiter,
        fd: RawFd,
        interest: Interest,
    ) -> io::Result<bool> {
        let mut sources = poller.sources.borrow_mut();
        let source = self.source(poller, &mut sources, fd, interest)?;
        let direction = source.direction(interest);
        if std::mem::take(&mut direction.ready) {
            return Ok(false);
        }
        waiter.outcome.set(Outcome::Waiting);
        direction.waiters.push(NonNull::from(waiter));
        Ok(true)
    }

    /// Takes a waiter out that no edge has taken out.
    pub(crate) fn strike(&self, waiter: &IoWaiter, fd: RawFd, interest: Interest) {
        let Some(poller) = self.poller() else { return };
        let mut sources = poller.sources.borrow_mut();
        if let Some(Some(source)) = sources.get_mut(fd as usize) {
            let waiters = &mut source.direction(interest).waiters;
            waiters.retain(|&other| other != NonNull::from(waiter));
        }
    }

    /// The source for `fd`, registered for `interest` in its current generation.
    fn source<'a>(
        &self,
        poller: &Poller,
        sources: &'a mut Vec<Option<Box<Source>>>,
        fd: RawFd,
        interest: Interest,
    ) -> io::Result<&'a mut Source> {
        let Some(source) = self.current_source(sources, fd) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        if !source.direction(interest).registered {
            source.direction(interest).registered = true;
            if let Err(error) = register(&poller.poll.borrow(), source, fd) {
                source.direction(interest).registered = false;
                return Err(error);
            }
        }
        Ok(source)
    }

    /// The source for `fd` in its current generation; `None` for numbers beyond the table.
    fn current_source<'a>(
        &self,
        sources: &'a mut Vec<Option<Box<Source>>>,
        fd: RawFd,
    ) -> Option<&'a mut Source> {
        let entry = table::entry(fd)?;
        let at = fd as usize;
        if sources.len() <= at {
            sources.resize_with((at + 1).next_power_of_two(), || None);
        }
        let source = sources[at].get_or_insert_default();
        if source.generation != entry.generation() {
            // The file this worker knew is closed; a message about it may be on its way, and will find nothing to do.
            self.forget_source(source);
            source.generation = entry.enrol(self.port().mask_bit());
        }
        Some(source)
    }

    fn forget_source(&self, source: &mut Source) {
        self.finish_waits(&mut source.read, Outcome::Closed);
        self.finish_waits(&mut source.write, Outcome::Closed);
        for direction in [&mut source.read, &mut source.write] {
            direction.registered = false;
            direction.ready = false;
            direction.manner = Manner::default();
        }
        source.tide = Tide::default();
    }

    /// Calls `body` with the source of `fd` if its current generation is registered here for reading.
    #[inline]
    pub(super) fn with_readable_source<T>(
        &self,
        fd: RawFd,
        body: impl FnOnce(&mut Source) -> T,
    ) -> Option<T> {
        let mut sources = self.poller()?.sources.borrow_mut();
        let source = sources.get_mut(usize::try_from(fd).ok()?)?.as_mut()?;
        let generation = table::existing(fd)?.generation();
        (source.read.registered && source.generation == generation).then(|| body(source))
    }

    /// What is remembered of how blocking calls wait for `fd`. Nothing in a signal handler that has come upon the fiber
    /// while it was looking at the sources itself.
    pub(super) fn manner(&self, fd: RawFd, interest: Interest) -> Option<Manner> {
        let mut sources = self.poller()?.sources.try_borrow_mut().ok()?;
        let source = sources.get_mut(usize::try_from(fd).ok()?)?.as_mut()?;
        let generation = table::existing(fd)?.generation();
        (source.generation == generation).then(|| source.direction(interest).manner)
    }

    /// Remembers it until the descriptor is closed, if that has not happened since it was of `generation`.
    pub(super) fn set_manner(&self, (fd, generation): (RawFd, u32), interest: Interest, manner: Manner) {
        let Some(poller) = self.poller() else { return };
        let Ok(mut sources) = poller.sources.try_borrow_mut() else { return };
        if let Some(source) = self.current_source(&mut sources, fd).filter(|it| it.generation == generation) {
            source.direction(interest).manner = manner;
        }
    }

    /// `fd` is being closed: see [`super::closing`]. On the closing worker this comes before the close, elsewhere after.
    pub(crate) fn close_descriptor(&self, fd: RawFd) {
        let Some(poller) = self.poller() else { return };
        let mut sources = poller.sources.borrow_mut();
        let Some(Some(source)) = sources.get_mut(fd as usize) else { return };
        // Registered anew already: the message is about a file that is forgotten.
        if table::entry(fd).is_some_and(|entry| entry.generation() == source.generation) {
            return;
        }
        if source.read.registered || source.write.registered {
            // A duplicate of the descriptor would keep the registration alive. After the close this finds nothing, or
            // a new file that this worker has not registered: an error either way, and rightly ignored.
            let _ = poller.poll.borrow().registry().deregister(&mut SourceFd(&fd));
        }
        self.forget_source(source);
    }
}

/// A fiber's places in the lists of several descriptors. Those in which it has not been woken are given up with it.
struct Standing<'a> {
    worker: &'a Worker,
    wanted: &'a [Wanted],
    waiters: Box<[IoWaiter]>,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        for (waiter, &(fd, interest)) in self.waiters.iter().zip(self.wanted) {
            if !waiter.is_woken() {
                self.worker.strike(waiter, fd, interest);
            }
        }
    }
}

/// What a wait says that ended so: nothing, an error, or to look whether it was for this.
fn end_of_wait(fiber: &Header, woken: Woken) -> io::Result<()> {
    match woken {
        Woken::Signal => Ok(()),
        Woken::TimedOut => Err(io::Error::from(io::ErrorKind::TimedOut)),
        Woken::Cancelled if fiber.must_end() => Err(cancelled()),
        // The deadline of a scope around the call.
        Woken::Cancelled => Err(io::Error::from(io::ErrorKind::TimedOut)),
    }
}

/// Registers the directions that are wanted, edge-triggered.
fn register(poll: &Poll, source: &Source, fd: RawFd) -> io::Result<()> {
    // Urgent data is asked for because a receive stops at it: see `drained`.
    let read = mio::Interest::READABLE | mio::Interest::PRIORITY;
    let interest = match (source.read.registered, source.write.registered) {
        (true, true) => read | mio::Interest::WRITABLE,
        (true, false) => read,
        (false, _) => mio::Interest::WRITABLE,
    };
    let token = source.token(fd);
    let registry = poll.registry();
    match registry.register(&mut SourceFd(&fd), token, interest) {
        // Known to this epoll: the other direction, or a registration that outlived a close by a duplicate.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            registry.reregister(&mut SourceFd(&fd), token, interest)
        }
        result => result,
    }
}

fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}
