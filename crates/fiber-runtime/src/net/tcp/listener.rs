//! A socket that accepts TCP connections.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use socket2::SockAddr;

use super::{TcpStream, inet};
use crate::net::addr::{ToSocketAddrs, first_that_works};
use crate::net::endpoint::Endpoint;
use crate::net::macros::impl_fd;

/// Connections that the kernel completes before they are accepted; it refuses or delays what is beyond.
const BACKLOG: libc::c_int = 1024;

/// A socket that accepts TCP connections. See [`crate::net`] for how its calls wait.
#[derive(Debug)]
pub struct TcpListener {
    pub(super) endpoint: Arc<Endpoint>,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be had. Port 0 is any free port.
    ///
    /// # Errors
    /// The last address's error if none can be had.
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        let endpoint =
            first_that_works(addresses, |address| Endpoint::listen(&SockAddr::from(*address), BACKLOG))?;
        Ok(Self { endpoint: Arc::new(endpoint) })
    }

    /// Takes over a listener of `std::net`, and makes it non-blocking.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        let endpoint = Endpoint::new(OwnedFd::from(listener));
        endpoint.set_nonblocking(true)?;
        Ok(Self { endpoint: Arc::new(endpoint) })
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// The connection's own failures and shortages of this process (`EMFILE`, which is reported after a millisecond, so
    /// that no loop is hot): a server goes on accepting, as [`crate::net::Acceptor`] does. `ErrorKind::TimedOut` at the deadline, `ErrorKind::InvalidInput` after [`TcpListener::shutdown`].
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (endpoint, address) = self.endpoint.accept()?;
        Ok((TcpStream::new(endpoint), inet(&address)?))
    }

    /// Until when `accept` may wait; `None` is for ever.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.endpoint.read_limit.set_deadline(deadline);
    }

    /// The address of this socket, with the port that was found for port 0.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.endpoint.socket().local_addr()?)
    }

    /// Another handle on the same socket.
    ///
    /// # Errors
    /// None; the signature is that of `std::net`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    /// Stops listening, for all handles: `accept` fails from now on, also where it waits already.
    ///
    /// # Errors
    /// `ErrorKind::NotConnected` if it has been shut down before.
    pub fn shutdown(&self) -> io::Result<()> {
        self.endpoint.shutdown(Shutdown::Both)
    }
}

impl_fd!(TcpListener);
