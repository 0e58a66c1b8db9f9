//! A server's accept loop: each connection becomes a fiber on the worker that has least to do.
//!
//! A fiber stays on its worker for life, and so does a connection; what is left to decide is where it begins. One fiber
//! accepts, and hands each connection to the least loaded worker ([`crate::FiberBuilder::balanced`]). That shares
//! long-lived connections evenly, where `SO_REUSEPORT` would share them by a hash of their addresses.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{TcpListener, TcpStream, UnixListener, UnixStream};
use crate::sync::Semaphore;
use crate::{Cancelled, FiberBuilder, time};

/// Connections that an [`Acceptor`] serves at the same time unless told otherwise.
const DEFAULT_MAX_CONNECTIONS: usize = 100_000;

/// The first pause when the system has no more to give; each that follows without a success is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause: how late a shortage's end is noticed at worst.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What can be accepted from: [`TcpListener`] and [`UnixListener`].
pub trait Listener: sealed::Listener {}

impl Listener for TcpListener {}
impl Listener for UnixListener {}

mod sealed {
    /// The part of [`super::Listener`] that is nobody else's.
    pub trait Listener {
        /// What a handler gets.
        type Connection: Send + 'static;

        /// Waits for a connection.
        ///
        /// # Errors
        /// As the listener's own `accept`.
        fn next(&self) -> std::io::Result<Self::Connection>;
    }
}

impl sealed::Listener for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    fn next(&self) -> io::Result<Self::Connection> {
        self.accept()
    }
}

impl sealed::Listener for UnixListener {
    type Connection = UnixStream;

    fn next(&self) -> io::Result<Self::Connection> {
        self.accept()
    }
}

/// Accepts connections and serves each on a fiber of its own, balanced over the workers.
///
/// ```
/// use std::io::{Read, Write};
/// use fiber_runtime::net::{Acceptor, TcpListener, TcpStream};
/// use fiber_runtime::spawn;
///
/// # let runtime = fiber_runtime::Runtime::builder().workers(2).build()?;
/// # runtime.block_on(|| {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let acceptor = Acceptor::new(listener.try_clone()?).name("greeter").max_connections(1000);
/// let server = spawn(move || acceptor.serve(|(mut stream, _)| drop(stream.write_all(b"hello"))));
///
/// let mut text = String::new();
/// TcpStream::connect(address)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// listener.shutdown()?;
/// server.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "an acceptor does nothing until `serve`"]
pub struct Acceptor<L> {
    listener: L,
    name: Cow<'static, str>,
    max_connections: usize,
}

impl<L: Listener> Acceptor<L> {
    /// An acceptor for `listener`.
    pub fn new(listener: L) -> Self {
        Self { listener, name: Cow::Borrowed("connection"), max_connections: DEFAULT_MAX_CONNECTIONS }
    }

    /// The name of the connections' fibers. Default: `connection`.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// How many connections are served at the same time, at least one; further ones wait in the kernel's queue, and are
    /// refused or delayed when that is full. Default: 100,000.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Accepts until the listener is shut down. `handler` runs for each connection, on a fiber of its own; if it panics,
    /// that connection alone ends. Connections that are being served when this returns go on.
    ///
    /// When the process or the system has no more descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`),
    /// accepting pauses, for 5 ms at first and for half a second at most, until it succeeds again. The connections
    /// wait in the kernel's queue meanwhile.
    ///
    /// # Errors
    /// The calling fiber was cancelled, the listener's deadline has passed, or its descriptor was closed behind its back.
    ///
    /// # Panics
    /// Outside a fiber.
    pub fn serve(self, handler: impl Fn(L::Connection) + Send + Sync + 'static) -> io::Result<()> {
        let handler = Arc::new(handler);
        let limit = Arc::new(Semaphore::new(self.max_connections));
        let mut pause = FIRST_PAUSE;
        loop {
            let permit = Semaphore::acquire_owned(&limit);
            match self.listener.next() {
                Ok(connection) => {
                    if pause > FIRST_PAUSE {
                        tracing::info!(name = %self.name, "accepting connections again");
                        pause = FIRST_PAUSE;
                    }
                    let handler = Arc::clone(&handler);
                    let builder = FiberBuilder::new().name(self.name.clone()).balanced();
                    drop(builder.spawn(move || {
                        let _permit = permit;
                        handler(connection);
                    }));
                }
                Err(error) => match Trouble::of(&error) {
                    Trouble::Connection => {}
                    Trouble::Shortage => {
                        if pause == FIRST_PAUSE {
                            tracing::warn!(name = %self.name, %error, "accepting connections pauses");
                        }
                        time::sleep(pause);
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    Trouble::ShutDown => return Ok(()),
                    Trouble::Listener => return Err(error),
                },
            }
        }
    }
}

/// What an error of `accept` is about.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The connection that was to be accepted, or its network; the next one is not to blame.
    Connection,
    /// The process or the system has no more to give at the moment.
    Shortage,
    /// The listener was shut down.
    ShutDown,
    /// Anything else will happen again.
    Listener,
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        if Cancelled::is_in(error) {
            return Trouble::Listener;
        }
        match error.raw_os_error() {
            Some(
                libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ETIMEDOUT,
            ) => Trouble::Connection,
            Some(errno) if super::op::is_shortage(errno) => Trouble::Shortage,
            Some(libc::EINVAL) => Trouble::ShutDown,
            _ => Trouble::Listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_accept_are_told_apart() {
        for (errno, trouble) in [
            (libc::ECONNABORTED, Trouble::Connection),
            (libc::EHOSTUNREACH, Trouble::Connection),
            (libc::EMFILE, Trouble::Shortage),
            (libc::ENFILE, Trouble::Shortage),
            (libc::ENOBUFS, Trouble::Shortage),
            (libc::ENOMEM, Trouble::Shortage),
            (libc::EINVAL, Trouble::ShutDown),
            (libc::EBADF, Trouble::Listener),
            (libc::ECANCELED, Trouble::Listener),
        ] {
            assert_eq!(Trouble::of(&io::Error::from_raw_os_error(errno)), trouble, "errno {errno}");
        }
        assert_eq!(Trouble::of(&Cancelled.into()), Trouble::Listener);
        assert_eq!(Trouble::of(&io::ErrorKind::TimedOut.into()), Trouble::Listener);
    }
}
