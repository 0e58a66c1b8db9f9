//! `read`, `write` and their vectored forms of a fiber: on sockets the calls of [`super::socket`], and on what can be
//! waited for but has no flags word in its calls (pipes, and files without a name: eventfd, timerfd, inotify, ...)
//! `preadv2` and `pwritev2` with `RWF_NOWAIT`. One system call if the operation is ready.
//!
//! What kind of file a descriptor is comes from [`Kind`], which may be wrong about one that was closed past the hooks.
//! Then a socket's call says `ENOTSOCK` and the kernel is asked; and the calls for streams do what is asked of sockets
//! and files, too, except that a read of a file may be short where not all of it is in memory.

use std::os::fd::RawFd;
use std::ptr;

use libc::{c_int, c_void, iovec};

use super::kind::Kind;
use super::socket;
use super::vectors::{self, MOST, Window};
use crate::net::op::{self, Stop};
use crate::reactor::{Interest, manner};
use crate::sys;

/// The kernel takes no more buffers than this in one call (`UIO_MAXIOV`); it refuses more, and so shall it.
const MAX_BUFFERS: usize = 1024;

/// A pipe with any room has room for this much (`PIPE_BUF`), and takes it in one piece.
const PIPE_ROOM: usize = 4096;

/// Standard input, output and error stay plain: `println!` holds a lock that knows its owner by thread, and a fiber that
/// switched inside would let the next one in.
pub(super) fn is_candidate(fd: RawFd) -> bool {
    fd > 2
}

/// As [`is_candidate`], for as many buffers as the kernel takes.
pub(super) fn is_suitable_count(fd: RawFd, count: usize) -> bool {
    is_candidate(fd) && (1..=MAX_BUFFERS).contains(&count)
}

/// As [`is_candidate`], for a length that the kernel takes. No bytes are never waited for, but may be a datagram.
pub(super) fn is_suitable_length(fd: RawFd, length: usize) -> bool {
    is_candidate(fd) && isize::try_from(length).is_ok()
}

/// # Safety
/// As for libc's `read`.
pub(super) unsafe fn read(fd: RawFd, (buffer, length): (*mut c_void, usize)) -> Result<usize, Stop> {
    let mut kind = Kind::of(fd)?;
    if kind == Kind::Socket {
        // SAFETY: the caller's promise.
        match unsafe { socket::recvfrom(fd, (buffer, length), 0, (ptr::null_mut(), ptr::null_mut())) } {
            Err(Stop::Errno(libc::ENOTSOCK)) => kind = Kind::ask(fd)?,
            outcome => return outcome,
        }
    }
    // SAFETY: the caller's promise.
    let plain = || unsafe { sys::read_raw(fd, buffer, length) };
    if kind == Kind::Plain {
        return op::check(plain());
    }
    let vector = iovec { iov_base: buffer, iov_len: length };
    let knows = !matches!(kind, Kind::Stream { coarse_read: true, .. });
    // SAFETY: the caller's promise, written down as one vector.
    read_stream(fd, knows, || unsafe { read_now(fd, (&raw const vector, 1)) }, plain)
}

/// # Safety
/// As for libc's `readv`.
pub(super) unsafe fn readv(fd: RawFd, buffers: (*const iovec, usize)) -> Result<usize, Stop> {
    // SAFETY: the caller's promise.
    let plain = || unsafe { sys::readv_raw(fd, buffers.0, buffers.1 as c_int) };
    // SAFETY: the caller's promise.
    let now = || unsafe { read_now(fd, buffers) };
    match Kind::of(fd)? {
        Kind::Plain => op::check(plain()),
        // SAFETY: the caller's promise.
        Kind::Socket => match unsafe { socket::readv(fd, buffers, now) } {
            // A kernel whose sockets do not know `RWF_NOWAIT` (before 6.5).
            Err(Stop::Errno(libc::EOPNOTSUPP)) => {
                // SAFETY: the caller's promise; the kernel has looked at them.
                if vectors::total(unsafe { vectors::buffers(buffers) }) == 0 {
                    // Which a message would wait for.
                    return Ok(0);
                }
                let mut message = op::plain_message(buffers.0.cast_mut(), buffers.1);
                // SAFETY: the caller's promise.
                unsafe { socket::recvmsg(fd, &raw mut message, 0) }
            }
            outcome => outcome,
        },
        // Tried even if it is known not to know: it is the kernel that has to look at the vectors first.
        Kind::Stream { .. } => read_stream(fd, true, now, plain),
    }
}

/// # Safety
/// As for libc's `write`.
pub(super) unsafe fn write(fd: RawFd, (buffer, length): (*const c_void, usize)) -> Result<usize, Stop> {
    let mut kind = Kind::of(fd)?;
    if kind == Kind::Socket {
        // SAFETY: the caller's promise.
        match unsafe { socket::sendto(fd, (buffer, length), 0, (ptr::null(), 0)) } {
            Err(Stop::Errno(libc::ENOTSOCK)) => kind = Kind::ask(fd)?,
            outcome => return outcome,
        }
    }
    // A stream does not wait for room for nothing, and not all of them take it for a success.
    if kind == Kind::Plain || length == 0 {
        // SAFETY: the caller's promise.
        return op::check(unsafe { sys::write_raw(fd, buffer, length) });
    }
    let vector = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    let knows = !matches!(kind, Kind::Stream { coarse_write: true, .. });
    // SAFETY: the caller's promise, written down as one vector.
    unsafe { write_stream(fd, knows, (&raw const vector, 1)) }
}

/// # Safety
/// As for libc's `writev`.
pub(super) unsafe fn writev(fd: RawFd, buffers: (*const iovec, usize)) -> Result<usize, Stop> {
    match Kind::of(fd)? {
        // SAFETY: the caller's promise.
        Kind::Plain => return op::check(unsafe { sys::writev_raw(fd, buffers.0, buffers.1 as c_int) }),
        Kind::Socket => {
            // SAFETY: the caller's promise.
            match unsafe { socket::writev(fd, buffers, || write_now(fd, buffers)) } {
                // As in `readv`; and nothing in several buffers is not a datagram, unlike nothing in one.
                Err(Stop::Errno(libc::EOPNOTSUPP)) => {
                    // SAFETY: the caller's promise; the kernel has looked at them.
                    if vectors::total(unsafe { vectors::buffers(buffers) }) == 0 {
                        return Ok(0);
                    }
                    let message = op::plain_message(buffers.0.cast_mut(), buffers.1);
                    // SAFETY: the caller's promise.
                    return unsafe { socket::sendmsg(fd, &raw const message, 0) };
                }
                outcome => return outcome,
            }
        }
        Kind::Stream { .. } => {}
    }
    // SAFETY: the caller's promise. As in `readv`, the kernel looks at the vectors first.
    unsafe { write_stream(fd, true, buffers) }
}

/// Reads by `now`, or by `plain` where the file does not know how to read without waiting.
fn read_stream(
    fd: RawFd,
    knows: bool,
    now: impl Fn() -> isize,
    plain: impl Fn() -> isize,
) -> Result<usize, Stop> {
    if knows {
        match op::drive(fd, Interest::Read, patience(fd, Interest::Read), now) {
            Err(Stop::Errno(libc::EOPNOTSUPP)) => Kind::found_coarse(fd, Interest::Read),
            Err(Stop::Errno(libc::EPERM)) => return op::check(plain()),
            outcome => return outcome,
        }
    }
    when_ready(fd, Interest::Read, plain)
}

/// Writes until everything is written, as a blocking pipe does. What it has room for goes in one call, so that what a
/// pipe takes in one piece (up to `PIPE_BUF` bytes) stays in one piece.
///
/// # Safety
/// As for libc's `writev`. If the file does not `know` how to write without waiting, the vectors can be read.
unsafe fn write_stream(fd: RawFd, mut knows: bool, whole: (*const iovec, usize)) -> Result<usize, Stop> {
    let mut written = 0;
    loop {
        let rest;
        let part = if written == 0 {
            whole
        } else {
            // SAFETY: the caller's promise; the kernel has accepted the buffers.
            rest = Window::after(written, unsafe { vectors::buffers(whole) }, MOST - written);
            rest.as_raw()
        };
        let (asked, outcome) = if knows {
            // SAFETY: the caller's promise, for the part that is not written yet.
            (
                0,
                op::drive(fd, Interest::Write, patience(fd, Interest::Write), || unsafe {
                    write_now(fd, part)
                }),
            )
        } else {
            // SAFETY: the caller's promise, or the kernel has accepted them when it was asked before.
            unsafe { write_piece(fd, part) }
        };
        match outcome {
            Err(Stop::Errno(libc::EOPNOTSUPP)) if knows => {
                Kind::found_coarse(fd, Interest::Write);
                knows = false;
                continue;
            }
            // Less than there was room for is all that this file takes.
            Ok(count) if count == 0 || count < asked => return Ok(written + count),
            Ok(count) => written += count,
            Err(_) if written > 0 => return Ok(written),
            Err(stop) => return Err(stop),
        }
        // SAFETY: the kernel has accepted the buffers.
        if written >= vectors::total(unsafe { vectors::buffers(whole) }) {
            return Ok(written);
        }
    }
}

/// Writes as much as a pipe that is ready has room for, plainly. Returns how much that is, and what became of it.
///
/// # Safety
/// As for libc's `writev`, and the vectors can be read.
unsafe fn write_piece(fd: RawFd, part: (*const iovec, usize)) -> (usize, Result<usize, Stop>) {
    // SAFETY: the caller's promise.
    let buffers = unsafe { vectors::buffers(part) };
    let piece = Window::after(0, buffers, PIPE_ROOM);
    // In pieces only where it would block otherwise.
    let fits = vectors::total(buffers) <= PIPE_ROOM || socket::must_block(fd).is_err();
    let (vectors, count) = if fits { part } else { piece.as_raw() };
    // SAFETY: the caller's promise, or the window has written them.
    let asked = vectors::total(unsafe { vectors::buffers((vectors, count)) });
    let plain = || {
        // SAFETY: the caller's promise.
        if unsafe { is_too_much(fd, buffers) } {
            return -(libc::EAGAIN as isize);
        }
        // SAFETY: the caller's promise, for a part of the buffers.
        unsafe { sys::writev_raw(fd, vectors, count as c_int) }
    };
    (asked, when_ready(fd, Interest::Write, plain))
}

/// Whether the buffers are a number for which a counter (eventfd) has no room. It says that it is ready when it has room
/// for a one, and then blocks whoever adds more. Only numbers that no program counts up to are looked at so closely:
/// what a counter has in it is asked of `/proc`.
///
/// # Safety
/// The buffers can be read.
#[cold]
unsafe fn is_too_much(fd: RawFd, buffers: &[iovec]) -> bool {
    const PREFIX: &str = "eventfd-count:";

    let [buffer] = buffers else { return false };
    if buffer.iov_len != size_of::<u64>() || buffer.iov_base.is_null() {
        return false;
    }
    // SAFETY: the buffer has eight bytes.
    let number = unsafe { buffer.iov_base.cast::<u64>().read_unaligned() };
    if number <= u64::from(u32::MAX) || number == u64::MAX {
        return false;
    }
    let state = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let count = state.lines().find_map(|line| line.strip_prefix(PREFIX));
    let count = count.and_then(|count| u64::from_str_radix(count.trim(), 16).ok());
    count.is_some_and(|count| u64::MAX - count <= number)
}

/// Makes a `plain` call once the file says that it is ready. Two fibers or threads that read one such file may both hear
/// so, and the second block: which is why this is for files that know no other way.
fn when_ready(fd: RawFd, interest: Interest, plain: impl Fn() -> isize) -> Result<usize, Stop> {
    let events = match interest {
        Interest::Read => libc::POLLIN,
        Interest::Write => libc::POLLOUT,
    };
    let outcome = op::drive(fd, interest, patience(fd, interest), || match op::is_ready(fd, events) {
        Ok(false) => -(libc::EAGAIN as isize),
        Ok(true) | Err(_) => plain(),
    });
    match outcome {
        // The reactor does not take it: epoll knows nothing of this kind of file.
        Err(Stop::Errno(libc::EPERM)) => op::check(plain()),
        outcome => outcome,
    }
}

/// For ever, unless the user set `O_NONBLOCK`.
fn patience(fd: RawFd, interest: Interest) -> impl op::Patience {
    move || manner::timeout(fd, interest, || socket::must_block(fd).map(|()| None)).map(|_| None)
}

/// `preadv2` without waiting. The offset -1 is "where it stands", in both of its halves.
///
/// # Safety
/// As for libc's `readv`.
unsafe fn read_now(fd: RawFd, buffers: (*const iovec, usize)) -> isize {
    // SAFETY: the caller's promise.
    unsafe { call_now(libc::SYS_preadv2, fd, buffers) }
}

/// As [`read_now`], for writing.
///
/// # Safety
/// As for libc's `writev`.
unsafe fn write_now(fd: RawFd, buffers: (*const iovec, usize)) -> isize {
    // SAFETY: the caller's promise.
    unsafe { call_now(libc::SYS_pwritev2, fd, buffers) }
}

/// # Safety
/// As for the system call of that number, which is one of the two above.
unsafe fn call_now(number: libc::c_long, fd: RawFd, (vectors, count): (*const iovec, usize)) -> isize {
    let (fd, everywhere, flags) = (fd as usize, usize::MAX, libc::RWF_NOWAIT as usize);
    // SAFETY: the caller's promise.
    let result = unsafe { sys::syscall6(number, fd, vectors as usize, count, everywhere, everywhere, flags) };
    // Emulators and sandboxes lack the call altogether, which is as much as not knowing the flag.
    if result == -(libc::ENOSYS as isize) { -(libc::EOPNOTSUPP as isize) } else { result }
}
