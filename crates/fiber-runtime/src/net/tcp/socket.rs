//! A TCP socket before it is a stream or a listener: for options that must be set first.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{TcpListener, TcpStream};
use crate::net::endpoint::Endpoint;
use crate::net::macros::impl_socket_options;

/// A TCP socket that is neither connected nor listening yet.
///
/// ```
/// use fiber_runtime::net::TcpSocket;
///
/// // Several processes may listen on one port, each with a socket like this.
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuse_port(true)?;
/// socket.set_recv_buffer_size(256 * 1024)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let listener = socket.listen(1024)?;
/// # drop(listener);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    endpoint: Endpoint,
}

impl TcpSocket {
    /// A socket for IPv4 addresses.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn new_v4() -> io::Result<Self> {
        Self::new(Domain::IPV4)
    }

    /// A socket for IPv6 addresses.
    ///
    /// # Errors
    /// The process has too many descriptors open, or the machine has no IPv6.
    pub fn new_v6() -> io::Result<Self> {
        Self::new(Domain::IPV6)
    }

    fn new(domain: Domain) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        Ok(Self { endpoint: Endpoint::new(socket) })
    }

    /// Lets the address be bound although connections of its last user linger (`SO_REUSEADDR`).
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn set_reuse_address(&self, reuse: bool) -> io::Result<()> {
        self.endpoint.socket().set_reuse_address(reuse)
    }

    /// Lets several sockets of this user listen on the same port; the kernel spreads connections among them by a hash of
    /// their addresses (`SO_REUSEPORT`).
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn set_reuse_port(&self, reuse: bool) -> io::Result<()> {
        self.endpoint.socket().set_reuse_port(reuse)
    }

    /// Gives the socket its own address. Port 0 is any free port.
    ///
    /// # Errors
    /// The address is in use, or not this machine's.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        self.endpoint.socket().bind(&SockAddr::from(address))
    }

    /// Listens, with room for `backlog` connections that wait to be accepted.
    ///
    /// # Errors
    /// Another socket listens at the address.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.endpoint.socket().listen(backlog.try_into().unwrap_or(libc::c_int::MAX))?;
        Ok(TcpListener { endpoint: Arc::new(self.endpoint) })
    }

    /// Connects to `address` before `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// As [`TcpStream::connect_deadline`].
    pub fn connect(self, address: SocketAddr, deadline: Option<Instant>) -> io::Result<TcpStream> {
        self.endpoint.connect_to(&SockAddr::from(address), deadline)?;
        Ok(TcpStream::new(self.endpoint))
    }

    impl_socket_options!();
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.as_fd()
    }
}
