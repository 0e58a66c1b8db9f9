//! Bounded channels and oneshots: order, bounds, closing, deadlines, cancellation.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::thread;

use common::{in_millis, on_fibers, runtime};
use fiber_runtime::sync::channel::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError, bounded,
};
use fiber_runtime::sync::oneshot;
use fiber_runtime::{spawn, spawn_local, time, yield_now};

#[test]
fn values_of_each_sender_arrive_in_order_and_once() {
    const SENDERS: usize = 8;
    const VALUES: usize = 2_000;
    let (sender, receiver) = bounded(4);
    let runtime = runtime(3);
    let fibers: Vec<_> = (0..SENDERS - 1)
        .map(|number| {
            let sender = sender.clone();
            runtime.spawn(move || (0..VALUES).for_each(|value| sender.send((number, value)).unwrap()))
        })
        .collect();
    let thread =
        thread::spawn(move || (0..VALUES).for_each(|value| sender.send((SENDERS - 1, value)).unwrap()));
    let received = runtime.spawn(move || {
        let mut next = [0; SENDERS];
        let mut batch = Vec::new();
        while let Ok(count) = receiver.recv_many(&mut batch, 64) {
            assert!(count > 0 && count == batch.len());
            for (number, value) in batch.drain(..) {
                assert_eq!(value, next[number], "sender {number}");
                next[number] += 1;
            }
        }
        next
    });
    assert_eq!(received.join().unwrap(), [VALUES; SENDERS]);
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    thread.join().unwrap();
}

#[test]
fn a_full_channel_makes_senders_wait_and_refuses_try_send() {
    on_fibers(1, || {
        let (sender, receiver) = bounded(2);
        sender.send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        let waiting = spawn_local(move || sender.send(4));
        yield_now();
        assert!(!waiting.is_finished());
        assert_eq!(receiver.len(), 2, "no more than the capacity is queued");
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.len(), 2, "the waiting sender's value took the room");
        waiting.join().unwrap().unwrap();
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(2), Ok(4)));
        assert_eq!(receiver.recv(), Err(RecvError));
    });
}

#[test]
fn recv_many_takes_what_is_there_up_to_the_limit() {
    let (sender, receiver) = bounded(8);
    (0..5).for_each(|value| sender.send(value).unwrap());
    let mut out = vec![100];
    assert_eq!(receiver.recv_many(&mut out, 3), Ok(3));
    assert_eq!(receiver.try_recv_many(&mut out, 9), 2);
    assert_eq!(out, [100, 0, 1, 2, 3, 4]);
    assert_eq!(receiver.try_recv_many(&mut out, 9), 0);
    assert_eq!(receiver.recv_many_until(&mut out, 9, in_millis(5)), Err(RecvTimeoutError::Timeout));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    drop(sender);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(receiver.recv_many(&mut out, 9), Err(RecvError));
}

#[test]
fn a_dropped_receiver_returns_the_values_of_waiting_senders() {
    on_fibers(2, || {
        let (sender, receiver) = bounded(1);
        let queued = Arc::new(());
        sender.send(Arc::clone(&queued)).unwrap();
        let waiting = spawn(move || {
            let value = Arc::new(());
            let refused = sender.send(Arc::clone(&value));
            let SendError(back) = refused.unwrap_err();
            assert!(Arc::ptr_eq(&back, &value));
            assert!(sender.is_closed());
            assert!(matches!(sender.try_send(value), Err(TrySendError::Closed(_))));
        });
        time::sleep(std::time::Duration::from_millis(2));
        drop(receiver);
        waiting.join().unwrap();
        assert_eq!(Arc::strong_count(&queued), 1, "what was queued is dropped with the receiver");
    });
}

#[test]
fn a_closed_receiver_still_drains() {
    let (sender, receiver) = bounded(4);
    sender.send(1).unwrap();
    receiver.close();
    assert_eq!(sender.send(2), Err(SendError(2)));
    assert_eq!(receiver.recv(), Ok(1));
    assert_eq!(receiver.recv(), Err(RecvError));
}

#[test]
fn waits_end_at_their_deadlines() {
    on_fibers(1, || {
        let (sender, receiver) = bounded(1);
        let deadline = in_millis(10);
        assert_eq!(receiver.recv_until(deadline), Err(RecvTimeoutError::Timeout));
        assert!(time::now() >= deadline);
        sender.send(1).unwrap();
        assert_eq!(sender.send_until(2, in_millis(10)), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(receiver.recv_until(in_millis(10)), Ok(1));
        assert!(receiver.is_empty(), "the value of a sender that gave up is not sent");
    });
}

#[test]
fn cancelled_senders_and_receivers_leave_the_channel_whole() {
    on_fibers(1, || {
        let (sender, receiver) = bounded(1);
        sender.send(0).unwrap();
        let senders: Vec<_> = (1..4)
            .map(|value| {
                let sender = sender.clone();
                spawn_local(move || sender.send(value))
            })
            .collect();
        yield_now();
        yield_now();
        senders[1].cancel();
        yield_now();
        let received: Vec<_> = (0..3).map(|_| receiver.recv().unwrap()).collect();
        assert_eq!(received, [0, 1, 3]);
        let ended: Vec<bool> = senders.into_iter().map(|sender| sender.join().is_ok()).collect();
        assert_eq!(ended, [true, false, true]);

        let waiting = spawn_local(move || receiver.recv());
        yield_now();
        waiting.cancel();
        assert!(waiting.join().is_err());
        assert_eq!(sender.send(9), Err(SendError(9)), "the cancelled fiber took the receiver with it");
    });
}

#[test]
fn a_thread_and_a_fiber_talk_both_ways() {
    let (to_fiber, from_thread) = bounded(1);
    let (to_thread, from_fiber) = bounded(1);
    let runtime = runtime(1);
    let fiber = runtime.spawn(move || {
        while let Ok(value) = from_thread.recv() {
            to_thread.send(value + 1).unwrap();
        }
    });
    for value in 0..1_000_u32 {
        to_fiber.send(value).unwrap();
        assert_eq!(from_fiber.recv(), Ok(value + 1));
    }
    drop(to_fiber);
    fiber.join().unwrap();
}

#[test]
fn oneshot_delivers_once() {
    on_fibers(2, || {
        for _ in 0..500 {
            let (sender, receiver) = oneshot::channel();
            let fiber = spawn(move || sender.send(5));
            assert_eq!(receiver.recv(), Ok(5));
            fiber.join().unwrap().unwrap();
        }
    });
}

#[test]
fn oneshot_reports_a_missing_side() {
    let (sender, receiver) = oneshot::channel::<u8>();
    drop(sender);
    assert_eq!(receiver.recv(), Err(RecvError));
    let (sender, receiver) = oneshot::channel();
    assert!(!sender.is_closed());
    drop(receiver);
    assert!(sender.is_closed());
    assert_eq!(sender.send(7), Err(7));
}

#[test]
fn oneshot_wait_goes_on_after_its_deadline() {
    on_fibers(1, || {
        let (sender, receiver) = oneshot::channel();
        assert_eq!(receiver.recv_until(in_millis(5)), Err(RecvTimeoutError::Timeout));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        sender.send(1).unwrap();
        assert_eq!(receiver.recv_until(in_millis(5)), Ok(1));
        assert_eq!(receiver.recv_until(in_millis(5)), Err(RecvTimeoutError::Closed));
    });
}
