//! Connecting to one of several addresses.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use common::{in_millis, on_fibers};
use fiber_runtime::net::{ConnectError, TcpListener, TcpSocket, TcpStream};
use fiber_runtime::{spawn, yield_now};

/// Both on a fiber and on a plain thread.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens.
fn refusing() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener whose queue is full, so that the kernel ignores further connections: an address that does not answer.
struct Silent {
    address: SocketAddr,
    _listener: StdListener,
    _queued: Vec<socket2::Socket>,
}

impl Silent {
    fn new() -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        };
        let silent = Self { address, _listener: listener, _queued: (0..4).map(|_| connect()).collect() };
        std::thread::sleep(Duration::from_millis(20));
        silent
    }
}

#[test]
fn an_address_that_does_not_answer_costs_a_quarter_of_a_second() {
    everywhere(|| {
        let silent = Silent::new();
        let (_listener, address) = listener();
        let start = Instant::now();
        let stream = TcpStream::connect(&[silent.address, address][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(250), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}

#[test]
fn an_address_that_refuses_costs_nothing() {
    everywhere(|| {
        let (listener, address) = listener();
        let mut stream = TcpStream::connect(&[refusing(), refusing(), address][..]).unwrap();
        // What comes out is an ordinary blocking stream.
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"hi").unwrap();
        drop(server);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
    });
}

#[test]
fn the_errors_of_all_addresses_are_told() {
    everywhere(|| {
        let addresses = [refusing(), refusing()];
        let error = TcpStream::connect(&addresses[..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let all = error.get_ref().and_then(|inner| inner.downcast_ref::<ConnectError>()).unwrap();
        let tried: Vec<_> = all.attempts().iter().map(|(address, _)| *address).collect();
        assert_eq!(tried, addresses);
        assert!(error.to_string().contains(&addresses[1].to_string()), "{error}");
        // Of a single one, the kernel's own.
        let error = TcpStream::connect(addresses[0]).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error().is_some()), (ErrorKind::ConnectionRefused, true));
        assert_eq!(TcpStream::connect(&[][..]).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_deadline_bounds_all_attempts_together() {
    everywhere(|| {
        let silent = [Silent::new(), Silent::new()];
        let addresses = [silent[0].address, silent[1].address, silent[0].address];
        let start = Instant::now();
        let error = TcpStream::connect_until(&addresses[..], Some(in_millis(400))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(400));
        assert!(start.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_fiber_that_is_cancelled_while_it_connects_ends() {
    on_fibers(1, || {
        let silent = Silent::new();
        let addresses = [silent.address, silent.address];
        let connecting = spawn(move || TcpStream::connect(&addresses[..]).map(drop));
        yield_now();
        connecting.cancel();
        assert!(connecting.join().unwrap().is_err());
    });
}

#[test]
fn a_socket_takes_options_before_it_connects_or_listens() {
    everywhere(|| {
        let one = TcpSocket::new_v4().unwrap();
        one.set_reuse_port(true).unwrap();
        one.set_reuse_address(true).unwrap();
        one.set_recv_buffer_size(64 * 1024).unwrap();
        one.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let first = one.listen(16).unwrap();
        let address = first.local_addr().unwrap();
        let other = TcpSocket::new_v4().unwrap();
        other.set_reuse_port(true).unwrap();
        other.bind(address).unwrap();
        drop(other.listen(16).unwrap());
        let client = TcpSocket::new_v4().unwrap();
        client.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = client.connect(address, Some(in_millis(30_000))).unwrap();
        let (server, peer) = first.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(server.recv_buffer_size().unwrap() >= 64 * 1024);
    });
}

#[test]
fn options_of_a_stream_are_set_and_read_back() {
    let (_listener, address) = listener();
    let client = TcpStream::connect(address).unwrap();
    client.set_ttl(17).unwrap();
    assert_eq!(client.ttl().unwrap(), 17);
    client.set_linger(Some(Duration::ZERO)).unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
    assert!(!client.keepalive().unwrap());
    client.set_keepalive(Some((Duration::from_secs(30), Duration::from_secs(5)))).unwrap();
    assert!(client.keepalive().unwrap());
    // What has no method is reached by way of the descriptor.
    let socket = socket2::SockRef::from(&client);
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
    client.set_keepalive(None).unwrap();
    assert!(!client.keepalive().unwrap());
    client.set_send_buffer_size(100_000).unwrap();
    assert!(client.send_buffer_size().unwrap() >= 100_000);
    assert!(client.take_error().unwrap().is_none());
}
