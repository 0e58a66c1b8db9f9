//! What changes a descriptor while fibers use it: `O_NONBLOCK` and timeouts set in every way there is, duplicates, numbers
//! that are closed and used again, descriptors shared with another process.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::on_fibers;
use fiber_runtime::spawn_local;

/// A pair of which the first has been waited for, so that everything that can be remembered of it is.
fn pair_that_has_waited() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    for _ in 0..2 {
        receive_one(&one, &other);
    }
    (one, other)
}

/// A byte that comes while `one` is waited for.
fn receive_one(mut one: &UnixStream, other: &UnixStream) {
    let mut sender = other.try_clone().unwrap();
    let sender = spawn_local(move || sender.write_all(b"x").unwrap());
    one.read_exact(&mut [0]).unwrap();
    sender.join().unwrap();
}

fn would_block(mut one: &UnixStream) -> bool {
    one.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn set_flags(fd: RawFd, change: impl Fn(i32) -> i32) {
    // SAFETY: the flags of a descriptor of the test's own.
    let outcome = unsafe { libc::fcntl(fd, libc::F_SETFL, change(libc::fcntl(fd, libc::F_GETFL))) };
    assert_eq!(outcome, 0);
}

fn duplicate(fd: &impl AsRawFd) -> OwnedFd {
    // SAFETY: the number that dup returns is new, and owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(libc::dup(fd.as_raw_fd())) }
}

#[test]
fn a_descriptor_made_nonblocking_in_any_way_does_not_wait_any_more() {
    type Change = fn(&UnixStream, bool);
    let ways: [(&str, Change); 5] = [
        ("ioctl", |one, on| one.set_nonblocking(on).unwrap()),
        ("fcntl", |one, on| {
            let bit = if on { libc::O_NONBLOCK } else { 0 };
            set_flags(one.as_raw_fd(), |flags| flags & !libc::O_NONBLOCK | bit);
        }),
        ("fcntl64", |one, on| {
            let bit = if on { libc::O_NONBLOCK } else { 0 };
            // SAFETY: the flags of a descriptor of the test's own.
            let outcome = unsafe { fcntl64(one.as_raw_fd(), libc::F_SETFL, libc::O_RDWR | bit) };
            assert_eq!(outcome, 0);
        }),
        ("a duplicate", |one, on| {
            let number = duplicate(one);
            UnixStream::from(number).set_nonblocking(on).unwrap();
        }),
        ("another thread", |one, on| {
            std::thread::scope(|scope| {
                scope.spawn(|| one.set_nonblocking(on).unwrap());
            });
        }),
    ];
    on_fibers(1, move || {
        for (way, change) in ways {
            let (one, other) = pair_that_has_waited();
            change(&one, true);
            assert!(would_block(&one), "set by {way}");
            assert!(would_block(&one), "set by {way}, again");
            change(&one, false);
            receive_one(&one, &other);
            change(&one, true);
            assert!(would_block(&one), "set by {way} a second time");
        }
    });
}

unsafe extern "C" {
    fn fcntl64(fd: i32, command: i32, ...) -> i32;
}

#[test]
fn a_nonblocking_write_does_not_wait_any_more() {
    on_fibers(1, || {
        let (mut one, other) = UnixStream::pair().unwrap();
        let block = vec![0; 1 << 20];
        let mut reader = other.try_clone().unwrap();
        let drain = spawn_local(move || reader.read_exact(&mut vec![0; 1 << 20]).unwrap());
        one.write_all(&block).unwrap();
        drain.join().unwrap();
        one.set_nonblocking(true).unwrap();
        let error = one.write_all(&block).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(other);
    });
}

#[test]
fn a_pipe_made_nonblocking_does_not_wait_any_more() {
    on_fibers(1, || {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        for _ in 0..3 {
            let mut sender = writer.try_clone().unwrap();
            let sender = spawn_local(move || sender.write_all(b"x").unwrap());
            reader.read_exact(&mut [0]).unwrap();
            sender.join().unwrap();
        }
        set_flags(reader.as_raw_fd(), |flags| flags | libc::O_NONBLOCK);
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        set_flags(writer.as_raw_fd(), |flags| flags | libc::O_NONBLOCK);
        assert_eq!(writer.write_all(&vec![0; 1 << 20]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_timeout_set_or_changed_after_a_wait_is_seen_by_the_next_and_by_duplicates() {
    on_fibers(1, || {
        let (one, other) = pair_that_has_waited();
        let clone = one.try_clone().unwrap();
        for millis in [10, 40] {
            one.set_read_timeout(Some(Duration::from_millis(millis))).unwrap();
            for reader in [&one, &clone, &one] {
                let began = Instant::now();
                assert!(would_block(reader));
                let took = began.elapsed();
                assert!(took >= Duration::from_millis(millis - 1), "{took:?} of {millis} ms");
                assert!(took < Duration::from_secs(5), "{took:?} of {millis} ms");
            }
        }
        clone.set_read_timeout(None).unwrap();
        receive_one(&one, &other);
    });
}

/// A duplicate with the lowest free number from `least`.
fn duplicate_from(fd: &impl AsRawFd, least: RawFd) -> OwnedFd {
    // SAFETY: the number that fcntl returns is new, and owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least)) }
}

#[test]
fn a_new_file_is_asked_anew_although_its_number_is_old() {
    on_fibers(1, || {
        // A number that no other test of this process comes upon.
        const NUMBER: RawFd = 700;
        let (one, other) = UnixStream::pair().unwrap();
        let one = UnixStream::from(duplicate_from(&one, NUMBER));
        receive_one(&one, &other);
        receive_one(&one, &other);
        // Non-blocking from the start, so that nobody sets it.
        // SAFETY: plain numbers; what is returned is owned by nobody else.
        let fresh = unsafe {
            OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0))
        };
        drop(one);
        let socket = std::net::UdpSocket::from(duplicate_from(&fresh, NUMBER));
        assert_eq!(socket.as_raw_fd(), NUMBER);
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn connect_leaves_a_socket_as_a_blocking_one_does_and_its_flags_alone() {
    fn check() {
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        set_flags(socket.as_raw_fd(), |flags| flags | libc::O_ASYNC);
        let flags = || {
            // SAFETY: reads the flags of a descriptor of the test's own.
            unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) }
        };
        let before = flags();
        for _ in 0..2 {
            // A socket that was refused can be connected again.
            let error = socket.connect(&refused.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        let error = socket.connect(&listener.local_addr().unwrap().into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EISCONN));
        assert_eq!(flags(), before);
        // A connection that was begun without waiting is waited for.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let error = socket.connect(&listener.local_addr().unwrap().into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
        socket.set_nonblocking(false).unwrap();
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        assert_eq!(TcpStream::from(socket).peer_addr().unwrap(), listener.local_addr().unwrap());
    }
    check();
    on_fibers(1, check);
}

#[test]
fn other_commands_of_fcntl_and_ioctl_are_the_kernels() {
    fn check() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let fd = one.as_raw_fd();
        // SAFETY: commands on descriptors of the test's own, with arguments as they want them.
        unsafe {
            let duplicate = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 100);
            assert!(duplicate >= 100);
            assert_eq!(libc::fcntl(duplicate, libc::F_GETFD), libc::FD_CLOEXEC);
            assert_eq!(libc::close(duplicate), 0);
            assert_eq!(libc::fcntl(duplicate, libc::F_GETFD), -1);
            assert_eq!(errno(), libc::EBADF);
            assert_eq!(libc::fcntl(duplicate, libc::F_GETOWN), -1);
            // Process groups are negative, and no error.
            assert_eq!(libc::fcntl(fd, libc::F_SETOWN, -libc::getpgrp()), 0);
            assert_eq!(libc::fcntl(fd, libc::F_GETOWN), -libc::getpgrp());
            assert_eq!(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()), 0);
            assert_eq!(libc::fcntl(fd, libc::F_GETOWN), libc::getpid());
            other.write_all(b"abc").unwrap();
            let mut waiting = 0;
            assert_eq!(libc::ioctl(fd, libc::FIONREAD, &raw mut waiting), 0);
            assert_eq!(waiting, 3);
            assert_eq!(libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut waiting), -1);
            assert_eq!(libc::ioctl(fd, libc::FIONBIO, std::ptr::null::<i32>()), -1);
            assert_eq!(errno(), libc::EFAULT);
        }
    }
    check();
    on_fibers(1, check);
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}
