//! `read`, `write` and their vectored forms of a fiber: sockets, and what else can be waited for but has no flags word
//! in its calls: pipes, and files without a name (eventfd, timerfd, inotify, ...).

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_int, iovec};

use super::socket;
use crate::net::op::{self, Stop};
use crate::reactor::Interest;
use crate::sys;

/// The kernel takes no more buffers than this in one call (`UIO_MAXIOV`); it refuses more, and so shall it.
const MAX_BUFFERS: usize = 1024;

/// A pipe with any room has room for this much (`PIPE_BUF`).
const PIPE_ROOM: usize = 4096;

/// Standard input, output and error stay plain: `println!` holds a lock that knows its owner by thread, and a fiber that
/// switched inside would let the next one in.
pub(super) fn is_candidate(fd: RawFd) -> bool {
    fd > 2
}

pub(super) fn is_suitable_count(fd: RawFd, count: usize) -> bool {
    is_candidate(fd) && (1..=MAX_BUFFERS).contains(&count)
}

/// # Safety
/// As for libc's `readv`.
pub(super) unsafe fn read(fd: RawFd, (vectors, count): (*const iovec, usize)) -> Result<usize, Stop> {
    let mut message = op::plain_message(vectors.cast_mut(), count);
    // SAFETY: the caller's promise.
    match unsafe { socket::recvmsg(fd, &raw mut message, 0) } {
        Err(Stop::Errno(libc::ENOTSOCK)) => {}
        outcome => return outcome,
    }
    // SAFETY: the caller's promise.
    let plain = || unsafe { sys::readv_raw(fd, vectors, count as c_int) };
    // SAFETY: the caller's promise. The offset -1 is "where it stands", in both of its halves.
    let without_waiting = || unsafe {
        sys::syscall6(
            libc::SYS_preadv2,
            fd as usize,
            vectors as usize,
            count,
            usize::MAX,
            usize::MAX,
            libc::RWF_NOWAIT as usize,
        )
    };
    without_blocking(fd, Interest::Read, without_waiting, plain)
}

/// # Safety
/// As for libc's `writev`.
pub(super) unsafe fn write(fd: RawFd, (vectors, count): (*const iovec, usize)) -> Result<usize, Stop> {
    let message = op::plain_message(vectors.cast_mut(), count);
    // SAFETY: the caller's promise.
    match unsafe { socket::sendmsg(fd, &raw const message, 0) } {
        Err(Stop::Errno(libc::ENOTSOCK)) => {}
        outcome => return outcome,
    }
    if !can_be_waited_for(fd)? {
        // SAFETY: the caller's promise.
        return op::check(unsafe { sys::writev_raw(fd, vectors, count as c_int) });
    }
    // SAFETY: the caller's promise: the vectors can be read.
    let vectors = unsafe { std::slice::from_raw_parts(vectors, count) };
    // One vector after the other, each until it is written: a blocking pipe takes everything.
    let mut written = 0;
    for vector in vectors {
        let mut done = 0;
        while done < vector.iov_len {
            let rest =
                iovec { iov_base: vector.iov_base.wrapping_byte_add(done), iov_len: vector.iov_len - done };
            // SAFETY: the caller's promise, for the part that is not written yet.
            match unsafe { write_part(fd, rest) } {
                Ok(0) => return Ok(written),
                Ok(count) => (done, written) = (done + count, written + count),
                Err(_) if written > 0 => return Ok(written),
                Err(stop) => return Err(stop),
            }
        }
    }
    Ok(written)
}

/// # Safety
/// The part can be read.
unsafe fn write_part(fd: RawFd, part: iovec) -> Result<usize, Stop> {
    // SAFETY: the caller's promise. The offset -1 is "where it stands", in both of its halves.
    let without_waiting = || unsafe {
        sys::syscall6(
            libc::SYS_pwritev2,
            fd as usize,
            &raw const part as usize,
            1,
            usize::MAX,
            usize::MAX,
            libc::RWF_NOWAIT as usize,
        )
    };
    // SAFETY: the caller's promise.
    let plain = || unsafe { sys::write_raw(fd, part.iov_base, part.iov_len.min(PIPE_ROOM)) };
    without_blocking(fd, Interest::Write, without_waiting, plain)
}

/// Tries `without_waiting`. A file that does not know how (`EOPNOTSUPP`) is asked whether it is ready, then called
/// plainly: two readers of one such file may then find it empty and block, which is why the other way comes first.
fn without_blocking(
    fd: RawFd,
    interest: Interest,
    without_waiting: impl Fn() -> isize,
    plain: impl Fn() -> isize,
) -> Result<usize, Stop> {
    if matches!(interest, Interest::Read) && !can_be_waited_for(fd)? {
        return op::check(plain());
    }
    let events = match interest {
        Interest::Read => libc::POLLIN,
        Interest::Write => libc::POLLOUT,
    };
    let patience = || match socket::is_nonblocking(fd)? {
        true => Err(Stop::Errno(libc::EAGAIN)),
        false => Ok(None),
    };
    let outcome = op::drive(fd, interest, patience, || match without_waiting() {
        unknown if unknown == -(libc::EOPNOTSUPP as isize) => match op::is_ready(fd, events) {
            Ok(false) => -(libc::EAGAIN as isize),
            Ok(true) | Err(_) => plain(),
        },
        result => result,
    });
    match outcome {
        // The reactor does not take it: epoll knows nothing of this kind of file.
        Err(Stop::Errno(libc::EPERM)) => op::check(plain()),
        outcome => outcome,
    }
}

/// Pipes, and files without a name or type; not regular files, directories and devices.
fn can_be_waited_for(fd: RawFd) -> Result<bool, Stop> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills in a stat, whose layout libc's is.
    op::check(unsafe {
        sys::syscall6(libc::SYS_fstat, fd as usize, ptr::from_mut(&mut status) as usize, 0, 0, 0, 0)
    })?;
    // SAFETY: the call succeeded, so the status is filled in.
    let kind = unsafe { status.assume_init() }.st_mode & libc::S_IFMT;
    Ok(kind == libc::S_IFIFO || kind == 0)
}
