//! The fault proxy in front of an echo server: what passes, what waits, what breaks.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use moon_tests::proxy::{Direction, Fault, Proxy};

fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn echo(stream: &mut TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

fn hears_nothing(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
}

/// The proxy counts bytes after it has passed them on, so whoever got them may be ahead of the count.
fn passes(proxy: &Proxy, direction: Direction, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while proxy.passed(direction) < bytes && Instant::now() < deadline {
        thread::yield_now();
    }
    assert_eq!(proxy.passed(direction), bytes);
}

#[test]
fn everything_passes_without_faults() {
    let proxy = Proxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    for _ in 0..10 {
        echo(&mut stream);
    }
    passes(&proxy, Direction::Request, 50);
    passes(&proxy, Direction::Reply, 50);
}

#[test]
fn delay_holds_bytes_back() {
    let proxy = Proxy::start(echo_server()).unwrap();
    proxy.set(Direction::Reply, Fault { delay: Duration::from_millis(80), ..Fault::default() });
    let started = Instant::now();
    echo(&mut connect(&proxy));
    assert!(started.elapsed() >= Duration::from_millis(80), "{:?}", started.elapsed());
}

#[test]
fn partition_keeps_connections_open_and_bytes_for_later() {
    let proxy = Proxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    echo(&mut stream);
    proxy.partition();
    stream.write_all(b"later").unwrap();
    hears_nothing(&mut stream);
    proxy.heal();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"later");
}

#[test]
fn half_open_connection_delivers_requests_and_no_replies() {
    let proxy = Proxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    echo(&mut stream);
    proxy.set(Direction::Reply, Fault { silent: true, ..Fault::default() });
    stream.write_all(b"asked").unwrap();
    hears_nothing(&mut stream);
    passes(&proxy, Direction::Request, 10);
    passes(&proxy, Direction::Reply, 5);
}

#[test]
fn dropped_connection_is_seen_by_the_client() {
    let proxy = Proxy::start(echo_server()).unwrap();
    let mut stream = connect(&proxy);
    echo(&mut stream);
    proxy.drop_connections();
    let end = stream.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    echo(&mut connect(&proxy)); // New ones are welcome.
}

#[test]
fn unreachable_server_closes_the_connection() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(nobody).unwrap();
    let end = connect(&proxy).read(&mut [0; 1]);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}
