//! Pipes: between fibers, threads and processes, without a name or with one.
//!
//! The two ends are non-blocking descriptors; what a child process is given is made blocking again
//! ([`Receiver::into_blocking_fd`]), because programs expect that. Writing to a pipe that nobody reads fails with
//! `ErrorKind::BrokenPipe` (Rust programs ignore `SIGPIPE`).
//!
//! ```
//! use std::io::{Read, Write};
//!
//! let (mut sender, mut receiver) = fiber_runtime::pipe::pipe()?;
//! sender.write_all(b"through the kernel")?;
//! drop(sender);
//! let mut text = String::new();
//! receiver.read_to_string(&mut text)?;
//! assert_eq!(text, "through the kernel");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, iovec};

use crate::net::{
    Endpoint, MAX_BUFFERS, impl_fd, impl_read, impl_read_limit, impl_write, impl_write_limit, native, op,
};
use crate::reactor::Interest;
use crate::{sys, time};

/// The end of a pipe that is read. Clones share the descriptor and its limits.
#[derive(Debug)]
pub struct Receiver {
    endpoint: Arc<End>,
}

/// The end of a pipe that is written. Clones share the descriptor and its limits; the reader sees the end of the stream
/// when the last of them is dropped.
#[derive(Debug)]
pub struct Sender {
    endpoint: Arc<End>,
}

/// A pipe without a name.
///
/// # Errors
/// The process has too many descriptors open.
pub fn pipe() -> io::Result<(Sender, Receiver)> {
    let (receiver, sender) = sys::pipe()?;
    Ok((Sender::new(sender, false), Receiver::new(receiver, false)))
}

/// Makes a named pipe at `path`, which must not exist, with the permissions `mode` (less the process's umask).
///
/// # Errors
/// The path exists, or cannot be created.
pub fn make_fifo(path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    let path = CString::new(path.as_ref().as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))?;
    sys::make_fifo(&path, mode)
}

impl Receiver {
    /// Opens the named pipe at `path` for reading. Does not wait for a writer; the first read does.
    ///
    /// # Errors
    /// `ErrorKind::InvalidInput` if it is not a pipe, and what opening a file says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(open(path.as_ref(), OpenOptions::new().read(true))?, true))
    }

    /// Takes over the reading end of a pipe and makes it non-blocking.
    ///
    /// # Errors
    /// The kernel's, which a living pipe does not have.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let receiver = Self::new(fd.into(), false);
        receiver.endpoint.set_nonblocking(true)?;
        Ok(receiver)
    }

    fn new(fd: OwnedFd, awaits_writer: bool) -> Self {
        Self { endpoint: End::new(fd, awaits_writer) }
    }

    /// Another handle on the same end, with the same limits.
    ///
    /// # Errors
    /// None; the signature is that of `std`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    /// A blocking descriptor of this end, for a child process or code that knows nothing of fibers.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        self.endpoint.blocking_fd()
    }

    impl_read_limit!();
}

impl Sender {
    /// Opens the named pipe at `path` for writing, as soon as it has a reader.
    ///
    /// # Errors
    /// `ErrorKind::InvalidInput` if it is not a pipe, and what opening a file says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_until(path, None)
    }

    /// As [`Sender::open`], until `deadline`; `None` is for ever. The kernel does not say when a reader comes, so this
    /// looks, at first every millisecond and later every 50.
    ///
    /// # Errors
    /// As [`Sender::open`], and `ErrorKind::TimedOut` at the deadline.
    pub fn open_until(path: impl AsRef<Path>, deadline: Option<Instant>) -> io::Result<Self> {
        const LONGEST: Duration = Duration::from_millis(50);

        let mut nap = Duration::from_millis(1);
        loop {
            match open(path.as_ref(), OpenOptions::new().write(true)) {
                Ok(fd) => return Ok(Self::new(fd, false)),
                // There is no reader.
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
                Err(error) => return Err(error),
            }
            let now = time::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let next = now + nap;
            time::sleep_until(deadline.map_or(next, |deadline| deadline.min(next)));
            nap = (nap * 2).min(LONGEST);
        }
    }

    /// Takes over the writing end of a pipe and makes it non-blocking.
    ///
    /// # Errors
    /// The kernel's, which a living pipe does not have.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let sender = Self::new(fd.into(), false);
        sender.endpoint.set_nonblocking(true)?;
        Ok(sender)
    }

    fn new(fd: OwnedFd, awaits_writer: bool) -> Self {
        Self { endpoint: End::new(fd, awaits_writer) }
    }

    /// Another handle on the same end, with the same limits.
    ///
    /// # Errors
    /// None; the signature is that of `std`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    /// A blocking descriptor of this end, for a child process or code that knows nothing of fibers.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        self.endpoint.blocking_fd()
    }

    impl_write_limit!();
}

impl_read!(Receiver);
impl_write!(Sender);
impl_fd!(Receiver, Sender);

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<OwnedFd> {
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        let message = format!("{} is not a named pipe", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(file.into())
}

/// A non-blocking descriptor that is read and written with `read` and `write`.
#[derive(Debug)]
pub(crate) struct End {
    endpoint: Endpoint,
    /// A named pipe that nobody has opened for writing yet reads as if it had ended.
    awaits_writer: AtomicBool,
}

impl End {
    fn new(fd: OwnedFd, awaits_writer: bool) -> Arc<Self> {
        Arc::new(Self { endpoint: Endpoint::new(fd), awaits_writer: AtomicBool::new(awaits_writer) })
    }

    /// `flags` are a socket's, and none here.
    pub(crate) fn recv(&self, buffer: &mut [u8], flags: c_int) -> io::Result<usize> {
        debug_assert_eq!(flags, 0);
        let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the kernel writes to at most the length of the buffer, which is borrowed through the call.
        self.receive(|| unsafe { sys::read_raw(self.fd(), start, length) })
    }

    pub(crate) fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (start, count) = (buffers.as_mut_ptr().cast::<iovec>(), buffers.len().min(MAX_BUFFERS));
        // SAFETY: an IoSliceMut is laid out as an iovec, and the buffers are borrowed through the call.
        self.receive(|| unsafe { sys::readv_raw(self.fd(), start, count as c_int) })
    }

    fn receive(&self, read: impl Fn() -> isize) -> io::Result<usize> {
        let patience = || Ok(self.read_limit.of_this_call());
        native(op::drive(self.fd(), Interest::Read, patience, || {
            let count = read();
            // Relaxed: a hint that only goes from true to false.
            if count >= 0 && self.awaits_writer.load(Ordering::Relaxed) {
                if count == 0 && op::is_ready(self.fd(), libc::POLLIN) == Ok(false) {
                    return -(libc::EAGAIN as isize);
                }
                self.awaits_writer.store(false, Ordering::Relaxed);
            }
            count
        }))
    }

    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let (start, length) = (buffer.as_ptr().cast(), buffer.len());
        // SAFETY: the kernel reads at most the length of the buffer, which is borrowed through the call.
        self.transmit(|| unsafe { sys::write_raw(self.fd(), start, length) })
    }

    pub(crate) fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let (start, count) = (buffers.as_ptr().cast::<iovec>(), buffers.len().min(MAX_BUFFERS));
        // SAFETY: an IoSlice is laid out as an iovec, and the buffers are borrowed through the call.
        self.transmit(|| unsafe { sys::writev_raw(self.fd(), start, count as c_int) })
    }

    fn transmit(&self, write: impl Fn() -> isize) -> io::Result<usize> {
        let patience = || Ok(self.write_limit.of_this_call());
        native(op::drive(self.fd(), Interest::Write, patience, write))
    }

    fn blocking_fd(&self) -> io::Result<OwnedFd> {
        let fd = self.endpoint.as_fd().try_clone_to_owned()?;
        self.endpoint.set_nonblocking(false)?;
        debug_assert_ne!(fd.as_raw_fd(), self.fd());
        Ok(fd)
    }
}

impl Deref for End {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl AsFd for End {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.endpoint.as_fd()
    }
}
