//! Readiness of descriptors: one epoll instance per worker, edge-triggered, each descriptor registered once.
//!
//! An operation is tried first; only when the kernel says "would block" does the fiber come here. The first wait for a
//! direction registers the descriptor with this worker's epoll, later ones cost no system call. Waiters are fibers of
//! this worker, so registration, events and waiting all happen on one thread.
//!
//! An edge that finds no waiter is remembered: the next wait returns at once and the caller tries again. So the order
//! of "try", "wait" and "edge" does not matter.
//!
//! - [`table`]: the process-wide generations by which a closed and reused descriptor number is told from the old one.
//! - [`poller`]: the worker's own part; [`drained`]: which receives need not be tried; [`manner`]: whether and how long
//!   calls on a descriptor wait.
//! - [`gathered`]: several descriptors at once.

pub(crate) mod drained;
pub(crate) mod gathered;
#[cfg_attr(
    not(feature = "hook"),
    allow(dead_code, reason = "hooks only heed O_NONBLOCK and socket timeouts")
)]
pub(crate) mod manner;
pub(crate) mod poller;
pub(crate) mod table;

use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use crate::scheduler::port::{Control, Port};
use crate::scheduler::worker::Worker;

/// What a fiber waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, a connection, end of stream, or an error to collect.
    Read,
    /// Room, the end of a connect, or an error to collect.
    Write,
}

/// Waits until `fd` may be ready for `interest`. The caller tries its operation again and comes back if it still would
/// block. Called in a fiber.
///
/// # Errors
/// - `TimedOut` when `deadline` passes first.
/// - `ECANCELED` when the descriptor is being closed ([`closing`]) or the fiber was cancelled.
/// - `Unsupported` outside a fiber and in a simulation, which has no descriptors.
/// - What `epoll_ctl` says: `EPERM` for files that are always ready, `EBADF`.
pub(crate) fn wait(fd: RawFd, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
    Worker::with_current_fiber(|worker, fiber| worker.wait_for_descriptor(fiber, fd, interest, deadline))
        .unwrap_or_else(|| {
            Err(io::Error::new(io::ErrorKind::Unsupported, "a readiness wait outside a fiber"))
        })
}

/// Lets the next wait for `fd` to become readable return at once, if the calling fiber's worker watches it.
#[cold]
pub(crate) fn remember_edge(fd: RawFd) {
    Worker::with_current_fiber(|worker, _| worker.with_readable_source(fd, poller::Source::remember_edge));
}

/// Says that `fd` is about to be closed: fibers that wait for it, on any worker, end with `ECANCELED`, and the number
/// registers anew when it is used again. Called before `close`, from any thread.
pub(crate) fn closing(fd: RawFd) {
    let Some(entry) = table::existing(fd) else {
        return;
    };
    let mask = entry.retire();
    if mask == 0 {
        return;
    }
    let own = Worker::with_current(|worker| {
        if mask & worker.port().mask_bit() != 0 {
            worker.close_descriptor(fd);
        }
        worker.port()
    });
    Port::for_each_in_mask(mask, |port| {
        if !own.is_some_and(|own| std::ptr::eq(own, port)) {
            port.send(Control::Closing(fd));
        }
    });
}

#[cfg(test)]
mod tests;
