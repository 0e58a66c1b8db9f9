//! Bytes from one descriptor to another within the kernel: `splice`, `tee`, `sendfile`.
//!
//! Pipes can be told not to wait (`SPLICE_F_NONBLOCK`); sockets cannot, but by `O_NONBLOCK`, which is the user's. So a
//! socket to read from is waited for until it is ready, and then gives what it has; a socket to write to is waited for
//! until it is ready, and is then given no more than it has room for, part after part until all is sent. A socket says
//! that it is writable when a third of its buffer is free or more, and a part is an eighth of the buffer.
//!
//! Two fibers or threads that write to one socket, or read from one, at the same time may still find it full, or empty,
//! when it has just been ready, and block the worker until there is room, or something to read. The same is true of a
//! system that has run out of memory for its sockets.
//!
//! `copy_file_range` is between regular files, which nobody waits for: it is not hooked.

use std::os::fd::RawFd;

use libc::{c_int, c_uint};

use super::anonymous::is_candidate;
use super::kind::Kind;
use super::naps;
use super::socket::{self, CallDeadline};
use super::vectors::MOST;
use crate::fiber::{cancel, park};
use crate::net::op::{self, Stop};
use crate::reactor::Interest;
use crate::sys;

/// How the part of a transfer that a descriptor has is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// By looking first. It blocks.
    Socket,
    /// By being told not to wait.
    Pipe,
    /// Not at all: a file, or a socket with `O_NONBLOCK`.
    Ready,
}

impl End {
    fn of(fd: RawFd) -> Result<End, Stop> {
        Ok(match Kind::of(fd)? {
            Kind::Socket if socket::must_block(fd).is_ok() => End::Socket,
            Kind::Socket | Kind::Plain => End::Ready,
            Kind::Stream { .. } => End::Pipe,
        })
    }
}

/// Whether a transfer between these is for [`splice`] and [`sendfile`]; if not, it is plain.
pub(super) fn is_candidate_pair(from: RawFd, to: RawFd) -> bool {
    is_candidate(from) && is_candidate(to) && naps::may_give_way()
}

/// `splice` or `tee` of `length` bytes by `call`, which takes a length and flags.
pub(super) fn splice(
    from: RawFd,
    to: RawFd,
    length: usize,
    flags: c_uint,
    call: impl Fn(usize, c_uint) -> isize,
) -> Result<usize, Stop> {
    stop_of_call()?;
    let ends = (End::of(from)?, End::of(to)?);
    let waits = ends != (End::Ready, End::Ready) && length > 0;
    if !waits || is_without_pipe(from, to, ends)? {
        return op::check(call(length, flags));
    }
    let length = length.min(MOST);
    let mut patience = (CallDeadline::new(from, libc::SO_RCVTIMEO), CallDeadline::new(to, libc::SO_SNDTIMEO));
    let mut moved = 0;
    loop {
        let part = (length - moved).min(part_of(to, ends.1));
        let outcome = make_ready(from, to, ends, &mut patience)
            .and_then(|()| op::check(call(part, flags | libc::SPLICE_F_NONBLOCK)));
        match outcome {
            // Nothing more is there; or not as much as there was room for, which comes to the same.
            Ok(count) if count < part => return done(moved + count),
            Ok(count) if moved + count == length || ends.1 != End::Socket => return done(moved + count),
            Ok(count) => moved += count,
            Err(Stop::Errno(libc::EINTR)) => {}
            Err(_) if moved > 0 => return done(moved),
            // The pipe's part would have had to wait.
            Err(Stop::Errno(libc::EAGAIN)) if flags & libc::SPLICE_F_NONBLOCK == 0 => {
                wait_for_pipe(from, to, ends)?;
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// Whether neither is a pipe: an error, which waits for nothing. What was noted of a descriptor does not count here.
fn is_without_pipe(from: RawFd, to: RawFd, ends: (End, End)) -> Result<bool, Stop> {
    let is_stream = |fd| Kind::ask(fd).map(|kind| matches!(kind, Kind::Stream { .. }));
    Ok(ends.0 != End::Pipe && ends.1 != End::Pipe && !is_stream(from)? && !is_stream(to)?)
}

/// `sendfile` of `length` bytes by `call`, which takes a length.
pub(super) fn sendfile(to: RawFd, length: usize, call: impl Fn(usize) -> isize) -> Result<usize, Stop> {
    stop_of_call()?;
    let end = End::of(to)?;
    let waits = match end {
        End::Socket => true,
        End::Pipe => is_for_writing(to)? && socket::must_block(to).is_ok(),
        End::Ready => false,
    };
    if !waits || length == 0 {
        return op::check(call(length));
    }
    let length = length.min(MOST);
    let mut deadline = CallDeadline::new(to, libc::SO_SNDTIMEO);
    let mut moved = 0;
    loop {
        let part = (length - moved).min(part_of(to, end));
        let outcome = until(to, Interest::Write, &mut deadline).and_then(|()| op::check(call(part)));
        match outcome {
            // The file's end; and a pipe is given what it has room for, once.
            Ok(count) if count < part || end == End::Pipe => return done(moved + count),
            Ok(count) if moved + count == length => return done(length),
            Ok(count) => moved += count,
            Err(Stop::Errno(libc::EINTR)) => {}
            Err(_) if moved > 0 => return done(moved),
            Err(stop) => return Err(stop),
        }
    }
}

/// A pipe's end for reading is never ready to be written to.
fn is_for_writing(fd: RawFd) -> Result<bool, Stop> {
    // SAFETY: F_GETFL reads flags and has no argument.
    let flags = op::check(unsafe { sys::fcntl_raw(fd, libc::F_GETFL, 0) })?;
    Ok(flags as c_int & libc::O_ACCMODE != libc::O_RDONLY)
}

fn stop_of_call() -> Result<(), Stop> {
    match cancel::stop_of_call() {
        Some(stop) => {
            park::yield_uncancelled();
            Err(stop)
        }
        None => Ok(()),
    }
}

/// A transfer that did not have to wait gives way now and then.
fn done(moved: usize) -> Result<usize, Stop> {
    park::courtesy(|| true);
    Ok(moved)
}

/// How much may go in one call.
fn part_of(to: RawFd, end: End) -> usize {
    match end {
        End::Socket => {
            let buffer = sys::socket_option(to, libc::SO_SNDBUF).unwrap_or(0);
            usize::try_from(buffer / 8).unwrap_or(0).max(1)
        }
        End::Pipe | End::Ready => usize::MAX,
    }
}

/// Waits until the sockets among the two are ready.
fn make_ready(
    from: RawFd,
    to: RawFd,
    ends: (End, End),
    patience: &mut (CallDeadline, CallDeadline),
) -> Result<(), Stop> {
    if ends.0 == End::Socket {
        until(from, Interest::Read, &mut patience.0)?;
    }
    if ends.1 == End::Socket {
        until(to, Interest::Write, &mut patience.1)?;
    }
    Ok(())
}

/// Waits until `fd` is ready.
fn until(fd: RawFd, interest: Interest, deadline: &mut CallDeadline) -> Result<(), Stop> {
    let events = match interest {
        Interest::Read => libc::POLLIN,
        Interest::Write => libc::POLLOUT,
    };
    while !op::is_ready(fd, events)? {
        op::wait(fd, interest, deadline.get()?)?;
    }
    Ok(())
}

/// The call found a pipe empty, or full: waits for that one. Not if the user told the one that decides not to wait.
fn wait_for_pipe(from: RawFd, to: RawFd, ends: (End, End)) -> Result<(), Stop> {
    let both = ends == (End::Pipe, End::Pipe);
    if both {
        socket::must_block(from)?;
    }
    if ends.1 == End::Pipe {
        socket::must_block(to)?;
    }
    if ends.0 == End::Pipe && !op::is_ready(from, libc::POLLIN)? {
        return op::wait(from, Interest::Read, None);
    }
    if ends.1 == End::Pipe && !op::is_ready(to, libc::POLLOUT)? {
        return op::wait(to, Interest::Write, None);
    }
    if ends.0 == End::Ready || ends.1 == End::Ready {
        // It was the other one: a socket that the user made non-blocking.
        return Err(Stop::Errno(libc::EAGAIN));
    }
    // Somebody else was faster, or slower.
    park::yield_uncancelled();
    Ok(())
}

/// `splice`, plainly.
///
/// # Safety
/// As for libc's `splice`.
pub(super) unsafe fn splice_raw(
    (from, from_offset): (RawFd, *mut libc::loff_t),
    (to, to_offset): (RawFd, *mut libc::loff_t),
    length: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        sys::syscall6(
            libc::SYS_splice,
            from as usize,
            from_offset as usize,
            to as usize,
            to_offset as usize,
            length,
            flags as usize,
        )
    }
}

/// `tee`, plainly.
pub(super) fn tee_raw(from: RawFd, to: RawFd, length: usize, flags: c_uint) -> isize {
    // SAFETY: plain numbers; what is in the pipes is their users'.
    unsafe { sys::syscall6(libc::SYS_tee, from as usize, to as usize, length, flags as usize, 0, 0) }
}

/// `sendfile`, plainly.
///
/// # Safety
/// As for libc's `sendfile`.
pub(super) unsafe fn sendfile_raw(to: c_int, from: c_int, offset: *mut libc::off_t, length: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { sys::syscall6(libc::SYS_sendfile, to as usize, from as usize, offset as usize, length, 0, 0) }
}
