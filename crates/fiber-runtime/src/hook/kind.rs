//! What kind of file a descriptor is, as far as `read` and `write` are concerned: asked of the kernel once a descriptor,
//! so that an operation that is ready costs the one system call that does it.
//!
//! The note is kept with the descriptor's generation ([`crate::reactor::table`]), which every hooked `close` and `dup2`
//! counts up. What is closed past the hooks (by `fclose`, or a system call of somebody's own) leaves its note behind, so
//! a note is a hint about *how to try* and never a reason to block: [`super::anonymous`] says what a wrong one costs.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use crate::net::op::{self, Stop};
use crate::reactor::{Interest, table};
use crate::sys;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its calls take `MSG_DONTWAIT`.
    Socket,
    /// A pipe, or a file without a name or type (eventfd, timerfd, inotify, ...): it can be waited for. Whether reading
    /// or writing it knows `RWF_NOWAIT` is found out by trying.
    Stream {
        /// Reading does not.
        coarse_read: bool,
        /// Writing does not.
        coarse_write: bool,
    },
    /// A regular file, a directory, a device: cannot be waited for. Never noted, because the plain call that it calls
    /// for would block the worker if the descriptor had become something else.
    Plain,
}

const SOCKET: u32 = 1;
const STREAM: u32 = 2;
const COARSE_READ: u32 = 4;
const COARSE_WRITE: u32 = 8;

impl Kind {
    /// As noted, or else as the kernel says.
    #[inline]
    pub(super) fn of(fd: RawFd) -> Result<Kind, Stop> {
        if let Some(entry) = table::existing(fd) {
            let note = entry.note(entry.generation());
            if note & SOCKET != 0 {
                return Ok(Kind::Socket);
            }
            if note & STREAM != 0 {
                return Ok(Kind::Stream {
                    coarse_read: note & COARSE_READ != 0,
                    coarse_write: note & COARSE_WRITE != 0,
                });
            }
        }
        Kind::ask(fd)
    }

    /// As the kernel says. Notes it.
    #[cold]
    pub(super) fn ask(fd: RawFd) -> Result<Kind, Stop> {
        // Before the question: an answer that is older than the generation must not be noted under it.
        let generation = table::existing(fd).map(table::Entry::generation);
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the kernel fills in a stat, whose layout libc's is.
        op::check(unsafe {
            sys::syscall6(libc::SYS_fstat, fd as usize, ptr::from_mut(&mut status) as usize, 0, 0, 0, 0)
        })?;
        // SAFETY: the call succeeded, so the status is filled in.
        let kind = match unsafe { status.assume_init() }.st_mode & libc::S_IFMT {
            libc::S_IFSOCK => Kind::Socket,
            libc::S_IFIFO | 0 => Kind::Stream { coarse_read: false, coarse_write: false },
            _ => Kind::Plain,
        };
        let note = match kind {
            Kind::Socket => SOCKET,
            Kind::Stream { .. } => STREAM,
            Kind::Plain => return Ok(kind),
        };
        // A number that has no entry yet gets one now, and its note at the next question.
        if let (Some(entry), Some(generation)) = (table::entry(fd), generation) {
            entry.set_note(generation, note);
        }
        Ok(kind)
    }

    /// Notes that reading the file, or writing it, does not know `RWF_NOWAIT`.
    #[cold]
    pub(super) fn found_coarse(fd: RawFd, interest: Interest) {
        let Some(entry) = table::existing(fd) else { return };
        let generation = entry.generation();
        let note = entry.note(generation);
        if note & STREAM != 0 {
            let bit = match interest {
                Interest::Read => COARSE_READ,
                Interest::Write => COARSE_WRITE,
            };
            entry.set_note(generation, note | bit);
        }
    }
}
