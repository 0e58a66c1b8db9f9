//! TCP between fibers, across workers, and between fibers and plain threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{on_fibers, runtime, wait_for};
use fiber_runtime::net::{TcpListener, TcpStream};
use fiber_runtime::{spawn, spawn_local, yield_now};

/// Accepts `connections` and echoes each on a fiber of its own until the client ends it.
fn echo(listener: TcpListener, connections: usize) {
    let fibers: Vec<_> = (0..connections)
        .map(|_| {
            let (mut stream, _) = listener.accept().unwrap();
            spawn(move || {
                let mut buffer = [0; 4096];
                loop {
                    match stream.read(&mut buffer).unwrap() {
                        0 => return,
                        count => stream.write_all(&buffer[..count]).unwrap(),
                    }
                }
            })
        })
        .collect();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
}

/// Sends `rounds` messages and checks that each comes back.
fn converse(mut stream: impl Read + Write, tag: usize, rounds: usize) {
    for round in 0..rounds {
        let message = format!("{tag}:{round};").into_bytes();
        stream.write_all(&message).unwrap();
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, message);
    }
}

#[test]
fn fibers_echo_to_fibers_on_one_worker_and_on_three() {
    for workers in [1, 3] {
        on_fibers(workers, || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(move || echo(listener, 20));
            let clients: Vec<_> = (0..20)
                .map(|tag| spawn(move || converse(TcpStream::connect(address).unwrap(), tag, 50)))
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            server.join().unwrap();
        });
    }
}

#[test]
fn plain_threads_use_the_same_types() {
    let runtime = runtime(1);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let fibers = runtime.spawn(move || echo(listener, 2));
    converse(TcpStream::connect(address).unwrap(), 0, 50);
    converse(std::net::TcpStream::connect(address).unwrap(), 1, 50);
    fibers.join().unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = runtime.spawn(move || converse(TcpStream::connect(address).unwrap(), 2, 50));
    let (mut stream, peer) = listener.accept().unwrap();
    assert_eq!(peer, stream.peer_addr().unwrap());
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => stream.write_all(&buffer[..count]).unwrap(),
        }
    }
    client.join().unwrap();
}

#[test]
fn more_than_the_socket_buffers_hold_goes_through() {
    on_fibers(2, || {
        const TOTAL: usize = 8 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let writer = spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let block: Vec<u8> = (0..65_536_u32).map(|at| (at % 251) as u8).collect();
            (0..TOTAL / block.len()).for_each(|_| stream.write_all(&block).unwrap());
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), TOTAL);
        assert!(all.iter().enumerate().all(|(at, &byte)| byte == (at % 65_536 % 251) as u8));
        writer.join().unwrap();
    });
}

#[test]
fn halves_are_used_by_two_fibers_on_different_workers() {
    on_fibers(2, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || echo(listener, 1));
        let (mut reading, mut writing) = TcpStream::connect(address).unwrap().into_split();
        let written = fiber_runtime::spawn_on(0, move || {
            for number in 0..20_000_u32 {
                writing.write_all(&number.to_le_bytes()).unwrap();
            }
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let read = fiber_runtime::spawn_on(1, move || {
            for number in 0..20_000_u32 {
                let mut bytes = [0; 4];
                reading.read_exact(&mut bytes).unwrap();
                assert_eq!(u32::from_le_bytes(bytes), number);
            }
            assert_eq!(reading.read(&mut [0]).unwrap(), 0);
        });
        written.join().unwrap();
        read.join().unwrap();
        server.join().unwrap();
    });
}

#[test]
fn vectored_calls_and_peek_see_the_bytes_in_order() {
    on_fibers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.set_nodelay(true).unwrap();
        assert!(client.nodelay().unwrap());
        let sent =
            client.write_vectored(&[IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg")]).unwrap();
        assert_eq!(sent, 7);
        let mut word = [0; 7];
        wait_for("seven bytes", || server.peek(&mut word).unwrap() == 7);
        let (mut one, mut two) = ([0; 2], [0; 5]);
        let received =
            server.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)]).unwrap();
        assert_eq!((received, &one, &two), (7, b"ab", b"cdefg"));
    });
}

#[test]
fn reads_end_when_the_peer_goes_and_writes_fail_without_a_signal() {
    on_fibers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let reader = {
            let mut client = client.try_clone().unwrap();
            spawn_local(move || client.read(&mut [0; 8]).unwrap())
        };
        yield_now();
        drop(server);
        assert_eq!(reader.join().unwrap(), 0);
        let mut failed = None;
        wait_for("the write to fail", || {
            failed = client.write(b"x").err();
            failed.is_some()
        });
        let kind = failed.unwrap().kind();
        assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind:?}");
    });
}

#[test]
fn shutdown_wakes_the_fibers_that_wait() {
    on_fibers(2, || {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let reader = {
            let mut client = client.try_clone().unwrap();
            spawn(move || client.read(&mut [0; 8]).unwrap())
        };
        let acceptor = {
            let listener = Arc::clone(&listener);
            spawn(move || listener.accept().map(drop).unwrap_err().kind())
        };
        fiber_runtime::time::sleep(Duration::from_millis(5));
        assert!(!reader.is_finished() && !acceptor.is_finished());
        client.shutdown(Shutdown::Both).unwrap();
        listener.shutdown().unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        assert_eq!(acceptor.join().unwrap(), ErrorKind::InvalidInput);
    });
}

#[test]
fn connect_tries_every_address_and_reports_refusal() {
    on_fibers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let closed = {
            let gone = TcpListener::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap()
        };
        let stream = TcpStream::connect(&[closed, good][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let refused = TcpStream::connect(closed).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let none: [SocketAddr; 0] = [];
        assert_eq!(TcpStream::connect(&none[..]).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(TcpStream::connect(("localhost", good.port())).is_ok(), "names are looked up");
    });
}

#[test]
fn many_fibers_accept_from_one_listener() {
    on_fibers(3, || {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let acceptors: Vec<_> = (0..6)
            .map(|_| {
                let (listener, accepted) = (Arc::clone(&listener), Arc::clone(&accepted));
                spawn(move || {
                    while listener.accept().is_ok() {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        wait_for("a hundred connections", || accepted.load(Ordering::Relaxed) == 100);
        listener.shutdown().unwrap();
        acceptors.into_iter().for_each(|acceptor| acceptor.join().unwrap());
        drop(clients);
    });
}

#[test]
fn sockets_of_std_are_taken_over() {
    on_fibers(1, || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = thread::spawn(move || converse(std::net::TcpStream::connect(address).unwrap(), 0, 20));
        let listener = TcpListener::from_std(listener).unwrap();
        echo(listener, 1);
        client.join().unwrap();
    });
}

#[test]
fn a_cancelled_reader_ends_and_leaves_the_stream_usable() {
    on_fibers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let reader = {
            let mut server = server.try_clone().unwrap();
            spawn_local(move || server.read(&mut [0; 8]).map(drop))
        };
        yield_now();
        reader.cancel();
        assert!(fiber_runtime::Cancelled::is_in(&reader.join().unwrap().unwrap_err()));
        client.write_all(b"still").unwrap();
        let mut word = [0; 5];
        server.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"still");
    });
}
