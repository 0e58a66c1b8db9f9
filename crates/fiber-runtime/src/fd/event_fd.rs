//! The kernel's counter of events: `eventfd(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use crate::fd::{AsyncFd, Interest};
use crate::sys;

/// A counter that one side adds to and the other waits for and empties. Unlike [`crate::sync::Semaphore`] it is a
/// descriptor: other processes, C code and event loops can hold its other end.
#[derive(Clone, Debug)]
pub struct EventFd {
    fd: Arc<AsyncFd<OwnedFd>>,
}

impl EventFd {
    /// The largest count.
    pub const MAX: u64 = u64::MAX - 1;

    /// A counter at zero. [`EventFd::take`] empties it.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn new() -> io::Result<Self> {
        Self::from_fd(sys::eventfd()?)
    }

    /// A counter at zero from which [`EventFd::take`] takes one at a time.
    ///
    /// # Errors
    /// As [`EventFd::new`].
    pub fn semaphore() -> io::Result<Self> {
        Self::from_fd(sys::eventfd_semaphore()?)
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: Arc::new(AsyncFd::new(fd)?) })
    }

    /// Adds `amount`. Waits while the count would pass [`EventFd::MAX`].
    ///
    /// # Errors
    /// `ErrorKind::InvalidInput` for `u64::MAX`, which the kernel does not take.
    pub fn add(&self, amount: u64) -> io::Result<()> {
        self.fd
            .try_io(Interest::Write, |fd| sys::write(fd.as_raw_fd(), &sys::word_to_bytes(amount)))
            .map(drop)
    }

    /// Waits until the counter is not zero, and takes what is there (of a semaphore, one).
    ///
    /// # Errors
    /// The kernel's, which a living counter does not have.
    pub fn take(&self) -> io::Result<u64> {
        self.take_until(None)
    }

    /// As [`EventFd::take`], until `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut` at the deadline.
    pub fn take_until(&self, deadline: Option<Instant>) -> io::Result<u64> {
        let mut count = [0; 8];
        self.fd.try_io_until(Interest::Read, deadline, |fd| sys::read(fd.as_raw_fd(), &mut count))?;
        Ok(sys::word_from_bytes(count))
    }

    /// Takes what is there without waiting: zero if nothing is.
    ///
    /// # Errors
    /// The kernel's, which a living counter does not have.
    pub fn try_take(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        match sys::read(self.as_raw_fd(), &mut count) {
            Ok(_) => Ok(sys::word_from_bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
