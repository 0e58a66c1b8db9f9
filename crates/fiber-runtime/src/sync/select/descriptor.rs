//! Arms that become ready with a descriptor: `poll(2)` is the judge, the reactor says when to ask again.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::arm::Caller;
use super::{Operation, Selectable};
use crate::net::op::{self, Stop};
use crate::reactor::Interest;
use crate::reactor::poller::IoWaiter;
use crate::scheduler::worker::Worker;

/// Ready when reading from `socket` would not wait: bytes, a connection, the end of the stream, or an error to collect.
/// What is read may still come to nothing if somebody else reads as well, and then waits.
///
/// In a simulation, which has no descriptors, a descriptor that is not ready at once is an error.
pub fn readable(socket: &impl AsFd) -> impl Operation<Outcome = io::Result<()>> {
    Readiness::new(socket.as_fd(), Interest::Read)
}

/// Ready when writing to `socket` would not wait for room, or when there is an error to collect. See [`readable`].
pub fn writable(socket: &impl AsFd) -> impl Operation<Outcome = io::Result<()>> {
    Readiness::new(socket.as_fd(), Interest::Write)
}

struct Readiness<'a> {
    fd: BorrowedFd<'a>,
    interest: Interest,
    /// In a fiber, what the reactor has. Made at the first wait and in place from then on; a fiber's own worker alone
    /// looks at it.
    waiter: std::cell::OnceCell<IoWaiter>,
    enlisted: Cell<bool>,
    outcome: Cell<Option<io::Result<()>>>,
}

impl<'a> Readiness<'a> {
    fn new(fd: BorrowedFd<'a>, interest: Interest) -> Self {
        Self {
            fd,
            interest,
            waiter: std::cell::OnceCell::new(),
            enlisted: Cell::new(false),
            outcome: Cell::new(None),
        }
    }

    fn events(&self) -> libc::c_short {
        match self.interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
        }
    }

    fn fail(&self, error: io::Error) -> bool {
        self.outcome.set(Some(Err(error)));
        true
    }
}

impl super::Arm for Readiness<'_> {
    fn attempt(&self) -> bool {
        match op::is_ready(self.fd.as_raw_fd(), self.events()) {
            Ok(false) => false,
            Ok(true) => {
                self.outcome.set(Some(Ok(())));
                true
            }
            Err(Stop::Errno(libc::EINTR)) => false,
            Err(Stop::Errno(errno)) => self.fail(io::Error::from_raw_os_error(errno)),
            Err(Stop::TimedOut) => self.fail(io::ErrorKind::TimedOut.into()),
        }
    }

    unsafe fn enter(&self, _who: &Caller) -> bool {
        // Each round consumes a remembered edge, so there are few.
        loop {
            if self.attempt() {
                return true;
            }
            let enlisted = Worker::with_current_fiber(|worker, fiber| {
                let Some(poller) = worker.poller() else {
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        "a simulation has no descriptors",
                    ));
                };
                let waiter = self.waiter.get_or_init(|| IoWaiter::new(fiber));
                // SAFETY: the caller keeps the arm, and with it the waiter, in place until `leave`.
                unsafe { worker.enlist(poller, waiter, self.fd.as_raw_fd(), self.interest) }
            });
            match enlisted {
                // A plain thread polls the descriptor itself.
                None => return false,
                Some(Ok(true)) => {
                    self.enlisted.set(true);
                    return false;
                }
                Some(Ok(false)) => {}
                Some(Err(error)) => return self.fail(error),
            }
        }
    }

    fn is_woken(&self) -> bool {
        match self.waiter.get() {
            Some(waiter) => self.enlisted.get() && waiter.is_woken(),
            // A plain thread has polled.
            None => true,
        }
    }

    fn leave(&self) {
        if !self.enlisted.replace(false) {
            return;
        }
        if let Some(waiter) = self.waiter.get().filter(|waiter| !waiter.is_woken()) {
            Worker::with_current(|worker| worker.strike(waiter, self.fd.as_raw_fd(), self.interest));
        }
    }

    fn descriptor(&self) -> Option<(RawFd, libc::c_short)> {
        Some((self.fd.as_raw_fd(), self.events()))
    }
}

impl Selectable for Readiness<'_> {}

impl Operation for Readiness<'_> {
    type Outcome = io::Result<()>;

    fn into_outcome(self) -> io::Result<()> {
        self.outcome.into_inner().expect("only an operation that was chosen has an outcome")
    }
}
