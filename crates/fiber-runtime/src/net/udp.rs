//! Datagrams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::addr::{ToSocketAddrs, first_that_works};
use super::endpoint::Endpoint;
use super::macros::{impl_fd, impl_read_limit, impl_socket_options, impl_write_limit};

/// A UDP socket. See [`crate::net`] for how its calls wait.
#[derive(Debug)]
pub struct UdpSocket {
    endpoint: Arc<Endpoint>,
}

impl UdpSocket {
    /// A socket on the first of the addresses that can be had. Port 0 is any free port.
    ///
    /// # Errors
    /// The last address's error if none can be had.
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        first_that_works(addresses, |address| {
            let socket = Socket::new(Domain::for_address(*address), Type::DGRAM, None)?;
            socket.bind(&SockAddr::from(*address))?;
            Ok(Self { endpoint: Arc::new(Endpoint::new(socket)) })
        })
    }

    /// Takes over a socket of `std::net`. Its own timeouts do not count here.
    pub fn from_std(socket: std::net::UdpSocket) -> Self {
        Self { endpoint: Arc::new(Endpoint::new(OwnedFd::from(socket))) }
    }

    /// Fixes the peer: `send` goes to it, and only its datagrams are received.
    ///
    /// # Errors
    /// The last address's error if none will do.
    pub fn connect(&self, addresses: impl ToSocketAddrs) -> io::Result<()> {
        // Connecting a datagram socket only writes down the address; it does not wait.
        first_that_works(addresses, |address| self.endpoint.socket().connect(&SockAddr::from(*address)))
    }

    /// Sends one datagram to `address`.
    ///
    /// # Errors
    /// The datagram is too long, or an earlier one was refused by the peer.
    pub fn send_to(&self, datagram: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        let address = address.to_socket_addrs()?.first().copied().ok_or(io::ErrorKind::InvalidInput)?;
        self.endpoint.send_to(datagram, &SockAddr::from(address))
    }

    /// Receives one datagram; what does not fit in the buffer is lost.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut` at the deadline, or an earlier datagram was refused by its receiver.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buffer, 0)
    }

    /// As [`UdpSocket::recv_from`], without taking the datagram.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buffer, libc::MSG_PEEK)
    }

    /// Sends one datagram to the connected peer.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`], or the socket is not connected.
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.endpoint.send(datagram)
    }

    /// Receives one datagram from the connected peer.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, 0)
    }

    /// As [`UdpSocket::recv`], without taking the datagram.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.recv(buffer, libc::MSG_PEEK)
    }

    /// The address of this socket.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.endpoint.socket().local_addr()?)
    }

    /// The connected peer.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.endpoint.socket().peer_addr()?)
    }

    /// Allows sending to broadcast addresses.
    ///
    /// # Errors
    /// The kernel's, which a living socket does not have.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.endpoint.socket().set_broadcast(broadcast)
    }

    /// Receives what is sent to the group, on the interface with the address `interface` (unspecified: any).
    ///
    /// # Errors
    /// Not a multicast address, or there is no such interface.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.endpoint.socket().join_multicast_v4(group, interface)
    }

    /// Receives what is sent to the group no longer.
    ///
    /// # Errors
    /// The socket is not in the group.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.endpoint.socket().leave_multicast_v4(group, interface)
    }

    /// Receives what is sent to the group, on the interface with this number (0: any).
    ///
    /// # Errors
    /// Not a multicast address, or there is no such interface.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.endpoint.socket().join_multicast_v6(group, interface)
    }

    /// Receives what is sent to the group no longer.
    ///
    /// # Errors
    /// The socket is not in the group.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.endpoint.socket().leave_multicast_v6(group, interface)
    }

    /// Another handle on the same socket, with the same limits.
    ///
    /// # Errors
    /// None; the signature is that of `std::net`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { endpoint: Arc::clone(&self.endpoint) })
    }

    impl_socket_options!();
    impl_read_limit!();
    impl_write_limit!();

    fn recv_from_with(&self, buffer: &mut [u8], flags: libc::c_int) -> io::Result<(usize, SocketAddr)> {
        let (length, address) = self.endpoint.recv_from(buffer, flags)?;
        Ok((length, inet(&address)?))
    }
}

fn inet(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an internet address"))
}

impl_fd!(UdpSocket);
