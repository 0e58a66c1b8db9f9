//! What a short receive says: the socket is empty, so the next receive may wait without asking the kernel first.
//!
//! A receive that finds nothing costs a system call to learn what the one before it has shown already. When a receive
//! from a TCP socket returns fewer bytes than it had room for, the socket's queue was empty at some moment *during*
//! that call. The flag set here remembers it, and the next receive goes straight to the wait.
//!
//! # Why nothing is lost
//! The flag is set only for a descriptor that is registered with this worker's epoll for reading, edge-triggered, so
//! every arrival after that moment puts the registration on the kernel's list. All of this happens on one thread:
//!
//! ```text
//!   receive returns short          the queue was empty at a moment t within the call
//!   flag = true                    no events are taken between the two lines: the fiber does not give way here
//!     ...                          bytes that arrive after t: on the kernel's list from then on
//!   events are taken               the edge clears the flag, and wakes the waiters or is remembered
//!   next receive, flag set         no edge since t: no byte since t. Waits, and the next edge ends the wait
//! ```
//! - An edge taken *before* the receive may have been for bytes that it took: it clears a flag that is set again after.
//! - Another fiber of this worker that reads the same socket and leaves bytes was woken by an edge, which cleared the
//!   flag; one on another worker has flags and edges of its own, and can only take bytes away.
//! - The end of the stream and errors make one edge. It may have been taken together with that of the last bytes, before
//!   they were received; so an event that says so (`EPOLLRDHUP`, `EPOLLHUP`, `EPOLLERR`) switches this off for the
//!   socket for good. One that is not taken yet will end the wait.
//! - A receive stops short at urgent data although more follows. Its event says `EPOLLPRI`, and counts the same.
//!
//! Only plain TCP qualifies. A Unix stream also stops where file descriptors were attached to the bytes, a datagram socket after
//! each datagram, kernel TLS between records (the hook of `setsockopt` notes that one is made; code that installs it past
//! libc must not read such a socket through this crate's types).
//!
//! Deadlines: a wait that ends by its deadline is followed by one try, so that bytes whose edge has not been taken yet
//! are received as they always were.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;

use super::poller::Source;
use crate::scheduler::worker::Worker;
use crate::sys;

/// Receives with these do not take bytes off the front of the stream, or do not tell how many there were.
const OTHER: c_int = libc::MSG_PEEK | libc::MSG_OOB | libc::MSG_ERRQUEUE | libc::MSG_TRUNC;

/// Whether some socket of the process has been given an upper layer protocol (kernel TLS).
static LAYERED: AtomicBool = AtomicBool::new(false);

/// What a worker knows of how a descriptor's bytes end. Part of its [`Source`], and forgotten with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tide {
    /// Not asked yet what it is.
    #[default]
    Unknown,
    /// A TCP socket that may have bytes.
    Open,
    /// A TCP socket that was empty, with no edge since.
    Drained,
    /// Not a TCP socket, or one whose end, error or urgent data has been seen: always tried.
    Unfit,
}

impl Tide {
    /// An edge for reading; `last` if it may be the last one.
    pub(super) fn edge(&mut self, last: bool) {
        match self {
            _ if last => *self = Tide::Unfit,
            Tide::Drained => *self = Tide::Open,
            Tide::Unknown | Tide::Open | Tide::Unfit => {}
        }
    }
}

/// Some socket of the process gets an upper layer protocol: from now on no receive is skipped.
#[cfg(feature = "hook")]
pub(crate) fn layered() {
    // Relaxed: whoever installs it on one thread and reads on another has ordered the two.
    LAYERED.store(true, Ordering::Relaxed);
}

/// Whether a receive from `fd` by the calling fiber would find nothing, as far as its worker knows.
#[inline]
pub(crate) fn is_drained(fd: RawFd, flags: c_int) -> bool {
    flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) == 0
        && with_source(fd, |source| source.tide == Tide::Drained) == Some(true)
        && !LAYERED.load(Ordering::Relaxed)
}

/// The calling fiber has just received `count` bytes, not none, of up to `room` from `fd`. Comes before anything that may take
/// events.
#[inline]
pub(crate) fn received(fd: RawFd, flags: c_int, count: usize, room: usize) {
    if count >= room || flags & OTHER != 0 {
        return;
    }
    with_source(fd, |source| match source.tide {
        Tide::Open => source.tide = Tide::Drained,
        Tide::Unknown => source.tide = if is_tcp(fd) { Tide::Drained } else { Tide::Unfit },
        Tide::Drained | Tide::Unfit => {}
    });
}

/// Calls `body` with what the calling fiber's worker knows of `fd`, if the descriptor is registered there for reading.
#[inline]
fn with_source<T>(fd: RawFd, body: impl FnOnce(&mut Source) -> T) -> Option<T> {
    Worker::with_current_fiber(|worker, _| worker.with_readable_source(fd, body)).flatten()
}

fn is_tcp(fd: RawFd) -> bool {
    sys::socket_option(fd, libc::SO_PROTOCOL).is_ok_and(|protocol| protocol == libc::IPPROTO_TCP)
}
