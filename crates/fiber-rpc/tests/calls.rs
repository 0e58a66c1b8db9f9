//! Calls between a channel and a server, as they should go and as they should fail.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fiber_rpc::{CallError, Code, NotSent, Server, ServerLimits, Unknown};
use fiber_runtime::{spawn, time};
use support::*;

#[allow(missing_docs, unreachable_pub)]
mod friend {
    fiber_rpc::include_proto!("fixbug");
}

#[test]
fn payloads_of_every_size_arrive_whole_in_both_directions() {
    run(2, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        for size in [0, 1, 127, 128, 1023, 1024, 1025, 2048, 4096, 65_535, 65_536, 200_000, 1 << 20, 10 << 20]
        {
            let payload = Bytes::from(pattern(size));
            for method in ["echo", "local_echo", "inline_echo"] {
                let reply = channel.call(ANY, method, payload.clone(), soon()).unwrap();
                assert!(reply == payload, "{size} bytes through {method}");
            }
        }
        // As large as the default limit allows.
        let largest = Bytes::from(pattern(64 << 20));
        assert!(channel.call(ANY, "inline_echo", largest.clone(), soon()).unwrap() == largest);
        assert_eq!(channel.stats().connects, 1);
        server.shutdown(soon());
    });
}

#[test]
fn many_calls_share_one_connection_and_none_gets_another_ones_reply() {
    run(4, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let callers: Vec<_> = (0..50)
            .map(|caller| {
                let channel = channel.clone();
                spawn(move || {
                    for round in 0..40 {
                        let method = ["echo", "local_echo", "inline_echo"][round % 3];
                        let payload = Bytes::from(format!("caller {caller}, round {round}"));
                        assert_eq!(channel.call(ANY, method, payload.clone(), soon()).unwrap(), payload);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(server.stats().accepted, 1);
        assert_eq!(server.stats().calls, 2000);
        server.shutdown(soon());
    });
}

#[test]
fn slow_call_does_not_hold_up_a_quick_one() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let slow = spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "sleep", Bytes::from("400"), soon())
        });
        eventually("the slow call runs", || server.stats().calls_running == 1);
        let begin = time::now();
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        assert!(begin.elapsed() < millis(300), "{:?}", begin.elapsed());
        assert_eq!(slow.join().unwrap().unwrap(), "400");
        server.shutdown(soon());
    });
}

#[test]
fn unknown_names_refusals_and_panics_are_typed_and_the_connection_survives() {
    run(2, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let code = |service: &'static str, method: &'static str| match channel.call(
            service,
            method,
            Bytes::new(),
            soon(),
        ) {
            Err(CallError::Remote(status)) => (status.code(), status.message().to_owned()),
            other => panic!("{service}.{method}: {other:?}"),
        };
        assert_eq!(code("test.None", "echo"), (Code::UnknownService, "no service test.None here".into()));
        assert_eq!(
            code(ANY, "nothing"),
            (Code::UnknownMethod, "service test.Any has no method nothing".into())
        );
        assert_eq!(code(ANY, "inline_nothing").0, Code::UnknownMethod);
        assert_eq!(code(ANY, "refuse"), (Code::Application, "not today".into()));
        let refused = channel.call("test.None", "echo", Bytes::new(), soon()).unwrap_err();
        assert!(refused.is_not_executed(), "no service saw it");
        let failed = channel.call(ANY, "refuse", Bytes::new(), soon()).unwrap_err();
        assert!(!failed.is_not_executed(), "the service saw it");
        assert_eq!(code(ANY, "panic").0, Code::Internal);
        assert_eq!(code(ANY, "inline_panic").0, Code::Internal);
        assert_eq!(channel.call(ANY, "echo", Bytes::from("still here"), soon()).unwrap(), "still here");
        assert_eq!(channel.stats().connects, 1);
        server.shutdown(soon());
    });
}

#[test]
fn missed_deadline_is_an_unknown_outcome_and_the_late_reply_is_dropped() {
    run(2, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        let begin = time::now();
        let error = channel.call(ANY, "sleep", Bytes::from("200"), begin + millis(50)).unwrap_err();
        assert!(begin.elapsed() >= millis(50));
        assert!(error.is_deadline() && !error.is_not_sent(), "{error}");
        assert!(matches!(error, CallError::OutcomeUnknown { reason: Unknown::DeadlineExceeded, .. }));
        eventually("the late reply is dropped", || channel.stats().late_replies == 1);
        assert_eq!(channel.call(ANY, "echo", Bytes::from("next"), soon()).unwrap(), "next");
        server.shutdown(soon());
    });
}

#[test]
fn deadline_that_has_passed_sends_nothing() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        let error = channel.call(ANY, "echo", Bytes::new(), time::now()).unwrap_err();
        assert!(matches!(error, CallError::NotSent { reason: NotSent::DeadlineExceeded, .. }), "{error}");
        assert_eq!(server.stats().calls, 1);
        server.shutdown(soon());
    });
}

#[test]
fn service_sees_the_callers_deadline() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        let reply =
            channel.call(ANY, "remaining", Bytes::new(), time::now() + Duration::from_secs(9)).unwrap();
        let left: u64 = String::from_utf8(reply.to_vec()).unwrap().parse().unwrap();
        assert!((5000..=9000).contains(&left), "{left} ms");
        server.shutdown(soon());
    });
}

#[test]
fn call_whose_deadline_passed_on_the_way_is_not_started() {
    run(1, || {
        let any = Any::default();
        let started = Arc::clone(&any.started);
        let server = Server::builder().service(any).bind(any_address()).unwrap().spawn();
        let mut peer = RawPeer::connect(server.local_addr());
        // One microsecond to live, behind a call that takes longer than that on the reader fiber.
        let header = fiber_rpc::frame::HeaderRef {
            service_name: ANY.as_bytes(),
            method_name: b"echo",
            deadline_us: 1,
            ..fiber_rpc::frame::HeaderRef::new(fiber_rpc::frame::Kind::Request, 2)
        };
        let mut bytes = request(1, "inline_make", b"100000");
        bytes.extend(frame(&header, b""));
        peer.send(&bytes);
        assert_eq!(peer.receive().unwrap().header.call_id, 1);
        let reply = peer.receive().unwrap();
        assert_eq!(
            (reply.header.call_id, Code::from_wire(reply.header.status_code)),
            (2, Code::DeadlineExceeded)
        );
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert_eq!(server.stats().expired, 1);
        server.shutdown(soon());
    });
}

#[test]
fn one_way_sends_arrive_and_are_not_answered() {
    run(2, || {
        let any = Any::default();
        let seen = Arc::clone(&any.one_ways);
        let server = Server::builder().service(any).bind(any_address()).unwrap().spawn();
        let channel = channel(&server);
        let error = channel.send(ANY, "note", Bytes::new()).unwrap_err();
        assert!(error.is_not_sent(), "nothing waits for the connection: {error}");
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        for method in ["note", "inline_note"].iter().cycle().take(100) {
            channel.send(ANY, *method, Bytes::from_static(b"payload")).unwrap();
        }
        eventually("all notes arrive", || seen.load(Ordering::SeqCst) == 100);
        assert_eq!(channel.in_flight(), 0);
        server.shutdown(soon());
    });
}

#[test]
fn one_way_to_an_unknown_service_is_dropped_and_the_connection_survives() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = channel(&server);
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        channel.send("test.None", "note", Bytes::new()).unwrap();
        channel.send(ANY, "panic", Bytes::new()).unwrap();
        assert_eq!(channel.call(ANY, "echo", Bytes::from("x"), soon()).unwrap(), "x");
        assert_eq!(channel.stats().connects, 1);
        server.shutdown(soon());
    });
}

#[test]
fn payload_above_the_limit_is_refused_before_it_is_sent() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let mut config = patient();
        config.frame.max_payload = 1000;
        let channel = fiber_rpc::Channel::new(server.local_addr(), config);
        let error = channel.call(ANY, "echo", Bytes::from(vec![0; 1001]), soon()).unwrap_err();
        assert!(matches!(
            error,
            CallError::NotSent { reason: NotSent::TooLarge { size: 1001, limit: 1000 }, .. }
        ));
        let error = channel.call(ANY, "m".repeat(9000), Bytes::new(), soon()).unwrap_err();
        assert!(matches!(error, CallError::NotSent { reason: NotSent::TooLarge { .. }, .. }), "{error}");
        // A reply above it is an unknown outcome, and costs only its own call.
        let error = channel.call(ANY, "make", Bytes::from("100000"), soon()).unwrap_err();
        let expected = Unknown::ReplyTooLarge { size: 100_000, limit: 1000 };
        assert!(matches!(&error, CallError::OutcomeUnknown { reason, .. } if *reason == expected), "{error}");
        assert_eq!(channel.call(ANY, "make", Bytes::from("1000"), soon()).unwrap().len(), 1000);
        assert_eq!(channel.stats().connects, 1);
        server.shutdown(soon());
    });
}

#[test]
fn reply_above_the_servers_limit_is_an_internal_error() {
    run(1, || {
        let mut limits = ServerLimits::default();
        limits.frame.max_payload = 1000;
        let server = serve(limits);
        let channel = channel(&server);
        let error = channel.call(ANY, "make", Bytes::from("1001"), soon()).unwrap_err();
        assert_eq!(error.status().map(|status| status.code()), Some(Code::Internal));
        server.shutdown(soon());
    });
}

#[test]
fn calls_beyond_the_limit_are_answered_with_overloaded() {
    run(2, || {
        let server = serve(ServerLimits { max_calls_per_connection: 2, ..ServerLimits::default() });
        let channel = channel(&server);
        let running: Vec<_> = (0..2)
            .map(|_| {
                let channel = channel.clone();
                spawn(move || channel.call(ANY, "sleep", Bytes::from("300"), soon()))
            })
            .collect();
        eventually("two calls run", || server.stats().calls_running == 2);
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        assert_eq!(error.status().map(|status| status.code()), Some(Code::Overloaded), "{error}");
        assert!(error.is_not_executed() && !error.is_not_sent());
        for call in running {
            call.join().unwrap().unwrap();
        }
        channel.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        assert_eq!(server.stats().overloaded, 1);
        server.shutdown(soon());
    });
}

#[test]
fn channels_limit_on_calls_is_not_sent() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let channel = fiber_rpc::Channel::new(
            server.local_addr(),
            fiber_rpc::ChannelConfig { max_calls: 1, ..patient() },
        );
        let first = spawn({
            let channel = channel.clone();
            move || channel.call(ANY, "sleep", Bytes::from("300"), soon())
        });
        eventually("the first call runs", || server.stats().calls_running == 1);
        let error = channel.call(ANY, "echo", Bytes::new(), soon()).unwrap_err();
        assert!(
            matches!(error, CallError::NotSent { reason: NotSent::TooManyCalls { limit: 1 }, .. }),
            "{error}"
        );
        first.join().unwrap().unwrap();
        server.shutdown(soon());
    });
}

struct Friends;

impl friend::FiendServiceRpc for Friends {
    fn get_friends_list(
        &self,
        _cx: &fiber_rpc::CallContext,
        request: friend::GetFriendsListRequest,
    ) -> Result<friend::GetFriendsListResponse, fiber_rpc::Status> {
        if request.userid == 0 {
            return Err(fiber_rpc::Status::invalid_argument("nobody is number 0"));
        }
        Ok(friend::GetFriendsListResponse {
            result: Some(friend::ResultCode::default()),
            friends: ["gao yang", "liu hong", "wang shuo"].map(Bytes::from).to_vec(),
        })
    }
}

#[test]
fn generated_stubs_call_the_friend_service_of_the_original() {
    run(1, || {
        let service = friend::FiendServiceRpcServer::new(Friends);
        let server = Server::builder().service(service).bind(any_address()).unwrap().spawn();
        let client = friend::FiendServiceRpcClient::new(channel(&server));
        let request = friend::GetFriendsListRequest { userid: 1000 };
        let reply = client.get_friends_list(&request, soon()).unwrap();
        assert_eq!(reply.friends, ["gao yang", "liu hong", "wang shuo"]);
        assert_eq!(reply.result.unwrap().errcode, 0);

        let error =
            client.get_friends_list(&friend::GetFriendsListRequest { userid: 0 }, soon()).unwrap_err();
        assert_eq!(error.status().unwrap().message(), "nobody is number 0");
        let call = |method: &'static str, payload: &'static [u8]| {
            let payload = Bytes::from_static(payload);
            client.channel().call("fixbug.FiendServiceRpc", method, payload, soon()).unwrap_err()
        };
        assert_eq!(call("GetFriendsList", b"\xff").status().unwrap().code(), Code::InvalidArgument);
        assert_eq!(call("GetEnemiesList", b"").status().unwrap().code(), Code::UnknownMethod);
        server.shutdown(soon());
    });
}
