//! A channel whose peer closes, resets, stalls, refuses or comes back.
// A helper unwraps as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use fiber_rpc::frame::{HeaderRef, Kind};
use fiber_rpc::{CallError, Channel, ChannelConfig, ChannelState, Code, NotSent, ServerLimits, Unknown};
use fiber_runtime::net::TcpListener;
use fiber_runtime::{spawn, time};
use support::*;

fn listen() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind(any_address()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn pong(id: u64) -> Vec<u8> {
    frame(&HeaderRef::new(Kind::Pong, id), b"")
}

#[test]
fn new_channel_is_disconnected_and_connects_on_first_use() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        assert_eq!((channel.state(), channel.stats().connects), (ChannelState::Disconnected, 0));
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        assert!(channel.wait_state(ChannelState::Healthy, soon()));
        assert_eq!(channel.stats().connects, 1);
        server.shutdown(soon());
    });
}

#[test]
fn peer_that_closes_ends_calls_as_unknown_and_the_channel_reconnects() {
    run(1, || {
        let (listener, address) = listen();
        let peer = spawn(move || {
            // The first connection is closed after its first call, the second one serves.
            let mut first = RawPeer::over(listener.accept().unwrap().0);
            first.receive_call().unwrap();
            drop(first);
            let mut second = RawPeer::over(listener.accept().unwrap().0);
            while let Some(frame) = second.receive() {
                match frame.header.kind() {
                    Some(Kind::Ping) => second.send(&pong(frame.header.call_id)),
                    _ => second.send(&response(frame.header.call_id, b"second")),
                }
            }
        });
        let channel = Channel::new(address, patient());
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        assert!(
            matches!(&error, CallError::OutcomeUnknown { reason: Unknown::ConnectionLost { .. }, .. }),
            "{error}"
        );
        assert!(channel.wait_state(ChannelState::Healthy, soon()));
        assert_eq!(channel.call(ANY, "echo", Bytes::new(), soon()).unwrap(), "second");
        assert_eq!(channel.stats().connects, 2);
        drop(channel);
        peer.join().unwrap();
    });
}

#[test]
fn reset_ends_calls_as_unknown() {
    run(1, || {
        let (listener, address) = listen();
        let (called, close) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let peer = spawn({
            let close = Arc::clone(&close);
            move || {
                let stream = listener.accept().unwrap().0;
                eventually("the call is on its way", || close.load(Ordering::SeqCst));
                // Closing with unread bytes resets the connection.
                drop(stream);
                drop(listener);
            }
        });
        let channel = Channel::new(address, patient());
        let caller = spawn({
            let (channel, called) = (channel.clone(), Arc::clone(&called));
            move || {
                let outcome = channel.call(ANY, "echo", Bytes::from(vec![0; 100_000]), soon());
                called.store(true, Ordering::SeqCst);
                outcome
            }
        });
        eventually("the call is written", || {
            let stats = channel.stats();
            stats.connects == 1 && stats.calls_in_flight == 1 && stats.pings == 1 && stats.outbox_frames == 0
        });
        close.store(true, Ordering::SeqCst);
        let error = caller.join().unwrap().unwrap_err();
        assert!(
            matches!(&error, CallError::OutcomeUnknown { reason: Unknown::ConnectionLost { .. }, .. }),
            "{error}"
        );
        peer.join().unwrap();
        assert!(called.load(Ordering::SeqCst));
        eventually("nobody listens any more", || channel.stats().connect_failures > 0);
        channel.close();
    });
}

#[test]
fn stalled_peer_is_never_healthy_and_gone_after_its_probes() {
    run(1, || {
        let (listener, address) = listen();
        let channel = Channel::new(address, quick());
        let begin = time::now();
        // The kernel accepts; nobody answers.
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        let took = begin.elapsed();
        assert!(
            matches!(&error, CallError::OutcomeUnknown { reason: Unknown::ConnectionLost { cause }, .. }
                if cause.contains("3 pings")),
            "{error}"
        );
        assert!(took >= millis(145), "three probes of 50 ms, but it took {took:?}");
        assert!(took < millis(5000), "{took:?}");
        assert_eq!(channel.stats().pings, 3);
        // Up to Probing, down to Disconnected, never Healthy.
        eventually("the channel is disconnected", || channel.stats().state_changes >= 2);
        channel.close();
        drop(listener);
    });
}

#[test]
fn peer_that_stops_answering_goes_from_healthy_over_probing_to_disconnected() {
    run(1, || {
        let (listener, address) = listen();
        let silent = Arc::new(AtomicBool::new(false));
        let peer = spawn({
            let silent = Arc::clone(&silent);
            move || {
                let mut peer = RawPeer::over(listener.accept().unwrap().0);
                while let Some(frame) = peer.receive() {
                    if !silent.load(Ordering::SeqCst) {
                        peer.send(&pong(frame.header.call_id));
                    }
                }
            }
        });
        let channel = Channel::new(address, quick());
        channel.connect();
        assert!(channel.wait_state(ChannelState::Healthy, soon()));
        eventually("heartbeats are answered", || channel.stats().pings >= 3);
        silent.store(true, Ordering::SeqCst);
        let begin = time::now();
        assert_eq!(channel.wait_state_change(ChannelState::Healthy, soon()), Some(ChannelState::Probing));
        assert_eq!(
            channel.wait_state_change(ChannelState::Probing, soon()),
            Some(ChannelState::Disconnected)
        );
        // Heartbeat of 60 ms, then three pings of 50 ms each.
        assert!(begin.elapsed() < millis(5000), "{:?}", begin.elapsed());
        channel.close();
        peer.join().unwrap();
    });
}

#[test]
fn idle_connection_is_kept_by_pings() {
    run(1, || {
        let server = serve(ServerLimits { idle_timeout: millis(600), ..ServerLimits::default() });
        let mut config = patient();
        config.health.heartbeat_interval = millis(60);
        let channel = Channel::new(server.local_addr(), config);
        channel.connect();
        // Fifteen heartbeats of 60 ms are longer than an idle timeout.
        eventually("fifteen pings", || channel.stats().pings >= 15);
        assert_eq!((channel.state(), channel.stats().connects), (ChannelState::Healthy, 1));
        server.shutdown(soon());
    });
}

#[test]
fn refused_connect_fails_calls_at_once_and_a_server_that_comes_back_is_found() {
    run(1, || {
        let (listener, address) = listen();
        drop(listener);
        let channel = Channel::new(address, patient());
        let begin = time::now();
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        assert!(matches!(&error, CallError::NotSent { reason: NotSent::Disconnected { .. }, .. }), "{error}");
        assert!(error.to_string().contains("connect failed"), "{error}");
        assert!(begin.elapsed() < millis(2000));
        eventually("it goes on trying", || channel.stats().connect_failures >= 5);
        let server = fiber_rpc::Server::builder().service(Any::default()).bind(address).unwrap().spawn();
        assert!(channel.wait_state(ChannelState::Healthy, soon()));
        assert_eq!(channel.call(ANY, "echo", Bytes::from("back"), soon()).unwrap(), "back");
        server.shutdown(soon());
    });
}

#[test]
fn outbox_of_a_peer_that_reads_nothing_stays_bounded_and_refuses_as_not_sent() {
    run(1, || {
        let (_listener, address) = listen();
        let config = ChannelConfig { outbox_bytes: 1 << 20, ..patient() };
        let channel = Channel::new(address, config);
        channel.connect();
        assert!(channel.wait_state(ChannelState::Probing, soon()));
        let mut refused = 0;
        for _ in 0..4000 {
            match channel.send(ANY, "note", Bytes::from(vec![0; 10_000])) {
                Ok(()) => {}
                Err(CallError::NotSent { reason: NotSent::OutboxFull { .. }, .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            assert!(channel.stats().outbox_bytes <= 1 << 20);
            fiber_runtime::yield_now();
        }
        assert!(refused > 100, "40 MB went somewhere");
        // A call waits for room until its deadline, and was not sent then.
        let begin = time::now();
        let error = channel.call(ANY, "echo", Bytes::from(vec![0; 10_000]), begin + millis(80)).unwrap_err();
        assert!(error.is_not_sent(), "{error}");
        assert!(begin.elapsed() >= millis(80));
        channel.close();
    });
}

#[test]
fn calls_to_a_stopped_peer_end_by_their_deadline_and_say_whether_they_were_sent() {
    run(2, || {
        let (_listener, address) = listen();
        let channel = Channel::new(address, patient());
        channel.connect();
        assert!(channel.wait_state(ChannelState::Probing, soon()));
        let begin = time::now();
        let callers: Vec<_> = (0..40)
            .map(|_| {
                let channel = channel.clone();
                spawn(move || {
                    channel.call(ANY, "echo", Bytes::from(vec![0; 1 << 20]), begin + millis(300)).unwrap_err()
                })
            })
            .collect();
        let errors: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        let took = begin.elapsed();
        assert!(took >= millis(300) && took < millis(5000), "{took:?}");
        let unsent = errors.iter().filter(|error| error.is_not_sent()).count();
        assert!(unsent > 0, "40 MB fit in no socket");
        assert!(unsent < errors.len(), "the first ones were on their way");
        channel.close();
    });
}

#[test]
fn closed_channel_ends_its_calls_and_takes_no_more() {
    run(2, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let caller = spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "sleep", Bytes::from("300"), soon())
        });
        eventually("the call runs", || server.stats().calls_running == 1);
        channel.close();
        let error = caller.join().unwrap().unwrap_err();
        assert!(matches!(error, CallError::OutcomeUnknown { .. }), "{error}");
        for error in [
            channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err(),
            channel.send(ANY, "note", Bytes::new()).unwrap_err(),
        ] {
            assert!(matches!(error, CallError::NotSent { reason: NotSent::Closed, .. }), "{error}");
        }
        assert_eq!(channel.state(), ChannelState::Disconnected);
        eventually("the server sees it", || server.stats().connections == 0);
        server.shutdown(soon());
    });
}

#[test]
fn last_handle_closes_the_connection() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let second = channel.clone();
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        drop(channel);
        second.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        assert_eq!(server.stats().connections, 1);
        drop(second);
        eventually("the connection ends", || server.stats().connections == 0);
        server.shutdown(soon());
    });
}

#[test]
fn peer_that_goes_away_finishes_its_calls_and_gets_no_new_ones() {
    run(1, || {
        let (listener, address) = listen();
        let known = Arc::new(AtomicBool::new(false));
        let peer = spawn({
            let known = Arc::clone(&known);
            move || {
                let mut peer = RawPeer::over(listener.accept().unwrap().0);
                let call = peer.receive_call().unwrap();
                let away =
                    HeaderRef { status_code: Code::Unavailable.to_wire(), ..HeaderRef::new(Kind::GoAway, 0) };
                peer.send(&frame(&away, b""));
                eventually("the channel refuses calls", || known.load(Ordering::SeqCst));
                peer.send(&response(call.header.call_id, b"finished"));
                // The channel closes when its last call has ended; only notes may have been on their way.
                while let Some(frame) = peer.receive_call() {
                    assert_eq!(frame.header.kind(), Some(Kind::OneWay));
                }
            }
        });
        let channel = Channel::new(address, patient());
        let caller = spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "echo", Bytes::new(), soon())
        });
        // One-way sends pass until the go-away is seen.
        eventually("the channel knows", || {
            let sent = channel.send(ANY, "note", Bytes::new());
            matches!(sent, Err(CallError::NotSent { reason: NotSent::GoingAway, .. }))
        });
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        assert!(error.is_not_sent(), "{error}");
        known.store(true, Ordering::SeqCst);
        assert_eq!(caller.join().unwrap().unwrap(), "finished");
        peer.join().unwrap();
        channel.close();
    });
}

#[test]
fn malformed_frame_from_a_server_costs_the_connection_and_nothing_else() {
    run(1, || {
        let (listener, address) = listen();
        let peer = spawn(move || {
            let mut first = RawPeer::over(listener.accept().unwrap().0);
            first.receive_call().unwrap();
            first.send(b"\x00\x00\x00");
            assert_eq!(first.receive_call(), None);
            let mut second = RawPeer::over(listener.accept().unwrap().0);
            let call = second.receive_call().unwrap();
            second.send(&response(call.header.call_id, b"fine"));
            while second.receive().is_some() {}
        });
        let channel = Channel::new(address, patient());
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        assert!(error.to_string().contains("malformed frame"), "{error}");
        let mut outcome = Err(error);
        while outcome.as_ref().is_err_and(|error| !error.to_string().contains("deadline")) {
            outcome = channel.call(ANY, "echo", Bytes::new(), soon());
            fiber_runtime::yield_now();
        }
        assert_eq!(outcome.unwrap(), "fine");
        drop(channel);
        peer.join().unwrap();
    });
}

#[test]
fn plain_thread_can_call_too() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let thread = std::thread::spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "echo", Bytes::from("thread"), soon()).unwrap()
        });
        eventually("the thread is done", || thread.is_finished());
        assert_eq!(thread.join().unwrap(), "thread");
        server.shutdown(soon());
    });
}
