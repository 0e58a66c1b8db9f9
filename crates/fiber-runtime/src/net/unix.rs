//! Stream sockets within the machine.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, Type};

use super::endpoint::Endpoint;
use super::macros::{impl_fd, impl_read, impl_read_limit, impl_write, impl_write_limit};

/// Connections that wait to be accepted.
const BACKLOG: libc::c_int = 1024;

/// A connection within the machine. See [`crate::net`] for how its calls wait.
#[derive(Debug)]
pub struct UnixStream {
    endpoint: Arc<Endpoint>,
}

/// A socket that accepts connections within the machine. Its path in the file system stays when it is dropped.
#[derive(Debug)]
pub struct UnixListener {
    endpoint: Arc<Endpoint>,
}

impl UnixStream {
    /// Connects to the listener at `path`. A listener with a full queue is waited for.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_deadline(path, None)
    }

    /// As [`UnixStream::connect`], before `deadline`.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut`, or nobody listens there.
    pub fn connect_deadline(path: impl AsRef<Path>, deadline: Option<Instant>) -> io::Result<Self> {
        Endpoint::connect(&SockAddr::unix(path)?, deadline).map(Self::new)
    }

    /// Two connected sockets.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        Ok((Self::new(Endpoint::new(one)), Self::new(Endpoint::new(other))))
    }

    /// Takes over a connection of `std`. Its own timeouts do not count here.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> Self {
        Self::new(Endpoint::new(OwnedFd::from(stream)))
    }

    /// Another handle on the same connection, with the same limits.
    ///
    /// # Errors
    /// None; the signature is that of `std`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    /// Ends one direction or both, for all handles. Fibers that wait in that direction wake.
    ///
    /// # Errors
    /// `ErrorKind::NotConnected` if the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.endpoint.shutdown(how)
    }

    /// Receives without taking: the next read sees the same bytes.
    ///
    /// # Errors
    /// As for reading.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, libc::MSG_PEEK)
    }

    impl_read_limit!();
    impl_write_limit!();

    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }
}

impl UnixListener {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    /// The path exists, is too long, or cannot be created.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let endpoint = Endpoint::listen(&SockAddr::unix(path)?, BACKLOG)?;
        Ok(Self { endpoint: Arc::new(endpoint) })
    }

    /// Takes over a listener of `std`, and makes it non-blocking.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let endpoint = Endpoint::new(OwnedFd::from(listener));
        endpoint.set_nonblocking(true)?;
        Ok(Self { endpoint: Arc::new(endpoint) })
    }

    /// Waits for a connection. Clients seldom have a path of their own, so none is returned.
    ///
    /// # Errors
    /// As for [`super::TcpListener::accept`].
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.endpoint.accept().map(|(endpoint, _)| UnixStream::new(endpoint))
    }

    /// Until when `accept` may wait; `None` is for ever.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.endpoint.read_limit.set_deadline(deadline);
    }

    /// The path, if the socket has one.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn local_path(&self) -> io::Result<Option<PathBuf>> {
        Ok(self.endpoint.socket().local_addr()?.as_pathname().map(Path::to_path_buf))
    }

    /// Another handle on the same socket.
    ///
    /// # Errors
    /// None; the signature is that of `std`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    /// Stops listening, for all handles: `accept` fails from now on, also where it waits already.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn shutdown(&self) -> io::Result<()> {
        self.endpoint.shutdown(Shutdown::Both)
    }
}

impl_read!(UnixStream);
impl_write!(UnixStream);
impl_fd!(UnixStream, UnixListener);
