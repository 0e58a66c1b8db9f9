//! Waiting for signals: `SIGTERM` as an event like any other.
//!
//! A handler that only takes notes is installed for a signal while somebody listens for it. Its default effect (the
//! end of the process, mostly) is off for that time; a handler that was installed before is called after ours. What
//! was in force comes back with the last listener's end (a program that must not be ended by a late `SIGTERM` keeps one).
//!
//! A signal that comes again before it was received counts once, as the kernel itself has it. The handler runs on any
//! thread that does not block the signal: a program that blocks it in all of its threads (`pthread_sigmask`) hears
//! nothing here. Child processes that [`std::process`] or [`crate::process`] start inherit neither handler nor mask.
//!
//! ```
//! use fiber_runtime::signal::{Signal, Signals};
//!
//! # let runtime = fiber_runtime::Runtime::builder().workers(1).build()?;
//! # runtime.block_on(|| {
//! let signals = Signals::new([Signal::TERMINATE, Signal::INTERRUPT])?;
//! Signal::TERMINATE.raise()?;
//! assert_eq!(signals.wait()?, Signal::TERMINATE);
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::io;
use std::time::Instant;

use libc::c_int;

use crate::net::{native, op};
use crate::reactor::Interest;
use crate::sys;
use crate::sys::signals::{MAX_SIGNAL, Post};

/// The number of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(c_int);

impl Signal {
    /// `SIGHUP`: the terminal has gone; to servers: read your configuration again.
    pub const HANGUP: Signal = Signal(libc::SIGHUP);
    /// `SIGINT`: control-C.
    pub const INTERRUPT: Signal = Signal(libc::SIGINT);
    /// `SIGQUIT`: control-backslash.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// `SIGUSR1`.
    pub const USER1: Signal = Signal(libc::SIGUSR1);
    /// `SIGUSR2`.
    pub const USER2: Signal = Signal(libc::SIGUSR2);
    /// `SIGALRM`.
    pub const ALARM: Signal = Signal(libc::SIGALRM);
    /// `SIGTERM`: please end.
    pub const TERMINATE: Signal = Signal(libc::SIGTERM);
    /// `SIGCHLD`: a child process has ended or stopped.
    pub const CHILD: Signal = Signal(libc::SIGCHLD);
    /// `SIGPIPE`: a pipe or socket has no reader.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);
    /// `SIGWINCH`: the terminal's size has changed.
    pub const WINDOW: Signal = Signal(libc::SIGWINCH);
    /// `SIGKILL`, which can be sent and not waited for.
    pub const KILL: Signal = Signal(libc::SIGKILL);

    /// The signal of this number.
    ///
    /// # Errors
    /// `ErrorKind::InvalidInput` if there is none.
    pub fn from_raw(number: i32) -> io::Result<Signal> {
        if !(1..=MAX_SIGNAL).contains(&number) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("signals are numbered from 1 to {MAX_SIGNAL}, not {number}"),
            ));
        }
        Ok(Signal(number))
    }

    /// The signal's number.
    pub fn as_raw(self) -> i32 {
        self.0
    }

    /// Sends the signal to this process, by way of the calling thread: unless that blocks it, its effect has happened when
    /// this returns.
    ///
    /// # Errors
    /// The kernel's, which a process has no cause for when it sends to itself.
    pub fn raise(self) -> io::Result<()> {
        sys::signals::raise(self.0)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Signal::HANGUP => "SIGHUP",
            Signal::INTERRUPT => "SIGINT",
            Signal::QUIT => "SIGQUIT",
            Signal::USER1 => "SIGUSR1",
            Signal::USER2 => "SIGUSR2",
            Signal::ALARM => "SIGALRM",
            Signal::TERMINATE => "SIGTERM",
            Signal::CHILD => "SIGCHLD",
            Signal::PIPE => "SIGPIPE",
            Signal::WINDOW => "SIGWINCH",
            Signal::KILL => "SIGKILL",
            Signal(number) => return write!(f, "signal {number}"),
        };
        f.write_str(name)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A listener for some signals. Any number of listeners may want the same signal; each hears of it.
pub struct Signals {
    post: &'static Post,
}

impl Signals {
    /// Listens for `signals` from now on.
    ///
    /// # Errors
    /// `ErrorKind::InvalidInput` for those that cannot be listened for (`SIGKILL`, `SIGSTOP`) and those that report a
    /// fault of the very instruction they interrupt (`SIGSEGV`, `SIGBUS`, `SIGFPE`, `SIGILL`); the process has too many
    /// descriptors open.
    pub fn new(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let signals: Vec<c_int> = signals.into_iter().map(|signal| signal.0).collect();
        for &signal in &signals {
            if matches!(
                signal,
                libc::SIGKILL | libc::SIGSTOP | libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL
            ) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{} cannot be waited for", Signal(signal)),
                ));
            }
        }
        Ok(Self { post: Post::open(&signals)? })
    }

    /// Waits for one of the signals: the fiber parks, a plain thread blocks. Those with lower numbers come first.
    ///
    /// # Errors
    /// None but that of a cancelled fiber.
    pub fn wait(&self) -> io::Result<Signal> {
        self.wait_until(None)
    }

    /// As [`Signals::wait`], until `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// `ErrorKind::TimedOut` at the deadline.
    pub fn wait_until(&self, deadline: Option<Instant>) -> io::Result<Signal> {
        loop {
            if let Some(signal) = self.try_wait() {
                return Ok(signal);
            }
            native(op::until_ready(self.post.fd(), Interest::Read, deadline))?;
        }
    }

    /// One of the signals, if one has come.
    pub fn try_wait(&self) -> Option<Signal> {
        // First the eventfd, then the notes: what comes in between is in the notes, and rings again for nothing.
        let _ = sys::read(self.post.fd(), &mut [0; 8]);
        let pending = self.post.take();
        if pending == 0 {
            return None;
        }
        let number = pending.trailing_zeros();
        let rest = pending & !(1 << number);
        if rest != 0 {
            self.post.put_back(rest);
        }
        Some(Signal(number as c_int + 1))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        crate::reactor::closing(self.post.fd());
        self.post.close();
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}
