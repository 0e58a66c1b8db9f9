//! Broadcasts: every value to everybody, a count for those who are too slow, and no value kept longer than needed.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::thread;

use common::{in_millis, on_fibers, runtime};
use fiber_runtime::sync::broadcast::{self, RecvError, RecvTimeoutError, TryRecvError};
use fiber_runtime::sync::channel::SendError;
use fiber_runtime::{spawn_local, yield_now};

#[test]
fn every_receiver_accounts_for_every_value_in_order() {
    const VALUES: u64 = 5_000;
    let (sender, receiver) = broadcast::channel(16);
    let runtime = runtime(3);
    let follow = || {
        let mut receiver = receiver.clone();
        move || {
            let (mut next, mut lagged) = (0, 0);
            loop {
                match receiver.recv() {
                    Ok(value) => {
                        assert_eq!(value, next, "out of order");
                        next += 1;
                    }
                    Err(RecvError::Lagged(missed)) => {
                        next += missed;
                        lagged += missed;
                    }
                    Err(RecvError::Closed) => break,
                }
            }
            assert_eq!(next, VALUES, "{lagged} of them missed");
        }
    };
    let fibers: Vec<_> = (0..4).map(|_| runtime.spawn(follow())).collect();
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(follow())).collect();
    drop(receiver);
    let sends = runtime.spawn(move || {
        for value in 0..VALUES {
            sender.send(value).unwrap();
            if value % 8 == 0 {
                yield_now();
            }
        }
    });
    sends.join().unwrap();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_slow_receiver_learns_how_much_it_has_missed() {
    let (sender, mut slow) = broadcast::channel(3);
    let mut quick = sender.subscribe();
    for value in 0..10 {
        assert_eq!(sender.send(value), Ok(2));
        assert_eq!(quick.recv(), Ok(value));
    }
    assert_eq!((sender.len(), slow.len(), quick.len()), (3, 10, 0));
    assert_eq!(slow.recv(), Err(RecvError::Lagged(7)));
    assert_eq!(slow.recv_until(in_millis(0)), Ok(7));
    assert_eq!(slow.try_recv(), Ok(8));
    assert_eq!(slow.recv(), Ok(9));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(slow.recv_until(in_millis(2)), Err(RecvTimeoutError::Timeout));
    drop(sender);
    assert_eq!(slow.try_recv(), Err(TryRecvError::Other(RecvError::Closed)));
    assert_eq!(slow.recv_until(in_millis(2)), Err(RecvTimeoutError::Other(RecvError::Closed)));
}

#[test]
fn a_value_goes_when_all_have_seen_it_or_left() {
    let (sender, mut one) = broadcast::channel(4);
    let mut other = one.clone();
    let values: Vec<_> = (0..3).map(Arc::new).collect();
    values.iter().for_each(|value| assert_eq!(sender.send(Arc::clone(value)), Ok(2)));
    let counts = || values.iter().map(|value| Arc::strong_count(value) - 1).collect::<Vec<_>>();
    drop((one.recv(), one.recv(), other.recv()));
    assert_eq!(counts(), [0, 1, 1], "the first has been seen by both");
    let copy = other.clone();
    drop(other);
    assert_eq!(counts(), [0, 1, 1], "the copy has yet to see them");
    drop(copy);
    assert_eq!(counts(), [0, 0, 1], "the last is still to be seen by the first receiver");
    drop(one);
    assert_eq!(counts(), [0, 0, 0]);
    assert!(sender.is_empty());
    let refused = sender.send(Arc::clone(&values[0]));
    assert!(matches!(refused, Err(SendError(value)) if Arc::ptr_eq(&value, &values[0])));
}

#[test]
fn a_new_receiver_sees_what_comes_from_then_on() {
    let (sender, mut early) = broadcast::channel(4);
    sender.send(1).unwrap();
    let mut late = sender.subscribe();
    sender.send(2).unwrap();
    assert_eq!((early.recv(), early.recv(), late.recv()), (Ok(1), Ok(2), Ok(2)));
    assert!(late.is_empty() && early.is_empty() && sender.is_empty());
}

#[test]
fn a_cancelled_receiver_holds_nothing_back() {
    on_fibers(1, || {
        let (sender, mut receiver) = broadcast::channel(2);
        let fibers: Vec<_> = (0..2)
            .map(|_| {
                let mut receiver = receiver.clone();
                spawn_local(move || receiver.recv())
            })
            .collect();
        yield_now();
        yield_now();
        assert_eq!(sender.send(5), Ok(3));
        fibers[0].cancel();
        let outcomes: Vec<_> = fibers.into_iter().map(|fiber| fiber.join().ok()).collect();
        assert_eq!(outcomes, [None, Some(Ok(5))]);
        assert_eq!(receiver.recv(), Ok(5));
        assert_eq!((sender.len(), sender.receiver_count()), (0, 1));
    });
}

#[test]
#[should_panic(expected = "a broadcast needs room for at least one value")]
fn a_broadcast_without_room_panics() {
    let _ = broadcast::channel::<u8>(0);
}
