//! Datagrams between fibers.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use common::on_fibers;
use fiber_runtime::net::UdpSocket;
use fiber_runtime::spawn;

#[test]
fn datagrams_keep_their_borders_and_name_their_sender() {
    on_fibers(2, || {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let echo = spawn(move || {
            let mut buffer = [0; 2048];
            for _ in 0..200 {
                let (count, from) = server.recv_from(&mut buffer).unwrap();
                assert_eq!(server.send_to(&buffer[..count], from).unwrap(), count);
            }
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in 0..200 {
            let datagram = vec![7; length * 5];
            client.send_to(&datagram, address).unwrap();
            let mut buffer = [0; 2048];
            let (count, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..count], from), (&datagram[..], address));
        }
        echo.join().unwrap();
    });
}

#[test]
fn connected_sockets_send_and_receive_without_addresses() {
    on_fibers(1, || {
        let one = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        one.connect(other.local_addr().unwrap()).unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        assert_eq!(one.peer_addr().unwrap(), other.local_addr().unwrap());
        let receiver = other.try_clone().unwrap();
        let waiting = spawn(move || {
            let mut buffer = [0; 16];
            let count = receiver.recv(&mut buffer).unwrap();
            buffer[..count].to_vec()
        });
        fiber_runtime::yield_now();
        one.send(b"hello").unwrap();
        assert_eq!(waiting.join().unwrap(), b"hello");
        other.send(b"back").unwrap();
        let mut buffer = [0; 16];
        let (count, _) = one.peek_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"back");
        assert_eq!(one.recv(&mut buffer).unwrap(), 4, "peeking leaves the datagram");
    });
}

#[test]
fn sockets_of_std_are_taken_over() {
    on_fibers(1, || {
        let socket = UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let own = socket.local_addr().unwrap();
        socket.send_to(b"me", own).unwrap();
        assert_eq!(socket.recv_from(&mut [0; 8]).unwrap(), (2, own));
        socket.set_broadcast(true).unwrap();
    });
}
