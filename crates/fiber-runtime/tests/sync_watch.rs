//! Watched values: the newest is seen by all, nothing is queued, a change is not missed.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::thread;

use common::{in_millis, on_fibers, runtime};
use fiber_runtime::sync::channel::{RecvError, RecvTimeoutError, SendError};
use fiber_runtime::sync::watch;
use fiber_runtime::{select, spawn, spawn_local, yield_now};

#[test]
fn receivers_see_the_newest_value_and_never_an_older_one() {
    const LAST: u64 = 5_000;
    let (sender, receiver) = watch::channel(0);
    let runtime = runtime(3);
    let observe = || {
        let mut receiver = receiver.clone();
        move || {
            let mut seen = 0;
            while seen < LAST {
                receiver.changed().unwrap();
                let now = *receiver.borrow_and_update();
                assert!(now > seen, "{now} after {seen}");
                seen = now;
            }
        }
    };
    let fibers: Vec<_> = (0..4).map(|_| runtime.spawn(observe())).collect();
    let thread = thread::spawn(observe());
    let sends = runtime.spawn(move || {
        for value in 1..=LAST {
            sender.send(value).unwrap();
            if value % 64 == 0 {
                yield_now();
            }
        }
        // Kept until the receivers have seen the last value: it would be seen after the end as well.
        sender.closed_until(in_millis(100));
    });
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    thread.join().unwrap();
    drop(receiver);
    sends.join().unwrap();
}

#[test]
fn a_value_counts_as_seen_once_it_was_waited_for_or_looked_at() {
    let (sender, mut receiver) = watch::channel(1);
    assert_eq!(receiver.has_changed(), Ok(false));
    assert_eq!(receiver.changed_until(in_millis(2)), Err(RecvTimeoutError::Timeout));
    assert_eq!(sender.replace(2), 1);
    assert_eq!((*receiver.borrow(), receiver.has_changed()), (2, Ok(true)));
    assert_eq!(*receiver.borrow_and_update(), 2);
    assert_eq!(receiver.has_changed(), Ok(false));
    sender.modify(|value| *value += 1);
    assert!(!sender.modify_if(|_| false));
    assert_eq!(receiver.changed(), Ok(()));
    assert_eq!((*receiver.borrow(), *sender.borrow(), receiver.has_changed()), (3, 3, Ok(false)));
    sender.replace(4);
    select! { changed = changed(receiver) => assert_eq!(changed, Ok(())) }
    assert_eq!(receiver.has_changed(), Ok(false), "a selected change counts as seen");
    let mut late = sender.subscribe();
    assert_eq!(late.changed_until(in_millis(2)), Err(RecvTimeoutError::Timeout));
}

#[test]
fn the_last_value_is_seen_after_the_senders_have_gone() {
    let (sender, mut receiver) = watch::channel(1);
    sender.send(2).unwrap();
    drop(sender.clone());
    drop(sender);
    assert_eq!(receiver.changed(), Ok(()));
    assert_eq!(*receiver.borrow(), 2);
    assert_eq!(receiver.changed(), Err(RecvError));
    assert_eq!(receiver.has_changed(), Err(RecvError));
    assert_eq!(receiver.wait_for(|value| *value == 3).map(|value| *value), Err(RecvError));
    assert_eq!(receiver.wait_for(|value| *value == 2).map(|value| *value), Ok(2));
}

#[test]
fn wait_for_ends_with_its_condition_or_its_deadline() {
    on_fibers(2, || {
        let (sender, mut receiver) = watch::channel(0);
        let late = receiver.wait_for_until(in_millis(2), |value| *value > 0).map(|value| *value);
        assert_eq!(late, Err(RecvTimeoutError::Timeout));
        let waiting = spawn(move || receiver.wait_for(|value| *value == 7).map(|value| *value));
        for value in 1..=7 {
            sender.replace(value);
            yield_now();
        }
        assert_eq!(waiting.join().unwrap(), Ok(7));
    });
}

#[test]
fn a_sender_without_receivers_is_told_so() {
    on_fibers(1, || {
        let (sender, receiver) = watch::channel(0);
        assert!(!sender.closed_until(in_millis(2)));
        let waiting = {
            let sender = sender.clone();
            spawn_local(move || sender.closed())
        };
        let second = receiver.clone();
        yield_now();
        drop(receiver);
        yield_now();
        assert!(!waiting.is_finished());
        drop(second);
        waiting.join().unwrap();
        assert_eq!(sender.send(1), Err(SendError(1)));
        assert_eq!(*sender.borrow(), 0, "what was refused is not the value");
        assert_eq!(sender.replace(2), 0);
        assert_eq!(*sender.subscribe().borrow(), 2);
    });
}

#[test]
fn a_cancelled_receiver_leaves_the_others_alone() {
    on_fibers(1, || {
        let (sender, receiver) = watch::channel(0);
        let fibers: Vec<_> = (0..3)
            .map(|_| {
                let mut receiver = receiver.clone();
                spawn_local(move || receiver.changed())
            })
            .collect();
        yield_now();
        yield_now();
        sender.replace(1);
        fibers[0].cancel();
        let outcomes: Vec<_> = fibers.into_iter().map(|fiber| fiber.join().is_ok()).collect();
        assert_eq!(outcomes, [false, true, true]);
        assert_eq!(sender.receiver_count(), 1);
    });
}
