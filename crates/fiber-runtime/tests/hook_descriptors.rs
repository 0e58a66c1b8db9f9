//! What changes a descriptor while fibers use it: `O_NONBLOCK` and timeouts set in every way there is, duplicates, numbers
//! that are closed and used again, descriptors shared with another process.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{on_fibers, wait_for};
use fiber_runtime::{Handle, JoinHandle, spawn_local, spawn_on, time, yield_now};

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

/// What a fiber waits in, with its own error on failure.
type Wait = fn(RawFd) -> i32;

const WAITS: [(&str, Wait); 4] = [
    ("recv", |fd| {
        // SAFETY: there is room for the byte.
        outcome(unsafe { libc::recv(fd, [0u8].as_mut_ptr().cast(), 1, 0) } as i32)
    }),
    ("read", |fd| {
        // SAFETY: there is room for the byte.
        outcome(unsafe { libc::read(fd, [0u8].as_mut_ptr().cast(), 1) } as i32)
    }),
    ("poll", |fd| {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry.
        outcome(unsafe { libc::poll(&raw mut entry, 1, -1) })
    }),
    ("send", |fd| {
        let block = vec![0u8; 4 << 20];
        // SAFETY: the bytes live through the call.
        let sent = unsafe { libc::send(fd, block.as_ptr().cast(), block.len(), libc::MSG_NOSIGNAL) };
        if sent == 4 << 20 { 1 } else { outcome(sent as i32) }
    }),
];

/// A result of libc's as one number: the value, or the negated `errno`.
fn outcome(value: i32) -> i32 {
    if value < 0 { -errno() } else { value }
}

/// Makes every wait of [`WAITS`] end well: a byte to receive, or room to send.
fn satisfy(other: &UnixStream, what: &str) {
    if what == "send" {
        let _ = { other }.read_exact(&mut vec![0; 4 << 20]);
    } else {
        { other }.write_all(b"x").unwrap();
    }
}

/// Waits until the fiber waits for a descriptor.
fn until_it_waits<T>(waiter: &JoinHandle<T>) {
    let line = format!("fiber #{} ", waiter.fiber().id());
    wait_for("a fiber to wait", || {
        let dump = Handle::current().dump().to_string();
        dump.lines().any(|fiber| fiber.contains(&line) && fiber.contains("descriptor"))
    });
}

#[test]
fn closing_a_descriptor_ends_the_waits_for_it_from_wherever_it_is_closed() {
    on_fibers(2, || {
        for (what, wait) in WAITS {
            for (place, close) in [
                ("a fiber of the worker", (|one| drop(one)) as fn(OwnedFd)),
                ("a fiber of another worker", |one| spawn_on(1, move || drop(one)).join().unwrap()),
                ("a thread", |one| std::thread::spawn(move || drop(one)).join().unwrap()),
            ] {
                let (one, other) = UnixStream::pair().unwrap();
                let number = one.as_raw_fd();
                let waiter = spawn_on(0, move || wait(number));
                until_it_waits(&waiter);
                close(one.into());
                let ended = waiter.join().unwrap();
                if what == "send" {
                    // What there was room for was sent, and is told.
                    assert!((1..4 << 20).contains(&ended), "{ended}, {place}");
                } else {
                    assert_eq!(ended, -libc::ECANCELED, "{what}, {place}");
                }
                drop(other);
            }
        }
    });
}

#[test]
fn a_dup_that_fails_disturbs_nobody_who_waits_for_the_number() {
    on_fibers(1, || {
        let (one, mut other) = UnixStream::pair().unwrap();
        let number = one.as_raw_fd();
        let waiter = spawn_local(move || WAITS[0].1(number));
        until_it_waits(&waiter);
        for (old, flags) in [(number, 0), (other.as_raw_fd(), 1), (-1, 0), (999_999, libc::O_CLOEXEC)] {
            // SAFETY: nothing is replaced.
            assert_eq!(unsafe { libc::dup3(old, number, flags) }, -1, "{old}, {flags}");
        }
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(-1, number) }, -1);
        for _ in 0..10 {
            yield_now();
        }
        assert!(!waiter.is_finished());
        other.write_all(b"x").unwrap();
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

#[test]
fn accept_of_what_does_not_listen_fails_at_once() {
    fn errors() -> Vec<i32> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        let numbers =
            [connected.as_raw_fd(), datagrams.as_raw_fd(), stream.as_raw_fd(), pipe.as_raw_fd(), 999_999];
        // SAFETY: no address is asked for.
        let accept = |fd| unsafe { libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) };
        numbers.map(|fd| if accept(fd) < 0 { errno() } else { 0 }).to_vec()
    }

    let expected = [libc::EINVAL, libc::EOPNOTSUPP, libc::EINVAL, libc::ENOTSOCK, libc::EBADF];
    assert_eq!(fiber_runtime::hook::disabled(errors), expected);
    assert_eq!(on_fibers(1, errors), expected);
}

#[test]
fn a_number_that_is_used_again_while_a_fiber_waits_is_of_the_new_file_alone() {
    on_fibers(2, || {
        // Numbers that no other test of this process comes upon.
        for (turn, (what, wait)) in WAITS.into_iter().enumerate().take(3) {
            for worker in [0, 1] {
                let number = 800 + 10 * turn as RawFd + worker as RawFd;
                let (one, other) = UnixStream::pair().unwrap();
                let (fresh, fresh_other) = UnixStream::pair().unwrap();
                let old = duplicate_from(&one, number);
                assert_eq!(old.as_raw_fd(), number);
                let before = spawn_on(worker, move || wait(number));
                until_it_waits(&before);
                // The old file lives on by its other number, so that its registration would, too.
                // SAFETY: `old` owns the number, before and after.
                assert_eq!(unsafe { libc::dup2(fresh.as_raw_fd(), number) }, number);
                assert_eq!(before.join().unwrap(), -libc::ECANCELED, "{what}");
                let after = spawn_on(worker, move || wait(number));
                until_it_waits(&after);
                satisfy(&other, what);
                time::sleep(Duration::from_millis(2));
                assert!(!after.is_finished(), "{what}: woken by the old file");
                satisfy(&fresh_other, what);
                assert_eq!(after.join().unwrap(), 1, "{what}");
                // And once more by close and a new number.
                { &one }.read_exact(&mut [0]).unwrap();
                drop(old);
                let again = duplicate_from(&one, number);
                assert_eq!(again.as_raw_fd(), number);
                let waiter = spawn_on(worker, move || wait(number));
                until_it_waits(&waiter);
                satisfy(&other, what);
                assert_eq!(waiter.join().unwrap(), 1, "{what}");
            }
        }
    });
}

#[test]
fn closing_one_of_two_duplicates_disturbs_nobody_who_waits_for_the_other() {
    on_fibers(2, || {
        for (what, wait) in WAITS {
            for closer in [0, 1] {
                let (one, other) = UnixStream::pair().unwrap();
                let twin = duplicate(&one);
                let (number, twin_number) = (one.as_raw_fd(), twin.as_raw_fd());
                let waiter = spawn_on(0, move || wait(number));
                until_it_waits(&waiter);
                if what == "send" {
                    spawn_on(closer, move || drop(twin)).join().unwrap();
                } else {
                    let waiter_of_twin = spawn_on(0, move || wait(twin_number));
                    until_it_waits(&waiter_of_twin);
                    spawn_on(closer, move || drop(twin)).join().unwrap();
                    assert_eq!(waiter_of_twin.join().unwrap(), -libc::ECANCELED, "{what}");
                }
                time::sleep(Duration::from_millis(1));
                assert!(!waiter.is_finished(), "{what}");
                satisfy(&other, what);
                assert_eq!(waiter.join().unwrap(), 1, "{what}");
            }
        }
    });
}

#[test]
fn shutdown_ends_waits_as_it_does_those_of_threads() {
    /// What a wait for `socket` ends with when `shut` shuts it down.
    fn ended(in_fiber: bool, socket: &impl AsRawFd, wait: impl FnOnce(RawFd) -> i32 + Send + 'static) -> i32 {
        let fd = socket.as_raw_fd();
        // SAFETY: plain numbers; the socket is the test's own.
        let shut = move || assert_eq!(unsafe { libc::shutdown(fd, libc::SHUT_RDWR) }, 0);
        if !in_fiber {
            let waiter = std::thread::spawn(move || wait(fd));
            std::thread::sleep(Duration::from_millis(10));
            shut();
            return waiter.join().unwrap();
        }
        on_fibers(2, move || {
            let waiter = spawn_on(0, move || wait(fd));
            until_it_waits(&waiter);
            spawn_on(1, shut).join().unwrap();
            waiter.join().unwrap()
        })
    }
    let accept = |fd| {
        // SAFETY: no address is asked for.
        outcome(unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) })
    };
    for in_fiber in [false, true] {
        for (what, wait) in WAITS {
            let (one, _other) = UnixStream::pair().unwrap();
            let expected = match what {
                "send" => -libc::EPIPE,
                "poll" => 1,
                _ => 0,
            };
            if what == "send" {
                // Until it is full, so that nothing is sent before.
                one.set_nonblocking(true).unwrap();
                while { &one }.write(&[0; 4096]).is_ok() {}
                one.set_nonblocking(false).unwrap();
            }
            assert_eq!(ended(in_fiber, &one, wait), expected, "{what}, in a fiber: {in_fiber}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(ended(in_fiber, &listener, accept), -libc::EINVAL, "in a fiber: {in_fiber}");
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        assert_eq!(ended(in_fiber, &listener, accept), -libc::EINVAL, "in a fiber: {in_fiber}");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        assert_eq!(ended(in_fiber, &socket, WAITS[0].1), 0, "in a fiber: {in_fiber}");
        let (one, _other) = UnixDatagram::pair().unwrap();
        // And those that come after it.
        let twice = |fd| WAITS[1].1(fd) + WAITS[0].1(fd);
        assert_eq!(ended(in_fiber, &one, twice), 0, "in a fiber: {in_fiber}");
    }
}

#[test]
fn a_forked_child_blocks_as_a_plain_process_and_takes_nothing_from_its_parent() {
    on_fibers(1, || {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let (numbers, (told, mut tell)) = ([one.as_raw_fd(), other.as_raw_fd()], std::io::pipe().unwrap());
        let reader = spawn_local(move || {
            let mut bytes = [0; 3];
            one.read_exact(&mut bytes).unwrap();
            bytes
        });
        yield_now();
        // SAFETY: the child makes system calls on numbers of its own table, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe {
                libc::close(numbers[0]);
                libc::close(numbers[1]);
                // Nothing to read yet: this blocks, and no fiber of the parent's goes on here.
                let count = libc::read(told.as_raw_fd(), [0u8].as_mut_ptr().cast(), 1);
                libc::usleep(1_000);
                libc::_exit(if count == 1 { 7 } else { 1 });
            }
        }
        time::sleep(Duration::from_millis(20));
        tell.write_all(b"!").unwrap();
        let mut status = 0;
        // SAFETY: the child is the test's own.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 7));
        other.write_all(b"abc").unwrap();
        assert_eq!(&reader.join().unwrap(), b"abc");
    });
}

#[test]
fn a_forked_child_accepts_although_threads_of_its_parent_were_about_to() {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    listener.set_nonblocking(true).unwrap();
    let first = listener.clone();
    // From now on all take turns.
    on_fibers(1, move || first.accept().map(drop).unwrap_err());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    listener.accept().map(drop).unwrap_err();
                }
            });
        }
        let mut children = (0..50).map(|_| {
            // SAFETY: the child makes system calls, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: as above. A child that hangs is killed by its alarm.
                unsafe {
                    libc::alarm(5);
                    libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut());
                    libc::_exit(7);
                }
            }
            let mut status = 0;
            // SAFETY: the child is the test's own.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status
        });
        let stuck = children.find(|&status| !libc::WIFEXITED(status));
        done.store(true, Ordering::Relaxed);
        assert_eq!(stuck, None);
    });
}

#[test]
fn a_socket_that_another_process_uses_too_is_waited_for_here_as_well() {
    on_fibers(1, || {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let reader = spawn_local(move || {
            let mut bytes = [0; 6];
            one.read_exact(&mut bytes).unwrap();
            bytes
        });
        yield_now();
        // The child writes into the same open file, closes it, and is gone.
        let status = std::process::Command::new("sh")
            .args(["-c", "printf abc"])
            .stdout(OwnedFd::from(other.try_clone().unwrap()))
            .status()
            .unwrap();
        assert!(status.success());
        time::sleep(Duration::from_millis(2));
        assert!(!reader.is_finished());
        other.write_all(b"def").unwrap();
        assert_eq!(&reader.join().unwrap(), b"abcdef");
    });
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}
