//! What a server takes from a peer that is broken, slow, greedy or hostile.

mod support;

use fiber_rpc::frame::Kind;
use fiber_rpc::{Code, ServerLimits};
use fiber_runtime::time;
use support::*;

fn limits() -> ServerLimits {
    ServerLimits::default()
}

#[test]
fn malformed_frame_is_named_and_costs_only_its_connection() {
    run(1, || {
        let server = serve(limits());
        let mut good = RawPeer::connect(server.local_addr());
        for garbage in [
            &b"\x00"[..],
            b"\xff\xff\xff\xff\xff\xff",
            b"\x02\xff\xff",
            b"\xff\x7f",
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let mut bad = RawPeer::connect(server.local_addr());
            bad.send(&request(1, "inline_echo", b"before"));
            bad.send(garbage);
            if garbage.starts_with(b"GET") {
                // A length of 71: the header is complete with the next bytes.
                bad.send(&[b'x'; 80]);
            }
            assert_eq!(bad.receive().unwrap().payload, "before");
            let away = bad.receive().unwrap();
            assert_eq!(away.header.kind(), Some(Kind::GoAway), "{garbage:?}");
            assert_eq!(Code::from_wire(away.header.status_code), Code::InvalidArgument);
            assert!(String::from_utf8_lossy(&away.header.status_message).contains("malformed frame"));
            assert_eq!(bad.receive(), None);
        }
        good.send(&request(1, "echo", b"unharmed"));
        assert_eq!(good.receive().unwrap().payload, "unharmed");
        assert_eq!(server.stats().malformed, 5);
        server.shutdown(soon());
    });
}

#[test]
fn no_single_flipped_bit_harms_the_server() {
    run(2, || {
        let server = serve(ServerLimits { frame_timeout: millis(100), ..limits() });
        let whole = request(7, "inline_echo", b"payload");
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut peer = RawPeer::connect(server.local_addr());
            peer.send(&damaged);
            peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Whatever it means to the server, it answers and closes, or just closes.
            while peer.receive().is_some() {}
        }
        let mut peer = RawPeer::connect(server.local_addr());
        peer.send(&whole);
        assert_eq!(peer.receive().unwrap().payload, "payload");
        server.shutdown(soon());
    });
}

#[test]
fn frame_that_trickles_in_is_cut_off() {
    run(1, || {
        let server = serve(ServerLimits { frame_timeout: millis(80), ..limits() });
        let mut peer = RawPeer::connect(server.local_addr());
        peer.send(&request(1, "inline_echo", b"quick"));
        assert_eq!(peer.receive().unwrap().payload, "quick");
        let begin = time::now();
        let slow = request(2, "inline_echo", b"slow");
        peer.send(&slow[..slow.len() - 2]);
        assert_eq!(peer.receive(), None);
        let took = begin.elapsed();
        assert!(took >= millis(75) && took < millis(5000), "{took:?}");
        server.shutdown(soon());
    });
}

#[test]
fn large_frame_has_the_time_its_size_needs() {
    run(1, || {
        // 100 ms for the frame and 1 s more for each 100 kB.
        let server =
            serve(ServerLimits { frame_timeout: millis(100), min_bytes_per_second: 100_000, ..limits() });
        let mut peer = RawPeer::connect(server.local_addr());
        let bytes = request(1, "echo", &pattern(500_000));
        let (first, second) = bytes.split_at(1000);
        peer.send(first);
        time::sleep(millis(300));
        peer.send(second);
        assert!(peer.receive().unwrap().payload == pattern(500_000));
        server.shutdown(soon());
    });
}

#[test]
fn connection_without_a_first_frame_is_closed() {
    run(1, || {
        let server = serve(ServerLimits { handshake_timeout: millis(80), ..limits() });
        let begin = time::now();
        let mut peer = RawPeer::connect(server.local_addr());
        assert_eq!(peer.receive(), None);
        let took = begin.elapsed();
        assert!(took >= millis(75) && took < millis(5000), "{took:?}");
        server.shutdown(soon());
    });
}

#[test]
fn idle_connection_is_closed_but_not_while_a_call_runs() {
    run(1, || {
        let server = serve(ServerLimits { idle_timeout: millis(80), ..limits() });
        let mut peer = RawPeer::connect(server.local_addr());
        peer.send(&request(1, "sleep", b"300"));
        assert_eq!(peer.receive().unwrap().payload, "300", "four idle timeouts later");
        assert_eq!(peer.receive(), None);
        server.shutdown(soon());
    });
}

#[test]
fn connection_beyond_the_limit_is_told_so() {
    run(1, || {
        let server = serve(ServerLimits { max_connections: 2, ..limits() });
        let mut peers: Vec<_> = (0..2).map(|_| RawPeer::connect(server.local_addr())).collect();
        for peer in &mut peers {
            peer.send(&request(1, "echo", b"in"));
            assert_eq!(peer.receive().unwrap().payload, "in");
        }
        let mut third = RawPeer::connect(server.local_addr());
        let away = third.receive().unwrap();
        assert_eq!(away.header.kind(), Some(Kind::GoAway));
        assert_eq!(Code::from_wire(away.header.status_code), Code::Overloaded);
        assert_eq!(third.receive(), None);
        drop(peers.pop());
        eventually("a place is free", || server.stats().connections == 1);
        let mut fourth = RawPeer::connect(server.local_addr());
        fourth.send(&request(1, "echo", b"in"));
        assert_eq!(fourth.receive().unwrap().payload, "in");
        assert_eq!((server.stats().accepted, server.stats().refused), (3, 1));
        server.shutdown(soon());
    });
}

/// A peer that asks for far more than it reads.
#[test]
fn peer_that_does_not_read_its_replies_is_not_read_either() {
    run(1, || {
        let server =
            serve(ServerLimits { write_timeout: millis(300), reply_queue_bytes: 2 << 20, ..limits() });
        let mut greedy = RawPeer::connect(server.local_addr());
        for id in 0..2000 {
            greedy.send(&request(id, "inline_make", b"1000000"));
        }
        // It never reads. The server stops reading and then gives up on it.
        eventually("the greedy peer is cut off", || {
            server.stats().accepted == 1 && server.stats().connections == 0
        });
        let served = server.stats().calls;
        assert!(served < 2000, "it answered {served} calls of a megabyte into the void");
        eventually("nothing of it is left", || server.stats().calls_running == 0);
        let mut peer = RawPeer::connect(server.local_addr());
        peer.send(&request(1, "echo", b"others are served"));
        assert_eq!(peer.receive().unwrap().payload, "others are served");
        server.shutdown(soon());
    });
}

#[test]
fn replies_of_call_fibers_wait_for_room_too() {
    run(1, || {
        let limits = ServerLimits { max_calls_per_connection: 8, reply_queue_bytes: 2 << 20, ..limits() };
        let server = serve(ServerLimits { write_timeout: millis(300), ..limits });
        let mut greedy = RawPeer::connect(server.local_addr());
        for id in 0..500 {
            greedy.send(&request(id, "make", b"1000000"));
        }
        eventually("the greedy peer is cut off", || {
            server.stats().accepted == 1 && server.stats().connections == 0
        });
        eventually("nothing of it is left", || server.stats().calls_running == 0);
        assert!(server.stats().overloaded > 0, "no more than eight calls held a reply");
        server.shutdown(soon());
    });
}

#[test]
fn half_closed_peer_still_gets_its_replies() {
    run(1, || {
        let server = serve(limits());
        let mut peer = RawPeer::connect(server.local_addr());
        peer.send(&request(1, "sleep", b"100"));
        peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(peer.receive().unwrap().payload, "100");
        assert_eq!(peer.receive(), None);
        server.shutdown(soon());
    });
}
