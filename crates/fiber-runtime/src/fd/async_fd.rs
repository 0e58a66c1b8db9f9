//! Readiness of a descriptor that somebody else knows how to use.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use crate::net::{native, op};
use crate::reactor::{self, Interest};
use crate::sys;

/// A descriptor, or something that has one, whose readiness is waited for: by the fiber, or by the thread when the
/// caller is not in one.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use fiber_runtime::fd::{AsyncFd, Interest};
///
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build()?;
/// # runtime.block_on(|| {
/// let (one, mut other) = UnixStream::pair()?;
/// one.set_nonblocking(true)?;
/// let one = AsyncFd::new(one)?;
/// other.write_all(b"x")?;
/// let mut byte = [0];
/// assert_eq!(one.try_io(Interest::Read, |mut stream| stream.read(&mut byte))?, 1);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Invariants
/// The descriptor is `inner`'s; waits on it end before `inner` is given back or dropped, with `ECANCELED`.
pub struct AsyncFd<T: AsFd> {
    /// Empty only while `into_inner` takes it.
    inner: Option<T>,
}

impl<T: AsFd> AsyncFd<T> {
    /// Takes over `inner`. For [`AsyncFd::try_io`] the descriptor should be non-blocking; this does not make it so.
    ///
    /// # Errors
    /// `EBADF` if it is not open.
    pub fn new(inner: T) -> io::Result<Self> {
        // SAFETY: F_GETFD reads flags and has no argument.
        native(op::check(unsafe { sys::fcntl_raw(inner.as_fd().as_raw_fd(), libc::F_GETFD, 0) }))?;
        Ok(Self { inner: Some(inner) })
    }

    /// Waits until there is something to read, the other side has ended, or an error is to be collected: until
    /// `poll(2)` says so. Regular files and directories are always ready.
    ///
    /// # Errors
    /// `EBADF` if the descriptor was closed behind this type's back, `EPERM` for what cannot be waited for.
    pub fn readable(&self) -> io::Result<()> {
        self.ready(Interest::Read, None)
    }

    /// Waits until there is room to write, or an error is to be collected.
    ///
    /// # Errors
    /// As [`AsyncFd::readable`].
    pub fn writable(&self) -> io::Result<()> {
        self.ready(Interest::Write, None)
    }

    /// Waits for one direction until `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// As [`AsyncFd::readable`], and `ErrorKind::TimedOut` at the deadline.
    pub fn ready(&self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        native(op::until_ready(self.raw(), interest, deadline))
    }

    /// Calls `operation` until it does something other than fail with `ErrorKind::WouldBlock`, waiting in between.
    ///
    /// # Errors
    /// The operation's own, and those of [`AsyncFd::readable`].
    pub fn try_io<R>(&self, interest: Interest, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.try_io_until(interest, None, operation)
    }

    /// As [`AsyncFd::try_io`], until `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// As [`AsyncFd::try_io`], and `ErrorKind::TimedOut` at the deadline.
    pub fn try_io_until<R>(
        &self,
        interest: Interest,
        deadline: Option<Instant>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    native(op::wait(self.raw(), interest, deadline))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// What has the descriptor.
    pub fn get_ref(&self) -> &T {
        self.inner.as_ref().expect("it is taken out by `into_inner` only, which consumes this")
    }

    /// Gives the descriptor back. Fibers that wait for it end with `ECANCELED`.
    pub fn into_inner(mut self) -> T {
        reactor::closing(self.raw());
        self.inner.take().expect("it is taken out here only")
    }

    fn raw(&self) -> RawFd {
        self.get_ref().as_fd().as_raw_fd()
    }
}

impl<T: AsFd> AsFd for AsyncFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd> AsRawFd for AsyncFd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.raw()
    }
}

impl<T: AsFd> Drop for AsyncFd<T> {
    fn drop(&mut self) {
        if let Some(inner) = &self.inner {
            reactor::closing(inner.as_fd().as_raw_fd());
        }
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for AsyncFd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncFd").field(&self.inner).finish()
    }
}
