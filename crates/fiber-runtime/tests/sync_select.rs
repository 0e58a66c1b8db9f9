//! `select!`: one arm happens, the others lose nothing, whoever waits is woken by any of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::sync::channel::{
    RecvError, SendError, SendTimeoutError, TryRecvError, TrySendError, bounded, unbounded,
};
use fiber_runtime::sync::select::{self, Operation, Order, Selectable};
use fiber_runtime::sync::{Notify, Spin, broadcast, oneshot, watch};
use fiber_runtime::{select, spawn, spawn_local, time, yield_now};

fn panic_instead(of: &str) -> i32 {
    panic!("{of}")
}

#[test]
fn the_arm_that_is_ready_happens_and_the_others_lose_nothing() {
    let (sender, receiver) = bounded(1);
    let (full, kept) = bounded(1);
    full.send(1).unwrap();
    sender.send("value").unwrap();
    let got = select! {
        value = recv(receiver) => value.unwrap(),
        _ = send(full, panic_instead("there is no room, so the value is not asked for")) => "sent",
        after(Duration::from_secs(60)) => "time",
    };
    assert_eq!(got, "value");
    assert_eq!((kept.recv(), kept.try_recv()), (Ok(1), Err(TryRecvError::Empty)));

    // Both are ready; whichever happens, the other still has its value.
    let (one, first) = bounded(1);
    let (two, second) = bounded(1);
    for _ in 0..100 {
        one.send(1).unwrap();
        two.send(2).unwrap();
        let got = select! {
            value = recv(first) => (value, second.try_recv()),
            value = recv(second) => (value, first.try_recv()),
        };
        assert!(matches!(got, (Ok(1), Ok(2)) | (Ok(2), Ok(1))), "{got:?}");
    }
}

#[test]
fn a_waiting_select_is_woken_by_each_kind_of_arm() {
    on_fibers(2, || {
        for kind in 0..9 {
            let (values, receiver) = bounded(1);
            let (room, full) = bounded(1);
            room.send(0).unwrap();
            let (reply, answer) = oneshot::channel();
            let notify = Arc::new(Notify::new());
            let (state, mut watched) = watch::channel(0);
            let (radio, mut listener) = broadcast::channel(1);
            let (end, ended) = bounded::<()>(1);
            let mut fiber = spawn(move || ended.recv());
            let deadline = if kind == 8 { in_millis(5) } else { in_millis(20_000) };

            let (decided, done) = bounded::<()>(1);
            let notifies = Arc::clone(&notify);
            let acts = spawn(move || {
                let keep = (values, full, state, radio);
                let (mut reply, mut end) = (Some(reply), Some(end));
                time::sleep(Duration::from_millis(1));
                match kind {
                    0 => keep.0.send(5).unwrap(),
                    1 => assert_eq!(keep.1.recv(), Ok(0)),
                    2 => reply.take().unwrap().send(7).unwrap(),
                    3 => notifies.notify_one(),
                    4 => notifies.notify_all(),
                    5 => assert_eq!(keep.2.replace(9), 0),
                    6 => assert_eq!(keep.3.send(11), Ok(1)),
                    7 => end = None,
                    _ => {}
                }
                // Until the select has decided.
                let _ = done.recv();
                drop((keep, reply, end));
            });
            let chosen = select! {
                value = recv(receiver) => (0, value),
                sent = send(room, 3) => (1, sent.map(|()| 3).map_err(|_| RecvError)),
                value = recv(answer) => (2, value),
                notified(notify) => (3, Ok(0)),
                changed = changed(watched) => (5, changed.map(|()| *watched.borrow())),
                value = recv(listener) => (6, value.map_err(|_| RecvError)),
                finished(fiber) => (7, Ok(0)),
                at(deadline) => (8, Ok(0)),
            };
            let expected = [
                (0, Ok(5)),
                (1, Ok(3)),
                (2, Ok(7)),
                (3, Ok(0)),
                (3, Ok(0)),
                (5, Ok(9)),
                (6, Ok(11)),
                (7, Ok(0)),
                (8, Ok(0)),
            ];
            assert_eq!(chosen, expected[kind], "kind {kind}");
            drop(decided);
            acts.join().unwrap();
        }
    });
}

#[test]
fn closed_ends_are_ready_with_an_error() {
    let (sender, receiver) = bounded::<u8>(1);
    drop(sender);
    let got = select! { value = recv(receiver) => value };
    assert_eq!(got, Err(RecvError));
    let (sender, receiver) = bounded(1);
    drop(receiver);
    let got = select! { sent = send(sender, 5) => sent };
    assert_eq!(got, Err(SendError(5)));

    // While it waits, too.
    on_fibers(1, || {
        let (sender, receiver) = bounded(1);
        sender.send(1).unwrap();
        let waiting = spawn_local(move || select! { sent = send(sender, 2) => sent });
        yield_now();
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err(SendError(2)));
    });
}

#[test]
fn default_is_taken_when_nothing_is_ready() {
    let (sender, receiver) = bounded(1);
    let look = || {
        select! {
            value = recv(receiver) => value.ok(),
            default => None,
        }
    };
    assert_eq!(look(), None);
    sender.send(1).unwrap();
    assert_eq!((look(), look()), (Some(1), None));
}

#[test]
fn guards_switch_arms_off() {
    let (sender, receiver) = bounded(1);
    sender.send(1).unwrap();
    let pick = |on: bool| {
        select! {
            _ = recv(receiver) if on => "on",
            default => "off",
        }
    };
    assert_eq!((pick(false), pick(true)), ("off", "on"));
}

#[test]
#[should_panic(expected = "no arm is switched on")]
fn a_select_without_arms_that_are_on_panics() {
    let (_sender, receiver) = bounded::<()>(1);
    select! {
        _ = recv(receiver) if false => {}
    }
}

#[test]
fn bodies_are_code_in_place() {
    fn run() -> Result<u32, RecvError> {
        let (sender, receiver) = bounded(4);
        (1..=3).for_each(|value| sender.send(value).unwrap());
        let mut sender = Some(sender);
        let mut sum = 0;
        for round in 0.. {
            if round == 1 {
                select! { default => continue }
            }
            select! {
                value = recv(receiver) => match value {
                    Ok(value) => sum += value,
                    Err(_) if sum == 6 => break,
                    Err(error) => Err(error)?,
                },
                after(Duration::ZERO) if sum == 6 => {
                    // Moves and borrows as outside.
                    drop(sender.take());
                }
            }
        }
        let (_kept, receiver) = bounded::<u32>(1);
        select! {
            biased;
            _ = recv(receiver) => {}
            after(Duration::from_millis(1)) => return Ok(sum),
        }
        unreachable!("nothing was sent")
    }
    assert_eq!(run(), Ok(6));
}

#[test]
fn arms_that_are_always_ready_are_chosen_alike_unless_biased() {
    let (one, first) = unbounded();
    let (two, second) = unbounded();
    let mut counts = [0; 3];
    for _ in 0..3_000 {
        one.send(()).unwrap();
        two.send(()).unwrap();
        select! {
            _ = recv(first) => counts[0] += 1,
            _ = recv(second) => counts[1] += 1,
            after(Duration::ZERO) => counts[2] += 1,
        }
    }
    assert!(counts.iter().all(|&count| count > 500), "{counts:?}");
    for _ in 0..100 {
        select! {
            biased;
            _ = recv(first) => {}
            _ = recv(second) => panic!("the first was ready"),
            default => panic!("the first was ready"),
        }
    }
}

#[test]
fn a_value_announced_to_an_arm_that_did_not_happen_goes_to_the_next_receiver() {
    on_fibers(1, || {
        let (one, first) = unbounded();
        let (two, second) = unbounded();
        let both = {
            let (first, second) = (first.clone(), second.clone());
            spawn_local(move || {
                select! {
                    value = recv(first) => value.unwrap(),
                    value = recv(second) => value.unwrap(),
                }
            })
        };
        yield_now();
        // In line behind the select, one in each channel.
        let next = [first, second].map(|receiver| spawn_local(move || receiver.recv()));
        yield_now();
        yield_now();
        one.send(1).unwrap();
        two.send(2).unwrap();
        let chosen = both.join().unwrap();
        drop((one, two));
        let [first, second] = next.map(|fiber| fiber.join().unwrap());
        let expected = if chosen == 1 { (Err(RecvError), Ok(2)) } else { (Ok(1), Err(RecvError)) };
        assert_eq!((first, second), expected, "the select took {chosen}");
    });
}

#[test]
fn a_cancelled_select_passes_on_what_it_was_told() {
    on_fibers(1, || {
        let (sender, receiver) = unbounded();
        let (full, drain) = bounded(1);
        full.send(0).unwrap();
        let notify = Arc::new(Notify::new());
        let doomed = {
            let (receiver, full, notify) = (receiver.clone(), full.clone(), notify.clone());
            spawn_local(move || {
                select! {
                    _ = recv(receiver) => {}
                    _ = send(full, 1) => {}
                    notified(notify) => {}
                }
            })
        };
        yield_now();
        let receives = spawn_local(move || receiver.recv());
        let sends = {
            let full = full.clone();
            spawn_local(move || full.send(2))
        };
        yield_now();
        yield_now();
        sender.send(7).unwrap();
        assert_eq!(drain.recv(), Ok(0));
        notify.notify_one();
        doomed.cancel();
        assert!(doomed.join().is_err());
        assert_eq!(receives.join().unwrap(), Ok(7));
        sends.join().unwrap().unwrap();
        assert_eq!(drain.recv(), Ok(2), "the room went to the next sender");
        assert!(notify.wait_until(in_millis(0)), "the notification became a permit");
    });
}

#[test]
fn waiting_senders_and_selects_are_served_in_order() {
    on_fibers(1, || {
        let (sender, receiver) = bounded(1);
        sender.send(0).unwrap();
        let fibers: Vec<_> = (1..=4)
            .map(|value| {
                let sender = sender.clone();
                let fiber = spawn_local(move || match value % 2 {
                    0 => sender.send(value),
                    _ => select! { sent = send(sender, value) => sent },
                });
                yield_now();
                fiber
            })
            .collect();
        let received: Vec<_> = (0..5).map(|_| receiver.recv().unwrap()).collect();
        assert_eq!(received, [0, 1, 2, 3, 4]);
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap().unwrap());
    });
}

#[test]
fn a_select_that_waits_for_a_value_is_not_starved_by_newcomers() {
    on_fibers(1, || {
        let (sender, receiver) = unbounded();
        let patient = {
            let receiver = receiver.clone();
            spawn_local(move || select! { value = recv(receiver) => value.unwrap() })
        };
        yield_now();
        let mut taken = Vec::new();
        for value in 0..4 {
            sender.send(value).unwrap();
            taken.extend(receiver.try_recv());
            yield_now();
            yield_now();
        }
        assert_eq!((taken, patient.join().unwrap()), (vec![0, 2, 3], 1));
    });
}

#[test]
fn reserved_room_is_kept_and_given_back() {
    on_fibers(1, || {
        let (sender, receiver) = bounded(1);
        let room = sender.reserve().unwrap();
        assert!(sender.try_send(1).is_err(), "the room is kept");
        let waiting = {
            let sender = sender.clone();
            spawn_local(move || sender.send(2))
        };
        yield_now();
        drop(room);
        waiting.join().unwrap().unwrap();
        assert_eq!(receiver.recv(), Ok(2));
        let room = sender.reserve().unwrap();
        room.send(3).unwrap();
        assert_eq!((receiver.recv(), receiver.len()), (Ok(3), 0));
        let room = sender.try_reserve().unwrap();
        assert!(matches!(sender.try_reserve(), Err(TrySendError::Full(()))));
        assert!(matches!(sender.reserve_until(in_millis(1)), Err(SendTimeoutError::Timeout(()))));
        drop(room);
        let room = sender.reserve_until(in_millis(0)).unwrap();
        drop(receiver);
        assert_eq!(room.send(4), Err(SendError(4)));
        assert!(sender.reserve().is_err());
        assert!(matches!(sender.try_reserve(), Err(TrySendError::Closed(()))));
        assert!(matches!(sender.reserve_until(in_millis(0)), Err(SendTimeoutError::Closed(()))));
    });
}

#[test]
fn fibers_of_several_workers_and_threads_exchange_everything() {
    const EACH: usize = 1_500;
    let channels: Arc<Vec<_>> = Arc::new((1..=3).map(bounded::<usize>).collect());
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let runtime = runtime(3);
    // Everybody sends and receives, whatever goes first.
    let trade = |number: usize| {
        let (channels, counts) = (channels.clone(), counts.clone());
        move || {
            let [(out, _), _, _] = [0, 1, 2].map(|at| &channels[(number + at) % 3]);
            let (_, one) = &channels[number % 3];
            let (_, two) = &channels[(number + 1) % 3];
            let sent = Cell::new(0);
            let mut idle = 0;
            while sent.get() < EACH || idle < 3 {
                let received = select! {
                    value = recv(one) => value.ok(),
                    value = recv(two) => value.ok(),
                    outcome = send(out, sent.get()) if sent.get() < EACH => {
                        outcome.unwrap();
                        sent.set(sent.get() + 1);
                        counts.0.fetch_add(1, Ordering::SeqCst);
                        None
                    }
                    after(Duration::from_millis(20)) => {
                        idle += 1;
                        None
                    }
                };
                if received.is_some() {
                    idle = 0;
                    counts.1.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    };
    let fibers: Vec<_> = (0..7).map(|number| runtime.spawn(trade(number))).collect();
    let threads: Vec<_> = (0..2).map(|number| thread::spawn(trade(number))).collect();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let left: usize = channels.iter().map(|(_, receiver)| receiver.len()).sum();
    assert_eq!(counts.0.load(Ordering::SeqCst), 9 * EACH);
    assert_eq!(counts.1.load(Ordering::SeqCst) + left, 9 * EACH);
}

#[test]
fn any_number_of_arms_can_be_waited_for() {
    on_fibers(2, || {
        let channels: Vec<_> = (0..200).map(|_| bounded(1)).collect();
        let sender = channels[137].0.clone();
        let sends = spawn(move || sender.send(1));
        let mut arms: Vec<_> = channels.iter().map(|(_, receiver)| receiver.recv_arm()).collect();
        let mut refs: Vec<&mut dyn Selectable> = arms.iter_mut().map(|arm| arm as _).collect();
        let chosen = select::first(Order::Fair, &mut refs);
        assert_eq!(select::first_now(Order::Fair, &mut []), None);
        assert_eq!(select::first_until(Order::Fair, &mut [], in_millis(1)), None);
        assert_eq!((chosen, arms.swap_remove(chosen).into_outcome()), (137, Ok(1)));
        sends.join().unwrap().unwrap();
    });
}

#[test]
#[should_panic(expected = "only an operation that was chosen has an outcome")]
fn an_operation_that_was_not_chosen_has_no_outcome() {
    let (_sender, receiver) = bounded::<()>(1);
    let _ = receiver.recv_arm().into_outcome();
}

#[test]
fn a_select_that_ended_by_its_deadline_leaves_no_one_in_line() {
    on_fibers(1, || {
        let (sender, receiver) = unbounded();
        let notify = Notify::new();
        for _ in 0..3 {
            select! {
                _ = recv(receiver) => panic!("nothing was sent"),
                notified(notify) => panic!("nobody notified"),
                after(Duration::from_millis(1)) => {}
            }
        }
        sender.send(1).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
        notify.notify_one();
        assert!(notify.wait_until(in_millis(0)), "with nobody in line the permit is kept");
    });
}

#[test]
fn selects_in_line_are_notified_in_order() {
    on_fibers(1, || {
        let notify = Arc::new(Notify::new());
        let order = Arc::new(Spin::new(Vec::new()));
        let fibers: Vec<_> = (0..4)
            .map(|number| {
                let (notify, order) = (notify.clone(), order.clone());
                let fiber = spawn_local(move || {
                    select! {
                        notified(notify) => order.lock(|order| order.push(number)),
                        after(Duration::from_secs(20)) => panic!("starved"),
                    }
                });
                yield_now();
                fiber
            })
            .collect();
        (0..4).for_each(|_| notify.notify_one());
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(order.lock(|order| order.clone()), [0, 1, 2, 3]);
    });
}

#[test]
fn a_finished_fiber_can_be_joined_after_it_was_selected_or_not() {
    on_fibers(2, || {
        let (go, wait) = bounded::<()>(1);
        let mut fiber = spawn(move || wait.recv().map_or(1, |()| 2));
        for _ in 0..2 {
            select! {
                finished(fiber) => panic!("it waits"),
                after(Duration::from_millis(1)) => {}
            }
        }
        drop(go);
        select! { finished(fiber) => {} }
        assert!(fiber.is_finished());
        assert_eq!(fiber.join().unwrap(), 1);
    });
    // The end of a fiber and the cancellation of who waits for it.
    on_fibers(1, || {
        let mut endless = spawn_local(|| Notify::new().wait());
        let ends_it = endless.fiber().clone();
        let waiting = Arc::new(AtomicUsize::new(0));
        let flag = Arc::clone(&waiting);
        let doomed = spawn_local(move || {
            flag.store(1, Ordering::SeqCst);
            select! { finished(endless) => {} }
        });
        wait_for("the select", || waiting.load(Ordering::SeqCst) == 1);
        yield_now();
        doomed.cancel();
        assert!(doomed.join().is_err());
        ends_it.cancel();
    });
}
