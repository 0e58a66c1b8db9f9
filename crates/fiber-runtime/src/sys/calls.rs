//! One wrapper a system call.
//!
//! Safe wrappers take slices and plain numbers; the rest is `unsafe` and names its condition. Calls that exist only
//! for the hooks take raw pointers, because that is what libc's callers hand over.
#![cfg_attr(not(feature = "hook"), allow(dead_code, reason = "some calls are made by hooks only"))]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::raw::{check, syscall6};

/// Lets another thread of the system run.
pub(crate) fn sched_yield() {
    if cfg!(miri) {
        // Which knows no system call by its instruction, but knows std.
        return std::thread::yield_now();
    }
    // SAFETY: takes no arguments.
    unsafe { syscall6(libc::SYS_sched_yield, 0, 0, 0, 0, 0, 0) };
}

/// Adds one to the eventfd `fd`. A full counter (2^64 - 2 unread wakes) already wakes its reader, so errors are moot.
pub(crate) fn eventfd_signal(fd: RawFd) {
    let one = 1u64;
    // SAFETY: the kernel reads the eight bytes of `one`, a number in this machine's byte order.
    let _ =
        unsafe { syscall6(libc::SYS_write, fd as usize, &raw const one as usize, size_of::<u64>(), 0, 0, 0) };
}

/// A new non-blocking, close-on-exec eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    let flags = (libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) as usize;
    // SAFETY: plain numbers; the descriptor returned is new and owned by nobody else.
    unsafe { owned(syscall6(libc::SYS_eventfd2, 0, flags, 0, 0, 0, 0)) }
}

/// A new close-on-exec eventfd whose reader waits.
pub(crate) fn eventfd_to_wait_on() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor returned is new and owned by nobody else.
    unsafe { owned(syscall6(libc::SYS_eventfd2, 0, libc::EFD_CLOEXEC as usize, 0, 0, 0, 0)) }
}

/// A new non-blocking, close-on-exec eventfd whose reads take one at a time.
pub(crate) fn eventfd_semaphore() -> io::Result<OwnedFd> {
    let flags = (libc::EFD_CLOEXEC | libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE) as usize;
    // SAFETY: plain numbers; the descriptor returned is new and owned by nobody else.
    unsafe { owned(syscall6(libc::SYS_eventfd2, 0, flags, 0, 0, 0, 0)) }
}

/// A number as an eventfd takes it: in this machine's byte order.
#[expect(clippy::host_endian_bytes, reason = "the kernel on this machine is the other side")]
pub(crate) fn word_to_bytes(word: u64) -> [u8; 8] {
    word.to_ne_bytes()
}

/// The opposite of [`word_to_bytes`].
#[expect(clippy::host_endian_bytes, reason = "the kernel on this machine is the other side")]
pub(crate) fn word_from_bytes(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

/// A new non-blocking, close-on-exec timerfd on the monotonic clock.
pub(crate) fn timerfd() -> io::Result<OwnedFd> {
    let flags = (libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) as usize;
    // SAFETY: plain numbers; the descriptor returned is new and owned by nobody else.
    unsafe { owned(syscall6(libc::SYS_timerfd_create, libc::CLOCK_MONOTONIC as usize, flags, 0, 0, 0, 0)) }
}

/// Arms `fd` to expire once, `nanos` from now (at least one nanosecond: zero would disarm it).
pub(crate) fn timerfd_arm(fd: RawFd, nanos: u64) -> io::Result<()> {
    const SECOND: u64 = 1_000_000_000;
    let nanos = nanos.max(1);
    let value = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec {
            tv_sec: (nanos / SECOND) as libc::time_t,
            tv_nsec: (nanos % SECOND) as libc::c_long,
        },
    };
    // SAFETY: `value` is a valid itimerspec for the duration of the call; no old value is asked for.
    let result =
        unsafe { syscall6(libc::SYS_timerfd_settime, fd as usize, 0, &raw const value as usize, 0, 0, 0) };
    check(result).map(drop)
}

/// A descriptor of the child process `pid`, close-on-exec and readable once the child has ended.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor returned is new and owned by nobody else.
    unsafe { owned(syscall6(libc::SYS_pidfd_open, pid as usize, 0, 0, 0, 0, 0)) }
}

/// A new non-blocking, close-on-exec pipe: the end to read, and the end to write.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;
    // SAFETY: the kernel writes two descriptors, for which there is room.
    check(unsafe { syscall6(libc::SYS_pipe2, ends.as_mut_ptr() as usize, flags, 0, 0, 0, 0) })?;
    // SAFETY: the call succeeded, so both are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Makes a named pipe.
pub(crate) fn make_fifo(path: &CStr, mode: u32) -> io::Result<()> {
    let mode = (libc::S_IFIFO | (mode & 0o7777)) as usize;
    let here = libc::AT_FDCWD as usize;
    // SAFETY: the path ends in a zero byte and lives through the call.
    check(unsafe { syscall6(libc::SYS_mknodat, here, path.as_ptr() as usize, mode, 0, 0, 0) }).map(drop)
}

unsafe fn owned(result: isize) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the caller passes the result of a call that creates a descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `read(2)`
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to it.
    check(unsafe {
        syscall6(libc::SYS_read, fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0)
    })
}

/// `write(2)`
pub(crate) fn write(fd: RawFd, buffer: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads at most `buffer.len()` bytes from it.
    check(unsafe { syscall6(libc::SYS_write, fd as usize, buffer.as_ptr() as usize, buffer.len(), 0, 0, 0) })
}

/// `recvfrom(2)`
///
/// # Safety
/// As for libc's `recvfrom`.
pub(crate) unsafe fn recvfrom_raw(
    fd: RawFd,
    buffer: *mut libc::c_void,
    length: usize,
    flags: i32,
    address: *mut libc::sockaddr,
    address_length: *mut libc::socklen_t,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        syscall6(
            libc::SYS_recvfrom,
            fd as usize,
            buffer as usize,
            length,
            flags as usize,
            address as usize,
            address_length as usize,
        )
    }
}

/// `sendto(2)`
///
/// # Safety
/// As for libc's `sendto`.
pub(crate) unsafe fn sendto_raw(
    fd: RawFd,
    buffer: *const libc::c_void,
    length: usize,
    flags: i32,
    address: *const libc::sockaddr,
    address_length: libc::socklen_t,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        syscall6(
            libc::SYS_sendto,
            fd as usize,
            buffer as usize,
            length,
            flags as usize,
            address as usize,
            address_length as usize,
        )
    }
}

/// `recvmsg(2)`
///
/// # Safety
/// As for libc's `recvmsg`.
pub(crate) unsafe fn recvmsg_raw(fd: RawFd, message: *mut libc::msghdr, flags: i32) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_recvmsg, fd as usize, message as usize, flags as usize, 0, 0, 0) }
}

/// `sendmsg(2)`
///
/// # Safety
/// As for libc's `sendmsg`.
pub(crate) unsafe fn sendmsg_raw(fd: RawFd, message: *const libc::msghdr, flags: i32) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_sendmsg, fd as usize, message as usize, flags as usize, 0, 0, 0) }
}

/// `read(2)`
///
/// # Safety
/// As for libc's `read`.
pub(crate) unsafe fn read_raw(fd: RawFd, buffer: *mut libc::c_void, length: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_read, fd as usize, buffer as usize, length, 0, 0, 0) }
}

/// `write(2)`
///
/// # Safety
/// As for libc's `write`.
pub(crate) unsafe fn write_raw(fd: RawFd, buffer: *const libc::c_void, length: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_write, fd as usize, buffer as usize, length, 0, 0, 0) }
}

/// `readv(2)`
///
/// # Safety
/// As for libc's `readv`.
pub(crate) unsafe fn readv_raw(fd: RawFd, vectors: *const libc::iovec, count: i32) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_readv, fd as usize, vectors as usize, count as usize, 0, 0, 0) }
}

/// `writev(2)`
///
/// # Safety
/// As for libc's `writev`.
pub(crate) unsafe fn writev_raw(fd: RawFd, vectors: *const libc::iovec, count: i32) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_writev, fd as usize, vectors as usize, count as usize, 0, 0, 0) }
}

/// `accept4(2)`
///
/// # Safety
/// As for libc's `accept4`.
pub(crate) unsafe fn accept4_raw(
    fd: RawFd,
    address: *mut libc::sockaddr,
    address_length: *mut libc::socklen_t,
    flags: i32,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        syscall6(
            libc::SYS_accept4,
            fd as usize,
            address as usize,
            address_length as usize,
            flags as usize,
            0,
            0,
        )
    }
}

/// `connect(2)`
///
/// # Safety
/// As for libc's `connect`.
pub(crate) unsafe fn connect_raw(
    fd: RawFd,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_connect, fd as usize, address as usize, length as usize, 0, 0, 0) }
}

/// `ppoll(2)` with no signal mask: `poll` with a timespec (aarch64 has no `poll`).
///
/// # Safety
/// `fds` must point to `count` pollfd; `timeout` is null or a timespec.
pub(crate) unsafe fn ppoll_raw(
    fds: *mut libc::pollfd,
    count: usize,
    timeout: *const libc::timespec,
) -> isize {
    // SAFETY: the caller's promise; the mask is null, its size is the kernel's sigset size.
    unsafe { syscall6(libc::SYS_ppoll, fds as usize, count, timeout as usize, 0, 8, 0) }
}

/// `clock_nanosleep(2)`
///
/// # Safety
/// As for libc's `clock_nanosleep`.
pub(crate) unsafe fn clock_nanosleep_raw(
    clock: i32,
    flags: i32,
    request: *const libc::timespec,
    remain: *mut libc::timespec,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        syscall6(
            libc::SYS_clock_nanosleep,
            clock as usize,
            flags as usize,
            request as usize,
            remain as usize,
            0,
            0,
        )
    }
}

/// `ioctl(2)`
///
/// # Safety
/// As for libc's `ioctl`.
pub(crate) unsafe fn ioctl_raw(fd: RawFd, request: usize, argument: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_ioctl, fd as usize, request, argument, 0, 0, 0) }
}

/// `fcntl(2)`
///
/// # Safety
/// As for libc's `fcntl`.
pub(crate) unsafe fn fcntl_raw(fd: RawFd, command: i32, argument: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_fcntl, fd as usize, command as usize, argument, 0, 0, 0) }
}

/// `close(2)`
///
/// # Safety
/// The caller owns `fd`.
pub(crate) unsafe fn close_raw(fd: RawFd) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_close, fd as usize, 0, 0, 0, 0, 0) }
}

/// `dup3(2)`
///
/// # Safety
/// The caller owns `new`.
pub(crate) unsafe fn dup3_raw(old: RawFd, new: RawFd, flags: i32) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_dup3, old as usize, new as usize, flags as usize, 0, 0, 0) }
}

/// `getsockopt(2)` of one `int` at level `SOL_SOCKET`.
pub(crate) fn socket_option(fd: RawFd, option: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` and `length` live through the call and `length` is the size of `value`.
    check(unsafe {
        syscall6(
            libc::SYS_getsockopt,
            fd as usize,
            libc::SOL_SOCKET as usize,
            option as usize,
            &raw mut value as usize,
            &raw mut length as usize,
            0,
        )
    })?;
    Ok(value)
}

/// `setsockopt(2)`
///
/// # Safety
/// As for libc's `setsockopt`.
pub(crate) unsafe fn setsockopt_raw(
    fd: RawFd,
    level: i32,
    option: i32,
    value: *const libc::c_void,
    length: libc::socklen_t,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        syscall6(
            libc::SYS_setsockopt,
            fd as usize,
            level as usize,
            option as usize,
            value as usize,
            length as usize,
            0,
        )
    }
}

/// Maps `length` bytes of zeroed private memory, reserved but not committed.
pub(crate) fn map_reserve(length: usize) -> io::Result<usize> {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK) as usize;
    // SAFETY: an anonymous mapping at an address of the kernel's choice replaces nothing.
    check(unsafe { syscall6(libc::SYS_mmap, 0, length, protection, flags, usize::MAX, 0) })
}

/// `madvise(2)`
///
/// # Safety
/// Nobody may rely on the contents or the accessibility of `[address, address + length)` that `advice` changes.
pub(crate) unsafe fn madvise(address: usize, length: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the caller's promise.
    check(unsafe { syscall6(libc::SYS_madvise, address, length, advice as usize, 0, 0, 0) }).map(drop)
}

/// Makes `[address, address + length)` inaccessible.
///
/// # Safety
/// Nobody may use that memory.
pub(crate) unsafe fn protect_none(address: usize, length: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    check(unsafe { syscall6(libc::SYS_mprotect, address, length, libc::PROT_NONE as usize, 0, 0, 0) })
        .map(drop)
}

/// Runs a full memory barrier on every thread of this process (`membarrier(2)`, private expedited).
pub(crate) fn membarrier() -> io::Result<()> {
    const PRIVATE_EXPEDITED: usize = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: usize = 1 << 4;
    // SAFETY: plain numbers.
    check(unsafe { syscall6(libc::SYS_membarrier, REGISTER_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0) })?;
    // SAFETY: plain numbers.
    check(unsafe { syscall6(libc::SYS_membarrier, PRIVATE_EXPEDITED, 0, 0, 0, 0, 0) }).map(drop)
}

/// Sends `signal` to thread `thread` of this process (`tgkill(2)`). `ESRCH` if it has ended.
pub(crate) fn signal_thread(thread: i32, signal: i32) -> io::Result<()> {
    let process = std::process::id() as usize;
    // SAFETY: plain numbers; what the signal does is what its handler does.
    check(unsafe { syscall6(libc::SYS_tgkill, process, thread as usize, signal as usize, 0, 0, 0) }).map(drop)
}

/// The kernel's number of the calling thread (`gettid(2)`).
pub(crate) fn thread_id() -> i32 {
    // SAFETY: takes no arguments and does not fail.
    unsafe { syscall6(libc::SYS_gettid, 0, 0, 0, 0, 0, 0) as i32 }
}
