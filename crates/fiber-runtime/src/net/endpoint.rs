//! The socket behind every type of [`super`]: an owned descriptor and how long its operations may wait.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, iovec};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::op::{self, Stop};
use crate::reactor;
use crate::sync::Spin;
use crate::{sys, time};

/// The kernel takes no more buffers than this in one call (`UIO_MAXIOV`).
pub(crate) const MAX_BUFFERS: usize = 1024;

#[derive(Debug)]
pub(crate) struct Endpoint {
    socket: OwnedFd,
    /// Its receiving direction was shut down. The kernel's own answer for a Unix listener is "would block".
    shut_down: AtomicBool,
    pub(crate) read_limit: Limit,
    pub(crate) write_limit: Limit,
}

/// How long the operations of one direction may wait.
#[derive(Debug, Default)]
pub(crate) struct Limit(Spin<(Option<Duration>, Option<Instant>)>);

impl Limit {
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a timeout of zero would never let a call wait",
            ));
        }
        self.0.lock(|limit| limit.0 = timeout);
        Ok(())
    }

    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) {
        self.0.lock(|limit| limit.1 = deadline);
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.0.lock(|limit| limit.0)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.lock(|limit| limit.1)
    }

    /// The deadline of a call that begins now. A timeout too long for the clock is none.
    pub(crate) fn of_this_call(&self) -> Option<Instant> {
        let (timeout, deadline) = self.0.lock(|limit| *limit);
        let timeout = timeout.and_then(|timeout| time::now().checked_add(timeout));
        match (timeout, deadline) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

impl Endpoint {
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> Self {
        Self {
            socket: socket.into(),
            shut_down: AtomicBool::new(false),
            read_limit: Limit::default(),
            write_limit: Limit::default(),
        }
    }

    /// A new stream socket for addresses like `address`, non-blocking.
    pub(crate) fn stream(address: &SockAddr) -> io::Result<Self> {
        let domain = Domain::from(c_int::from(address.family()));
        Ok(Self::new(Socket::new(domain, Type::STREAM.nonblocking(), None)?))
    }

    /// A new stream socket, connected to `address`.
    pub(crate) fn connect(address: &SockAddr, deadline: Option<Instant>) -> io::Result<Self> {
        let endpoint = Self::stream(address)?;
        endpoint.connect_to(address, deadline)?;
        Ok(endpoint)
    }

    /// Connects a non-blocking stream socket, which is blocking afterwards.
    pub(crate) fn connect_to(&self, address: &SockAddr, deadline: Option<Instant>) -> io::Result<()> {
        // SAFETY: the address lives through the call and its length is its own.
        let attempt = || unsafe { sys::connect_raw(self.fd(), address.as_ptr().cast(), address.len()) };
        native(op::connect(self.fd(), || Ok(deadline), attempt, || op::take_error(self.fd())))?;
        self.set_nonblocking(false)
    }

    /// A new stream socket that listens on `address`. It is non-blocking: `accept4` has no flag for it.
    pub(crate) fn listen(address: &SockAddr, backlog: c_int) -> io::Result<Self> {
        let domain = Domain::from(c_int::from(address.family()));
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        if domain != Domain::UNIX {
            // A restarted server gets its port back while old connections linger.
            socket.set_reuse_address(true)?;
        }
        socket.bind(address)?;
        socket.listen(backlog)?;
        Ok(Self::new(socket))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(crate) fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        let argument: c_int = nonblocking.into();
        // SAFETY: FIONBIO reads one int, which lives through the call.
        native(op::check(unsafe {
            sys::ioctl_raw(self.fd(), libc::FIONBIO as usize, &raw const argument as usize)
        }))?;
        if nonblocking {
            reactor::manner::changed();
        }
        Ok(())
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Write {
            // Release: whoever is woken by the shutdown sees it.
            self.shut_down.store(true, Ordering::Release);
        }
        self.socket().shutdown(how)
    }

    pub(crate) fn recv(&self, buffer: &mut [u8], flags: c_int) -> io::Result<usize> {
        let raw = (buffer.as_mut_ptr().cast(), buffer.len());
        let patience = || Ok(self.read_limit.of_this_call());
        // SAFETY: the kernel writes to at most the length of the buffer, which is borrowed through the call.
        native(unsafe { op::recvfrom(self.fd(), raw, flags, (ptr::null_mut(), ptr::null_mut()), patience) })
    }

    pub(crate) fn recv_from(&self, buffer: &mut [u8], flags: c_int) -> io::Result<(usize, SockAddr)> {
        let raw = (buffer.as_mut_ptr().cast(), buffer.len());
        let patience = || Ok(self.read_limit.of_this_call());
        // SAFETY: the buffer as in `recv`; the address storage is as long as `length` says, and the kernel fills in
        // what it sets the length to.
        unsafe {
            SockAddr::try_init(|storage, length| {
                native(op::recvfrom(self.fd(), raw, flags, (storage.cast(), length), patience))
            })
        }
    }

    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let raw = (buffer.as_ptr().cast(), buffer.len());
        let patience = || Ok(self.write_limit.of_this_call());
        // SAFETY: the kernel reads at most the length of the buffer, which is borrowed through the call.
        native(unsafe { op::sendto(self.fd(), raw, libc::MSG_NOSIGNAL, (ptr::null(), 0), patience) })
    }

    pub(crate) fn send_to(&self, buffer: &[u8], address: &SockAddr) -> io::Result<usize> {
        let raw = (buffer.as_ptr().cast(), buffer.len());
        let raw_address = (address.as_ptr().cast(), address.len());
        let patience = || Ok(self.write_limit.of_this_call());
        // SAFETY: as in `send`; the address lives through the call and its length is its own.
        native(unsafe { op::sendto(self.fd(), raw, libc::MSG_NOSIGNAL, raw_address, patience) })
    }

    pub(crate) fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = buffers.len().min(MAX_BUFFERS);
        let mut message = op::plain_message(buffers.as_mut_ptr().cast::<iovec>(), count);
        let patience = || Ok(self.read_limit.of_this_call());
        // SAFETY: an IoSliceMut is laid out as an iovec, and the buffers are borrowed through the call.
        native(unsafe { op::recvmsg(self.fd(), &raw mut message, 0, patience) })
    }

    pub(crate) fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = buffers.len().min(MAX_BUFFERS);
        let message = op::plain_message(buffers.as_ptr().cast::<iovec>().cast_mut(), count);
        let patience = || Ok(self.write_limit.of_this_call());
        // SAFETY: an IoSlice is laid out as an iovec, the kernel only reads, the buffers are borrowed through the call.
        native(unsafe { op::sendmsg(self.fd(), &raw const message, libc::MSG_NOSIGNAL, patience) })
    }

    /// Accepts a connection on a non-blocking listener.
    pub(crate) fn accept(&self) -> io::Result<(Self, SockAddr)> {
        let patience = || Ok(self.read_limit.of_this_call());
        // SAFETY: the address storage is as long as `length` says, and the kernel fills in what it sets the length to;
        // the descriptor it returns is new and owned by nobody else.
        let (fd, address) = unsafe {
            SockAddr::try_init(|storage, length| {
                let accepted = op::accept(self.fd(), patience, || {
                    match sys::accept4_raw(self.fd(), storage.cast(), length, libc::SOCK_CLOEXEC) {
                        empty
                            if empty == -(libc::EAGAIN as isize)
                                && self.shut_down.load(Ordering::Acquire) =>
                        {
                            -(libc::EINVAL as isize)
                        }
                        result => result,
                    }
                });
                native(accepted)
            })?
        };
        // SAFETY: as above.
        let socket = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd as RawFd) };
        Ok((Self::new(socket), address))
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Before the descriptor is closed, after which its number may be somebody else's.
        reactor::closing(self.fd());
    }
}

/// The outcome as the native API reports it. Unwinds a cancelled fiber that was told before ([`crate::Cancelled`]).
pub(crate) fn native<T>(outcome: Result<T, Stop>) -> io::Result<T> {
    outcome.map_err(io::Error::from)
}
