//! A server that stops: in order if its peers let it, by the deadline if not.

mod support;

use bytes::Bytes;
use fiber_rpc::frame::Kind;
use fiber_rpc::{Channel, ChannelState, Code, Server, ServerLimits, ShutdownReport};
use fiber_runtime::{Runtime, spawn, time};
use support::*;

const CLEAN: ShutdownReport = ShutdownReport { abandoned_calls: 0, cut_connections: 0 };

#[test]
fn running_calls_are_finished_and_answered() {
    run(2, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let caller = spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "sleep", Bytes::from("200"), soon())
        });
        eventually("the call runs", || server.stats().calls_running == 1);
        let begin = time::now();
        assert_eq!(server.shutdown(soon()), CLEAN);
        assert!(begin.elapsed() < millis(5000), "{:?}", begin.elapsed());
        assert_eq!(caller.join().unwrap().unwrap(), "200");
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        assert!(error.is_not_sent(), "{error}");
        channel.close();
    });
}

#[test]
fn idle_channels_let_go_at_once() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        let begin = time::now();
        assert_eq!(server.shutdown(soon()), CLEAN);
        assert!(begin.elapsed() < millis(900), "{:?}", begin.elapsed());
        assert!(channel.wait_state(ChannelState::Disconnected, soon()));
        channel.close();
    });
}

#[test]
fn serve_returns_after_shutdown_and_the_address_is_free() {
    run(1, || {
        let server = Server::builder().service(Any::default()).bind(any_address()).unwrap();
        let handle = server.handle();
        let serving = spawn(move || server.serve());
        let address = handle.local_addr();
        Channel::new(address, patient()).call(ANY, "echo", Bytes::new(), soon()).unwrap();
        handle.shutdown(soon());
        serving.join().unwrap();
        drop(handle);
        let again = Server::builder().service(Any::default()).bind(address).unwrap().spawn();
        Channel::new(address, patient()).call(ANY, "echo", Bytes::new(), soon()).unwrap();
        again.shutdown(soon());
    });
}

#[test]
fn calls_that_do_not_end_are_abandoned_at_the_deadline() {
    run(2, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let caller = spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "sleep", Bytes::from("1500"), soon())
        });
        eventually("the call runs", || server.stats().calls_running == 1);
        let begin = time::now();
        let report = server.shutdown(begin + millis(100));
        assert!(begin.elapsed() < millis(1400), "{:?}", begin.elapsed());
        assert_eq!(report, ShutdownReport { abandoned_calls: 1, cut_connections: 1 });
        assert!(!caller.join().unwrap().unwrap_err().is_not_sent());
        channel.close();
        eventually("the call ends in its own time", || server.stats().calls_running == 0);
    });
}

#[test]
fn new_calls_of_a_peer_that_stays_are_answered_with_unavailable() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let mut peer = RawPeer::connect(server.local_addr());
        peer.send(&request(1, "sleep", b"300"));
        eventually("the call runs", || server.stats().calls_running == 1);
        let stopping = spawn({
            let server = server.clone();
            move || server.shutdown(soon())
        });
        assert_eq!(peer.receive().unwrap().header.kind(), Some(Kind::GoAway));
        for method in ["echo", "inline_echo"] {
            peer.send(&request(2, method, b""));
            let reply = peer.receive().unwrap();
            assert_eq!(
                (reply.header.call_id, Code::from_wire(reply.header.status_code)),
                (2, Code::Unavailable)
            );
        }
        assert_eq!(peer.receive().unwrap().payload, "300");
        // It does not close its side and is cut after a grace period.
        assert_eq!(peer.receive(), None);
        assert_eq!(stopping.join().unwrap().cut_connections, 1);
    });
}

#[test]
fn runtime_stops_although_channels_and_servers_are_open() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (server, channel, caller) = runtime.block_on(|| {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let caller = spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "sleep", Bytes::from("60000"), time::now() + millis(60_000))
        });
        eventually("the call runs", || server.stats().calls_running == 1);
        (server, channel, caller)
    });
    let begin = std::time::Instant::now();
    let report = runtime.stop(millis(50));
    assert!(begin.elapsed() < millis(5000), "{:?}", begin.elapsed());
    assert!(report.leftover.is_empty(), "{report}");
    // Accept, connection, its writer, the call; channel, its reader, its writer; the caller.
    assert!(report.cancelled > 0 && report.cancelled <= 8, "{report}");
    assert!(caller.is_finished());
    assert_eq!((server.stats().connections, server.stats().calls_running), (0, 0));
    assert_eq!(channel.in_flight(), 0);
}
