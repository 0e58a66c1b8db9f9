//! Channels with several receivers, and unbounded ones: each value to one, nobody forgotten, nobody starved.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{in_millis, on_fibers, runtime};
use fiber_runtime::sync::channel::{
    RecvError, RecvTimeoutError, SendError, TryRecvError, bounded, unbounded,
};
use fiber_runtime::{spawn, spawn_local, yield_now};

#[test]
fn each_value_goes_to_one_receiver_among_fibers_and_threads() {
    const VALUES: usize = 6_000;
    for capacity in [1, 3, 100] {
        let (sender, receiver) = bounded(capacity);
        let runtime = runtime(3);
        let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..VALUES).map(|_| AtomicUsize::new(0)).collect());
        let take = |at: usize| {
            let (receiver, seen) = (receiver.clone(), Arc::clone(&seen));
            move || {
                let mut batch = Vec::new();
                // One at a time, in batches, by deadline: all ways of receiving side by side.
                loop {
                    match at % 3 {
                        0 => batch.extend(receiver.recv()),
                        1 => drop(receiver.recv_many(&mut batch, 5)),
                        _ => match receiver.recv_until(in_millis(1)) {
                            Ok(value) => batch.push(value),
                            Err(RecvTimeoutError::Timeout) => continue,
                            Err(RecvTimeoutError::Closed) => {}
                        },
                    }
                    if batch.is_empty() {
                        break;
                    }
                    for value in batch.drain(..) {
                        seen[value as usize].fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        };
        let fibers: Vec<_> = (0..6).map(|at| runtime.spawn(take(at))).collect();
        let threads: Vec<_> = (0..2).map(|at| thread::spawn(take(at))).collect();
        let senders: Vec<_> = (0..3)
            .map(|part| {
                let sender = sender.clone();
                runtime.spawn(move || {
                    for value in (part..VALUES).step_by(3) {
                        sender.send(value as u32).unwrap();
                    }
                })
            })
            .collect();
        drop((sender, receiver));
        senders.into_iter().for_each(|fiber| fiber.join().unwrap());
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}

#[test]
fn a_value_that_moves_in_from_a_waiting_sender_wakes_another_receiver() {
    on_fibers(1, || {
        let (sender, receiver) = bounded(1);
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let receiver = receiver.clone();
                spawn_local(move || receiver.recv())
            })
            .collect();
        yield_now();
        yield_now();
        // The first value wakes the first receiver; the second has no room yet and moves in when the first is taken.
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let mut received: Vec<_> =
            receivers.into_iter().map(|receiver| receiver.join().unwrap().unwrap()).collect();
        received.sort_unstable();
        assert_eq!(received, [1, 2]);
    });
}

#[test]
fn a_waiting_receiver_is_not_passed_over() {
    on_fibers(1, || {
        let (sender, receiver) = unbounded();
        let patient = {
            let receiver = receiver.clone();
            spawn_local(move || receiver.recv().unwrap())
        };
        yield_now();
        // The newcomer tries for each value in the same breath in which it is sent, before anybody woken can come.
        let mut taken = Vec::new();
        for value in 0..4 {
            sender.send(value).unwrap();
            taken.extend(receiver.try_recv());
            yield_now();
            yield_now();
        }
        assert_eq!(taken, [1, 2, 3], "the first value was handed to the one that waited");
        assert_eq!(patient.join().unwrap(), 0);
    });
}

#[test]
fn no_receiver_starves_beside_greedy_ones() {
    on_fibers(2, || {
        let (sender, receiver) = bounded(2);
        let stop = Arc::new(AtomicBool::new(false));
        let fibers: Vec<_> = (0..3)
            .map(|_| {
                let (sender, receiver, stop) = (sender.clone(), receiver.clone(), Arc::clone(&stop));
                spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        sender.send(()).unwrap();
                        let _ = receiver.try_recv();
                        yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            receiver.recv_until(in_millis(20_000)).expect("the waiting receiver gets its share");
        }
        stop.store(true, Ordering::Relaxed);
        // What is left may hold up the last of the senders.
        receiver.close();
        fibers.into_iter().for_each(|fiber| drop(fiber.join()));
    });
}

#[test]
fn a_cancelled_receiver_passes_its_value_on() {
    on_fibers(1, || {
        let (sender, receiver) = unbounded();
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let receiver = receiver.clone();
                spawn_local(move || receiver.recv().unwrap())
            })
            .collect();
        yield_now();
        yield_now();
        sender.send(7).unwrap();
        receivers[0].cancel();
        let outcomes: Vec<_> = receivers.into_iter().map(|receiver| receiver.join().ok()).collect();
        assert_eq!(outcomes, [None, Some(7)]);
    });
}

#[test]
fn a_value_survives_the_cancellation_of_the_receiver_that_has_it() {
    on_fibers(1, || {
        let (sender, receiver) = unbounded();
        let patient = {
            let receiver = receiver.clone();
            spawn_local(move || receiver.recv())
        };
        yield_now();
        // The first value goes straight to the fiber that waits, which is cancelled before it runs again.
        sender.send(1).unwrap();
        assert_eq!(
            receiver.try_recv(),
            Err(TryRecvError::Empty),
            "the value is in the hand of the one that waited"
        );
        sender.send(2).unwrap();
        patient.cancel();
        assert!(patient.join().is_err());
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Ok(2)), "it is back in its place");
    });
}

#[test]
fn the_last_sender_or_receiver_closes_for_everybody() {
    on_fibers(2, || {
        let (sender, receiver) = bounded::<u8>(1);
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let receiver = receiver.clone();
                spawn(move || receiver.recv())
            })
            .collect();
        yield_now();
        drop(sender.clone());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "a clone of the sender is not the last");
        drop(sender);
        for fiber in waiting {
            assert_eq!(fiber.join().unwrap(), Err(RecvError));
        }

        let (sender, receiver) = bounded(1);
        drop(receiver.clone());
        sender.send(1).unwrap();
        drop(receiver);
        assert_eq!(sender.send(2), Err(SendError(2)));
    });
}

#[test]
fn an_unbounded_channel_never_makes_a_sender_wait() {
    let (sender, receiver) = unbounded();
    for value in 0..10_000_u32 {
        sender.try_send(value).unwrap();
    }
    assert_eq!((sender.len(), sender.capacity()), (10_000, usize::MAX));
    drop(sender);
    assert!(receiver.iter().eq(0..10_000));
}
