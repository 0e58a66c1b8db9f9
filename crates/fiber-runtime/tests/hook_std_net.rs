//! `std`'s sockets on fibers: code that knows nothing of fibers cooperates.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::FromRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use common::{on_fibers, tcp_pair};
use fiber_runtime::{spawn, spawn_local, time, yield_now};

#[test]
fn client_and_server_are_fibers_of_one_worker() {
    on_fibers(1, || {
        const CLIENTS: usize = 16;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            let fibers: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (mut stream, _) = listener.accept().unwrap();
                    spawn(move || {
                        let mut buffer = [0; 1024];
                        loop {
                            match stream.read(&mut buffer).unwrap() {
                                0 => break,
                                count => stream.write_all(&buffer[..count]).unwrap(),
                            }
                        }
                    })
                })
                .collect();
            fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    for round in 0..100 {
                        let message = format!("client {number}, round {round}");
                        stream.write_all(message.as_bytes()).unwrap();
                        let mut back = vec![0; message.len()];
                        stream.read_exact(&mut back).unwrap();
                        assert_eq!(back, message.as_bytes());
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        server.join().unwrap();
    });
}

#[test]
fn large_writes_are_complete_plain_and_vectored() {
    on_fibers(1, || {
        const LENGTH: usize = 3 << 20;
        let (mut client, mut server) = tcp_pair();
        let writer = spawn_local(move || {
            let block: Vec<u8> = (0..LENGTH).map(|at| (at % 253) as u8).collect();
            // A blocking socket takes everything in one call.
            assert_eq!(client.write(&block).unwrap(), LENGTH);
            let pieces: Vec<IoSlice> = block.chunks(30_011).map(IoSlice::new).collect();
            assert!(pieces.len() > 64, "more than one window");
            assert_eq!(client.write_vectored(&pieces).unwrap(), LENGTH);
        });
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 2 * LENGTH);
        assert!(all.iter().enumerate().all(|(at, &byte)| byte == (at % LENGTH % 253) as u8));
        writer.join().unwrap();
    });
}

#[test]
fn reads_are_short_and_vectored_reads_do_not_wait_for_more() {
    on_fibers(1, || {
        let (client, mut server) = tcp_pair();
        let reader = spawn_local(move || {
            let mut client = client;
            let (mut one, mut two) = ([0; 4], [0; 100]);
            let mut buffers = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            let count = client.read_vectored(&mut buffers).unwrap();
            assert_eq!((count, &one, &two[..2]), (6, b"abcd", &b"ef"[..]));
            assert_eq!(client.peek(&mut [0; 9]).unwrap(), 0);
        });
        yield_now();
        server.write_all(b"abcdef").unwrap();
        drop(server);
        reader.join().unwrap();
    });
}

#[test]
fn socket_timeouts_expire_as_would_block() {
    let check = || {
        let (client, mut server) = tcp_pair();
        client.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        // Clones share the timeout, as they share the socket.
        let mut clone = client.try_clone().unwrap();
        let start = Instant::now();
        assert_eq!(clone.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(start.elapsed() >= Duration::from_millis(29), "{:?}", start.elapsed());
        server.set_write_timeout(Some(Duration::from_millis(30))).unwrap();
        let block = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = server.write_all(&block) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    };
    check();
    on_fibers(1, check);
}

#[test]
fn non_blocking_descriptors_answer_at_once() {
    on_fibers(1, || {
        let (mut client, _server) = tcp_pair();
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().map(drop).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn connect_timeout_and_refusal_are_reported() {
    on_fibers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
        drop(listener);
        let refused = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn datagrams_park_their_receivers() {
    on_fibers(1, || {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let waiting = spawn_local(move || {
            let mut buffer = [0; 64];
            let (count, from) = receiver.recv_from(&mut buffer).unwrap();
            receiver.connect(from).unwrap();
            receiver.send(&buffer[..count]).unwrap();
            receiver.recv(&mut buffer).unwrap()
        });
        yield_now();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"ping", address).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(sender.recv_from(&mut buffer).unwrap(), (4, address));
        sender.send_to(b"", address).unwrap();
        assert_eq!(waiting.join().unwrap(), 0, "an empty datagram is a datagram");
    });
}

#[test]
fn unix_sockets_park_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_fibers(1, move || {
        let listener = UnixListener::bind(&path).unwrap();
        let server = spawn_local(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        yield_now();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"over a path").unwrap();
        drop(client);
        assert_eq!(server.join().unwrap(), "over a path");

        let (one, other) = UnixDatagram::pair().unwrap();
        let waiting = spawn_local(move || one.recv(&mut [0; 16]).unwrap());
        yield_now();
        other.send(b"datagram").unwrap();
        assert_eq!(waiting.join().unwrap(), 8);
    });
}

#[test]
fn pipes_park_and_files_do_not() {
    on_fibers(1, || {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let reading = spawn_local(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all.len()
        });
        yield_now();
        assert!(!reading.is_finished());
        // More than a pipe holds.
        assert_eq!(writer.write(&vec![1; 1 << 20]).unwrap(), 1 << 20, "a blocking pipe takes everything");
        drop(writer);
        assert_eq!(reading.join().unwrap(), 1 << 20);

        for timer in [false, true] {
            // SAFETY: the calls make new descriptors, which nobody else owns; the time to expire lives through its call.
            let mut file = unsafe {
                let fd = if timer {
                    let after = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 };
                    let once = libc::itimerspec { it_interval: std::mem::zeroed(), it_value: after };
                    let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, 0);
                    assert_eq!(libc::timerfd_settime(fd, 0, &raw const once, std::ptr::null_mut()), 0);
                    fd
                } else {
                    libc::eventfd(0, 0)
                };
                std::fs::File::from_raw_fd(fd)
            };
            let mut writing = file.try_clone().unwrap();
            let reading = spawn_local(move || {
                let mut count = [0; 8];
                assert_eq!(file.read(&mut count).unwrap(), 8);
                u64::from_le_bytes(count)
            });
            yield_now();
            assert!(!reading.is_finished());
            if !timer {
                writing.write_all(&5_u64.to_le_bytes()).unwrap();
            }
            assert_eq!(reading.join().unwrap(), if timer { 1 } else { 5 });
        }

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"plain").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "plain");
    });
}

#[test]
fn poll_waits_for_one_descriptor_for_several_and_for_time() {
    fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> i32 {
        // SAFETY: the slice is valid for its length.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) }
    }
    fn entry(socket: &impl std::os::fd::AsRawFd, events: libc::c_short) -> libc::pollfd {
        libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 }
    }

    on_fibers(1, || {
        let start = Instant::now();
        assert_eq!(poll(&mut [], 10), 0);
        assert!(start.elapsed() >= Duration::from_millis(10));

        let (one, mut other) = tcp_pair();
        let (third, _fourth) = tcp_pair();
        let start = Instant::now();
        assert_eq!(poll(&mut [entry(&one, libc::POLLIN)], 10), 0);
        assert!(start.elapsed() >= Duration::from_millis(10));
        assert_eq!(poll(&mut [entry(&one, libc::POLLIN | libc::POLLOUT)], -1), 1);

        let waiting = spawn_local(move || {
            let mut both = [entry(&third, libc::POLLIN), entry(&one, libc::POLLIN)];
            let ready = poll(&mut both, 20_000);
            (ready, both[0].revents, both[1].revents)
        });
        yield_now();
        assert!(!waiting.is_finished());
        other.write_all(b"x").unwrap();
        assert_eq!(waiting.join().unwrap(), (1, 0, libc::POLLIN));
    });
}

#[test]
fn a_child_process_is_started_and_read() {
    on_fibers(1, || {
        let output =
            std::process::Command::new("sh").args(["-c", "echo out; echo err >&2"]).output().unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    });
}

#[test]
fn a_cancelled_fiber_does_not_wait_for_time_or_for_a_full_queue() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_fibers(1, move || {
        let waits = spawn_local(|| {
            // SAFETY: no descriptors.
            let result = unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
            (result, std::io::Error::last_os_error().raw_os_error())
        });
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        // The queue takes one; the second waits for room that never comes.
        let _first = UnixStream::connect(&path).unwrap();
        let connects = spawn_local(move || UnixStream::connect(&path).map(drop).unwrap_err().raw_os_error());
        yield_now();
        time::sleep(Duration::from_millis(3));
        assert!(!waits.is_finished() && !connects.is_finished());
        waits.cancel();
        connects.cancel();
        assert_eq!(waits.join().unwrap(), (-1, Some(libc::ECANCELED)));
        assert_eq!(connects.join().unwrap(), Some(libc::ECANCELED));
    });
}

#[test]
fn recv_of_everything_waits_for_everything() {
    on_fibers(1, || {
        let (client, mut server) = tcp_pair();
        let reader = spawn_local(move || {
            let mut buffer = [0_u8; 6];
            let raw = std::os::fd::AsRawFd::as_raw_fd(&client);
            // SAFETY: the buffer is valid for its length.
            let count =
                unsafe { libc::recv(raw, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_WAITALL) };
            assert_eq!((count, &buffer), (6, b"abcdef"));
        });
        for part in [&b"ab"[..], b"cde", b"f"] {
            yield_now();
            server.write_all(part).unwrap();
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_cancelled_fiber_gets_an_error_not_an_unwinding() {
    on_fibers(1, || {
        let (mut client, _server) = tcp_pair();
        let reader = spawn_local(move || {
            let error = client.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            yield_now();
        });
        yield_now();
        reader.cancel();
        assert!(matches!(reader.join(), Err(fiber_runtime::JoinError::Cancelled)));
    });
}
