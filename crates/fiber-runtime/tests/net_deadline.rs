//! Timeouts and deadlines of sockets: one per call, exact enough, in fibers and in threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use common::{in_millis, on_fibers};
use fiber_runtime::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use fiber_runtime::{spawn, time};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Both on a fiber and on a plain thread.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

#[test]
fn read_times_out_after_its_timeout_and_not_before() {
    everywhere(|| {
        let (mut client, _server) = pair();
        client.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let start = Instant::now();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(30), "{took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn deadline_is_for_all_calls_together() {
    everywhere(|| {
        let (mut client, mut server) = pair();
        let deadline = in_millis(40);
        client.set_read_deadline(Some(deadline));
        server.write_all(b"a").unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(time::now() >= deadline);
        // Past the deadline: what is there is still received, and waiting is over at once.
        server.write_all(b"b").unwrap();
        let patience = Instant::now() + common::PATIENCE;
        while client.read(&mut [0; 8]).is_err() {
            assert!(Instant::now() < patience);
        }
        client.set_read_deadline(None);
        assert_eq!(client.read_deadline(), None);
    });
}

#[test]
fn the_earlier_of_timeout_and_deadline_counts() {
    everywhere(|| {
        let (mut client, _server) = pair();
        client.set_read_timeout(Some(Duration::from_secs(3600))).unwrap();
        client.set_read_deadline(Some(in_millis(10)));
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        client.set_read_deadline(Some(in_millis(3_600_000)));
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn write_into_a_full_connection_times_out() {
    everywhere(|| {
        let (mut client, _server) = pair();
        client.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let block = vec![0; 1 << 20];
        let mut blocks = 0;
        let error = loop {
            match client.write_all(&block) {
                Ok(()) => blocks += 1,
                Err(error) => break error,
            }
            assert!(blocks < 1_000, "the peer reads nothing, and yet there is room");
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn accept_waits_until_its_deadline() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_deadline(Some(in_millis(10)));
        assert_eq!(listener.accept().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
        listener.set_deadline(None);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().is_ok());
    });
}

#[test]
fn datagrams_and_unix_streams_time_out_too() {
    everywhere(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(socket.recv_from(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        let (mut one, _other) = UnixStream::pair().unwrap();
        one.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(one.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_timeout_of_zero_is_refused() {
    let (client, _server) = pair();
    assert_eq!(client.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    client.set_write_timeout(Some(Duration::MAX)).unwrap();
    assert_eq!(client.write_timeout(), Some(Duration::MAX));
}

#[test]
fn clones_share_limits_and_the_two_directions_have_their_own() {
    let (client, _server) = pair();
    let clone = client.try_clone().unwrap();
    client.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    assert_eq!(clone.read_timeout(), Some(Duration::from_millis(5)));
    assert_eq!(clone.write_timeout(), None);
}

#[test]
fn a_reader_that_is_woken_for_nothing_keeps_its_deadline() {
    // Two fibers read from one stream; each byte wakes both, and one of them waits on: its deadline must not move.
    on_fibers(1, || {
        let (client, mut server) = pair();
        client.set_read_timeout(Some(Duration::from_millis(60))).unwrap();
        let start = Instant::now();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut client = client.try_clone().unwrap();
                spawn(move || {
                    let mut received = 0;
                    loop {
                        let begun = Instant::now();
                        match client.read(&mut [0]) {
                            Ok(count) => received += count,
                            Err(error) => return (received, error.kind(), begun.elapsed()),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..6 {
            server.write_all(b"x").unwrap();
            time::sleep(Duration::from_millis(5));
        }
        let mut total = 0;
        for reader in readers {
            let (received, kind, last_call) = reader.join().unwrap();
            total += received;
            assert_eq!(kind, ErrorKind::TimedOut);
            assert!(last_call < Duration::from_secs(5), "{last_call:?}");
        }
        assert_eq!(total, 6);
        assert!(start.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_simulation_has_no_descriptors_to_wait_for() {
    let kind = fiber_runtime::sim::Sim::new(3).run(|| {
        let (mut one, _other) = UnixStream::pair().unwrap();
        one.read(&mut [0]).unwrap_err().kind()
    });
    assert_eq!(kind, ErrorKind::Unsupported);
}
