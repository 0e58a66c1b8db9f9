//! Datagrams within the machine, and what datagram sockets have beyond sending and receiving.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use common::on_fibers;
use fiber_runtime::net::{UdpSocket, UnixDatagram};
use fiber_runtime::{spawn, yield_now};

/// Both on a fiber and on a plain thread.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

#[test]
fn datagrams_by_path_keep_their_borders_and_name_their_sender() {
    everywhere(|| {
        let directory = tempfile::tempdir().unwrap();
        let (here, there) = (directory.path().join("here"), directory.path().join("there"));
        let one = UnixDatagram::bind(&here).unwrap();
        let other = UnixDatagram::bind(&there).unwrap();
        assert_eq!(one.local_path().unwrap(), Some(here.clone()));
        for length in [0, 1, 100] {
            one.send_to(&vec![7; length], &there).unwrap();
            let mut buffer = [0; 200];
            assert_eq!(other.recv_from(&mut buffer).unwrap(), (length, Some(here.clone())));
        }
        let nameless = UnixDatagram::unbound().unwrap();
        nameless.connect(&there).unwrap();
        nameless.send(b"who").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(other.peek(&mut buffer).unwrap(), 3, "peeking leaves the datagram");
        assert_eq!(other.recv_from(&mut buffer).unwrap(), (3, None));
        assert_eq!(UnixDatagram::bind(&here).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(nameless.connect("/nonexistent").unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_sender_waits_for_a_full_receiver() {
    on_fibers(2, || {
        let (one, other) = UnixDatagram::pair().unwrap();
        let sender = spawn(move || {
            for number in 0..5000_u32 {
                one.send(&number.to_le_bytes()).unwrap();
            }
        });
        let mut buffer = [0; 4];
        for number in 0..5000 {
            assert_eq!(other.recv(&mut buffer).unwrap(), 4);
            assert_eq!(u32::from_le_bytes(buffer), number);
        }
        sender.join().unwrap();
    });
}

#[test]
fn waiting_has_a_deadline_in_both_directions() {
    everywhere(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        other.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        assert_eq!(other.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        one.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
        let full = (0..100_000).find_map(|_| one.send(&[0; 1000]).err()).unwrap();
        assert_eq!(full.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn sockets_of_std_are_taken_over_and_shared() {
    on_fibers(1, || {
        let (one, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let (one, other) = (UnixDatagram::from_std(one), UnixDatagram::from_std(other));
        let clone = other.try_clone().unwrap();
        let waiting = spawn(move || clone.recv(&mut [0; 8]).unwrap());
        yield_now();
        one.send(b"abc").unwrap();
        assert_eq!(waiting.join().unwrap(), 3);
        other.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(one.send(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn udp_has_groups_and_options() {
    everywhere(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_ttl(9).unwrap();
        assert_eq!(socket.ttl().unwrap(), 9);
        socket.set_recv_buffer_size(100_000).unwrap();
        assert!(socket.recv_buffer_size().unwrap() >= 100_000);
        assert!(socket.take_error().unwrap().is_none());
        let (group, any) = (Ipv4Addr::new(239, 1, 2, 3), Ipv4Addr::LOCALHOST);
        socket.join_multicast_v4(&group, &any).unwrap();
        socket.leave_multicast_v4(&group, &any).unwrap();
        assert!(socket.leave_multicast_v4(&group, &any).is_err());
        assert!(socket.join_multicast_v4(&Ipv4Addr::LOCALHOST, &any).is_err(), "not a group");
        let own = ("127.0.0.1", socket.local_addr().unwrap().port());
        socket.connect(own).unwrap();
        socket.send(b"self").unwrap();
        assert_eq!(socket.peek(&mut [0; 8]).unwrap(), 4);
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
    });
}
