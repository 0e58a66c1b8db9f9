//! Sockets for fibers: `std::net`'s types and methods, with a deadline on every wait.
//!
//! An operation tries its system call first (`MSG_DONTWAIT`, so the descriptor itself stays blocking) and only when
//! the kernel has nothing for it parks the fiber in the reactor: one system call for an operation that is ready. A TCP
//! receive is not even tried where the one before it has emptied the socket and nothing has come since, so that a
//! message costs one `recv` and not two; `reactor/drained.rs` has the argument why no byte is lost. (It takes a buffer
//! with room to spare to see that the socket is empty: `read` into a large one, or a `BufReader`.) On a plain thread the
//! same types block the thread, with the same deadlines.
//!
//! A simulation ([`crate::sim`]) has no descriptors: there, an operation that would wait fails with
//! `ErrorKind::Unsupported`.
//!
//! # Deadlines
//! A *timeout* (`set_read_timeout`) gives each call that long; a *deadline* (`set_read_deadline`) is a point in time
//! for all calls until it is changed. The earlier one counts. Either is one deadline for the whole call, however often
//! it has to wait, and ends it with [`std::io::ErrorKind::TimedOut`]. Instants are those of [`crate::time::now`]. The
//! deadline of a scope around the call ([`crate::with_deadline`]) ends it in the same way.
//!
//! # Cancellation
//! A call of a cancelled fiber fails with [`crate::Cancelled`] inside the error, whether or not it would have had to
//! wait; the next one unwinds the fiber.
//!
//! # Options
//! The common ones have methods, those that must be set before connecting or listening on [`TcpSocket`]; every other is
//! reached by `socket2::SockRef::from(&stream)`, because all types here are `AsFd`.
//!
//! # Handles
//! `try_clone` and the halves of [`TcpStream::into_split`] share one descriptor and its limits; it is closed when the
//! last of them drops. A fiber that reads and one that writes may use the same stream at the same time, from different
//! workers.
//!
//! ```
//! use std::io::{Read, Write};
//! use fiber_runtime::net::{TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (mut server, _) = listener.accept()?;
//! client.write_all(b"hello")?;
//! let mut word = [0; 5];
//! server.read_exact(&mut word)?;
//! assert_eq!(&word, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```

pub(crate) mod op;

mod macros;

mod acceptor;
mod addr;
mod connect;
mod datagram;
mod dns;
mod endpoint;
mod tcp;
mod udp;
mod unix;

pub use acceptor::{Acceptor, Listener};
pub use addr::ToSocketAddrs;
pub use connect::ConnectError;
pub use datagram::UnixDatagram;
pub use dns::{lookup, lookup_until};
pub(crate) use endpoint::{Endpoint, MAX_BUFFERS, native};
pub(crate) use macros::{impl_fd, impl_read, impl_read_limit, impl_write, impl_write_limit};
pub use tcp::{ReadHalf, TcpListener, TcpSocket, TcpStream, WriteHalf};
pub use udp::UdpSocket;
pub use unix::{UnixListener, UnixStream};
