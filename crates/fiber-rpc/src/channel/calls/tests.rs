//! Who decides the outcome of a call, and what it is.

use std::time::Duration;

use super::*;
use crate::error::{NotSent, Unknown};

fn request(deadline: Instant) -> Request {
    Request { service: "s".into(), method: "m".into(), deadline: Some(deadline), payload: Bytes::from("p") }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(1000)
}

fn open(calls: &Calls) -> (u64, oneshot::Receiver<Outcome>) {
    match calls.open(request(far())) {
        Ok(opened) => opened,
        Err(_) => panic!("there is room for a call"),
    }
}

fn ended(sent: bool) -> CallError {
    let peer = "127.0.0.1:1".parse().expect("it is an address");
    if sent {
        CallError::OutcomeUnknown { peer, reason: Unknown::Closed }
    } else {
        CallError::NotSent { peer, reason: NotSent::Closed }
    }
}

#[test]
fn reply_reaches_its_own_call_once() {
    let calls = Calls::new(10);
    let ((first, first_reply), (second, second_reply)) = (open(&calls), open(&calls));
    assert!(calls.complete(second, Ok(Bytes::from("2"))));
    assert!(calls.complete(first, Ok(Bytes::from("1"))));
    assert!(!calls.complete(first, Ok(Bytes::from("again"))), "a second reply finds nobody");
    assert!(!calls.complete(99, Ok(Bytes::new())), "nor does one to a call that never was");
    assert_eq!(first_reply.try_recv().unwrap(), Ok(Bytes::from("1")));
    assert_eq!(second_reply.try_recv().unwrap(), Ok(Bytes::from("2")));
    assert_eq!(calls.len(), 0);
}

#[test]
fn call_that_gives_up_before_it_is_fetched_was_not_sent() {
    let calls = Calls::new(10);
    let (id, _reply) = open(&calls);
    assert_eq!(calls.give_up(id), GaveUp::Unsent);
    assert!(calls.fetch(id, Instant::now()).is_none(), "and never will be");
}

#[test]
fn call_that_gives_up_after_it_is_fetched_may_have_been_executed() {
    let calls = Calls::new(10);
    let (id, _reply) = open(&calls);
    assert_eq!(calls.fetch(id, Instant::now()).unwrap().payload, "p");
    assert!(calls.fetch(id, Instant::now()).is_none(), "a request is sent once");
    assert_eq!(calls.give_up(id), GaveUp::Sent);
    assert!(!calls.complete(id, Ok(Bytes::new())), "the late reply is dropped");
}

#[test]
fn reply_before_giving_up_wins() {
    let calls = Calls::new(10);
    let (id, reply) = open(&calls);
    calls.complete(id, Ok(Bytes::from("in time")));
    assert_eq!(calls.give_up(id), GaveUp::TooLate);
    assert_eq!(reply.try_recv().unwrap(), Ok(Bytes::from("in time")));
}

#[test]
fn expired_call_is_not_fetched_and_stays_unsent() {
    let calls = Calls::new(10);
    let now = Instant::now();
    let Ok((id, _reply)) = calls.open(request(now)) else { panic!("there is room for a call") };
    assert!(calls.fetch(id, now).is_none());
    assert_eq!(calls.give_up(id), GaveUp::Unsent);
}

#[test]
fn end_of_the_connection_tells_sent_calls_from_unsent_ones() {
    let calls = Calls::new(10);
    let ((sent, sent_reply), (_, unsent_reply)) = (open(&calls), open(&calls));
    calls.fetch(sent, Instant::now()).unwrap();
    calls.fail_all(&"gone".into(), ended);
    assert_eq!(sent_reply.try_recv().unwrap(), Err(ended(true)));
    assert_eq!(unsent_reply.try_recv().unwrap(), Err(ended(false)));
    assert!(matches!(calls.open(request(far())), Err(Refused::Ended(cause)) if &*cause == "gone"));
}

#[test]
fn calls_beyond_the_limit_are_refused() {
    let calls = Calls::new(2);
    let (first, _reply) = open(&calls);
    let _second = open(&calls);
    assert!(matches!(calls.open(request(far())), Err(Refused::TooManyCalls)));
    calls.give_up(first);
    open(&calls);
}
