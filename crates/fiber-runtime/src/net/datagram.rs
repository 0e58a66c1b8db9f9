//! Datagrams within the machine.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::endpoint::Endpoint;
use super::macros::{impl_fd, impl_read_limit, impl_write_limit};

/// A socket for datagrams within the machine: none is lost, and a sender waits while the receiver's queue is full. See
/// [`crate::net`] for how its calls wait.
#[derive(Debug)]
pub struct UnixDatagram {
    endpoint: Arc<Endpoint>,
}

impl UnixDatagram {
    /// A socket at `path`, which must not exist.
    ///
    /// # Errors
    /// The path exists, is too long, or cannot be created.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = Self::unbound()?;
        socket.endpoint.socket().bind(&SockAddr::unix(path)?)?;
        Ok(socket)
    }

    /// A socket without a path, to send with.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn unbound() -> io::Result<Self> {
        Socket::new(Domain::UNIX, Type::DGRAM, None).map(|socket| Self::new(Endpoint::new(socket)))
    }

    /// Two connected sockets.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::DGRAM, None)?;
        Ok((Self::new(Endpoint::new(one)), Self::new(Endpoint::new(other))))
    }

    /// Takes over a socket of `std`. Its own timeouts do not count here.
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> Self {
        Self::new(Endpoint::new(OwnedFd::from(socket)))
    }

    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }

    /// Fixes the peer: `send` goes to it, and only its datagrams are received.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        // Connecting a datagram socket only writes down the address; it does not wait.
        self.endpoint.socket().connect(&SockAddr::unix(path)?)
    }

    /// Sends one datagram to the socket at `path`.
    ///
    /// # Errors
    /// Nobody is there, or the datagram is too long; `ErrorKind::TimedOut` at the deadline.
    pub fn send_to(&self, datagram: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.endpoint.send_to(datagram, &SockAddr::unix(path)?)
    }

    /// Sends one datagram to the connected peer.
    ///
    /// # Errors
    /// As [`UnixDatagram::send_to`], or the socket is not connected.
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.endpoint.send(datagram)
    }

    /// Receives one datagram, and its sender's path if that has one; what does not fit in the buffer is lost.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut` at the deadline.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<PathBuf>)> {
        let (length, address) = self.endpoint.recv_from(buffer, 0)?;
        Ok((length, address.as_pathname().map(Path::to_path_buf)))
    }

    /// Receives one datagram; what does not fit in the buffer is lost.
    ///
    /// # Errors
    /// As [`UnixDatagram::recv_from`].
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, 0)
    }

    /// As [`UnixDatagram::recv`], without taking the datagram.
    ///
    /// # Errors
    /// As [`UnixDatagram::recv_from`].
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, libc::MSG_PEEK)
    }

    /// The path, if the socket has one.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn local_path(&self) -> io::Result<Option<PathBuf>> {
        Ok(self.endpoint.socket().local_addr()?.as_pathname().map(Path::to_path_buf))
    }

    /// Another handle on the same socket, with the same limits.
    ///
    /// # Errors
    /// None; the signature is that of `std`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    /// Ends one direction or both, for all handles. Fibers that wait in that direction wake.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.endpoint.shutdown(how)
    }

    impl_read_limit!();
    impl_write_limit!();
}

impl_fd!(UnixDatagram);
