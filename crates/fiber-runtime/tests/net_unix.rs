//! Stream sockets within the machine.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use common::on_fibers;
use fiber_runtime::net::{UnixListener, UnixStream};
use fiber_runtime::spawn;

#[test]
fn fibers_talk_over_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_fibers(2, move || {
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_path().unwrap().as_deref(), Some(path.as_path()));
        assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let server = spawn(move || {
            for _ in 0..10 {
                let mut stream = listener.accept().unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                stream.write_all(text.to_uppercase().as_bytes()).unwrap();
            }
        });
        for number in 0..10 {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(format!("hello {number}").as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("HELLO {number}"));
        }
        server.join().unwrap();
    });
}

#[test]
fn a_pair_carries_more_than_it_can_hold() {
    on_fibers(1, || {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let writer = spawn(move || one.write_all(&vec![5; 4 << 20]).unwrap());
        let mut all = Vec::new();
        other.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 4 << 20);
        writer.join().unwrap();
    });
}

#[test]
fn nobody_listening_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nobody");
    on_fibers(1, move || {
        assert_eq!(UnixStream::connect(path).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn std_streams_are_taken_over_and_peek_leaves_the_bytes() {
    on_fibers(1, || {
        let (one, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut one = UnixStream::from_std(one);
        assert_eq!(one.read(&mut []).unwrap(), 0, "room for nothing is filled at once");
        other.write_all(b"xyz").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(one.peek(&mut buffer).unwrap(), 3);
        assert_eq!(one.read(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"xyz");
    });
}

#[test]
fn a_listener_that_is_shut_down_ends_those_who_accept() {
    on_fibers(1, || {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let accepting = listener.try_clone().unwrap();
        let waiter = spawn(move || accepting.accept().map(drop).unwrap_err().kind());
        fiber_runtime::yield_now();
        listener.shutdown().unwrap();
        assert_eq!(waiter.join().unwrap(), std::io::ErrorKind::InvalidInput);
        assert_eq!(listener.accept().map(drop).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    });
}
