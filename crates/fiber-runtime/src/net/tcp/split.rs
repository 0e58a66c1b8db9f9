//! The two directions of a TCP connection, for two fibers.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use super::inet;
use crate::net::endpoint::Endpoint;
use crate::net::macros::{impl_fd, impl_read, impl_read_limit, impl_write, impl_write_limit};

/// The reading side of a [`super::TcpStream`].
#[derive(Debug)]
pub struct ReadHalf {
    pub(super) endpoint: Arc<Endpoint>,
}

/// The writing side of a [`super::TcpStream`]. Dropping it does not end the direction: [`WriteHalf::shutdown`] does.
#[derive(Debug)]
pub struct WriteHalf {
    pub(super) endpoint: Arc<Endpoint>,
}

impl ReadHalf {
    /// The address of the other side.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.endpoint.socket().peer_addr()?)
    }

    /// Receives without taking: the next read sees the same bytes.
    ///
    /// # Errors
    /// As for reading.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, libc::MSG_PEEK)
    }

    /// Ends one direction or both of the whole connection. Fibers that wait in that direction wake.
    ///
    /// # Errors
    /// `ErrorKind::NotConnected` if the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.endpoint.shutdown(how)
    }

    impl_read_limit!();
}

impl WriteHalf {
    /// The address of the other side.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.endpoint.socket().peer_addr()?)
    }

    /// Ends one direction or both of the whole connection. Fibers that wait in that direction wake.
    ///
    /// # Errors
    /// `ErrorKind::NotConnected` if the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.endpoint.shutdown(how)
    }

    impl_write_limit!();
}

impl_read!(ReadHalf);
impl_write!(WriteHalf);
impl_fd!(ReadHalf, WriteHalf);
