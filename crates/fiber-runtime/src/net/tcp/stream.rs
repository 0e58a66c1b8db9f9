//! A TCP connection.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockAddr, TcpKeepalive};

use super::inet;
use super::split::{ReadHalf, WriteHalf};
use crate::net::addr::ToSocketAddrs;
use crate::net::connect::first_to_answer;
use crate::net::dns::bounded;
use crate::net::endpoint::Endpoint;
use crate::net::macros::{
    impl_fd, impl_read, impl_read_limit, impl_socket_options, impl_write, impl_write_limit,
};
use crate::time;

/// A TCP connection. See [`crate::net`] for how its calls wait.
#[derive(Debug)]
pub struct TcpStream {
    pub(super) endpoint: Arc<Endpoint>,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers. Several are tried a quarter of a second apart, or as soon as
    /// the one before has failed, IPv6 and IPv4 in turns (RFC 8305): one that leads nowhere does not hold up the others.
    ///
    /// # Errors
    /// If none accepts: the error of the only one, or [`crate::net::ConnectError`] with those of all, of the last one's kind. The
    /// kernel gives up on an address that does not answer after some minutes.
    pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        Self::connect_until(addresses, None)
    }

    /// As [`TcpStream::connect`], name lookup and all, before `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// As [`TcpStream::connect`], and `ErrorKind::TimedOut` at the deadline.
    pub fn connect_until(addresses: impl ToSocketAddrs, deadline: Option<Instant>) -> io::Result<Self> {
        let addresses = bounded(deadline, || addresses.to_socket_addrs())?;
        first_to_answer(addresses, deadline).map(Self::new)
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

    /// Asks a silent peer for a sign of life after `idle`, and again every `interval`; after nine without an answer the
    /// connection fails (`SO_KEEPALIVE`). `None` does not ask. Whole seconds count.
    ///
    /// # Errors
    /// Less than a second, or more than the kernel takes (32767 seconds).
    pub fn set_keepalive(&self, idle_and_interval: Option<(Duration, Duration)>) -> io::Result<()> {
        let socket = self.endpoint.socket();
        match idle_and_interval {
            None => socket.set_keepalive(false),
            Some((idle, interval)) => {
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))
            }
        }
    }

    /// Whether a silent peer is asked for a sign of life.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn keepalive(&self) -> io::Result<bool> {
        self.endpoint.socket().keepalive()
    }

    /// What closing does with bytes that are not sent yet (`SO_LINGER`): with zero they are thrown away, and the peer sees a
    /// reset; `None`, the default, goes on sending in the background. With anything else, `close` itself waits, and the
    /// worker with it.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.endpoint.socket().set_linger(linger)
    }

    /// What closing does with bytes that are not sent yet.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.endpoint.socket().linger()
    }

    impl_socket_options!();
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
