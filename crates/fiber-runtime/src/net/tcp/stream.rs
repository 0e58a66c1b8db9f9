//! A TCP connection.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockAddr;

use super::inet;
use super::split::{ReadHalf, WriteHalf};
use crate::net::addr::{ToSocketAddrs, first_that_works};
use crate::net::endpoint::Endpoint;
use crate::net::macros::{impl_fd, impl_read, impl_read_limit, impl_write, impl_write_limit};
use crate::time;

/// A TCP connection. See [`crate::net`] for how its calls wait.
#[derive(Debug)]
pub struct TcpStream {
    pub(super) endpoint: Arc<Endpoint>,
}

impl TcpStream {
    /// Connects to the first of the addresses that accepts.
    ///
    /// # Errors
    /// The last address's error if none accepts. The kernel gives up on one that does not answer after some minutes.
    pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        first_that_works(addresses, |address| Self::connect_deadline(address, None))
    }

    /// Connects to `address` within `timeout`.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut`, or why the connection was refused.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::connect_deadline(address, time::now().checked_add(timeout))
    }

    /// Connects to `address` before `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    pub fn connect_deadline(address: &SocketAddr, deadline: Option<Instant>) -> io::Result<Self> {
        Endpoint::connect(&SockAddr::from(*address), deadline).map(Self::new)
    }

    /// Takes over a connection of `std::net`. Its own timeouts do not count here.
    pub fn from_std(stream: std::net::TcpStream) -> Self {
        Self::from(OwnedFd::from(stream))
    }

    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }

    /// Another handle on the same connection, with the same limits.
    ///
    /// # Errors
    /// None; the signature is that of `std::net`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    /// One handle for a fiber that reads, one for a fiber that writes.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (ReadHalf { endpoint: Arc::clone(&self.endpoint) }, WriteHalf { endpoint: self.endpoint })
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.endpoint.socket().peer_addr()?)
    }

    /// The address of this side.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.endpoint.socket().local_addr()?)
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

    /// Sends small writes at once (true) or lets the kernel gather them (`TCP_NODELAY`).
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.endpoint.socket().set_tcp_nodelay(nodelay)
    }

    /// Whether small writes are sent at once.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.endpoint.socket().tcp_nodelay()
    }

    impl_read_limit!();
    impl_write_limit!();
}

impl From<OwnedFd> for TcpStream {
    fn from(fd: OwnedFd) -> Self {
        Self::new(Endpoint::new(fd))
    }
}

impl_read!(TcpStream);
impl_write!(TcpStream);
impl_fd!(TcpStream);
