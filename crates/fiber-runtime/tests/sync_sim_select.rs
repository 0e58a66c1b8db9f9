//! `select!` and the primitives around it under many schedules, with deadlines that pass and fibers that are cancelled
//! anywhere: what was accepted is received once, notifications reach somebody who stays, and nobody waits for ever (the
//! simulator panics when nothing can go on).

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::storm::{dawdle, random, under_many_schedules, with_cancellation};
use fiber_runtime::sync::channel::{bounded, unbounded};
use fiber_runtime::sync::{Barrier, Notify, OnceCell, broadcast, watch};
use fiber_runtime::{select, sim, spawn_local, time};

fn soon() -> Duration {
    Duration::from_micros(random(60))
}

#[test]
fn selects_between_channels_lose_and_double_nothing() {
    under_many_schedules(|| {
        let (one_in, one_out) = bounded(1 + random(2) as usize);
        let (two_in, two_out) = bounded(1);
        let sent = Rc::new(RefCell::new(Vec::new()));
        let received = Rc::new(RefCell::new(Vec::new()));
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (one, two, received) = (one_out.clone(), two_out.clone(), Rc::clone(&received));
                spawn_local(move || {
                    let (mut first, mut second) = (true, true);
                    while first || second {
                        dawdle();
                        select! {
                            value = recv(one) if first => match value {
                                Ok(value) => received.borrow_mut().push(value),
                                Err(_) => first = false,
                            },
                            value = recv(two) if second => match value {
                                Ok(value) => received.borrow_mut().push(value),
                                Err(_) => second = false,
                            },
                            after(soon()) if random(2) == 0 => {}
                        }
                    }
                })
            })
            .collect();
        let counted = Rc::clone(&sent);
        let senders = spawn_local(move || {
            with_cancellation(5, move |number| {
                for value in 0..5 {
                    dawdle();
                    let value = number * 100 + value;
                    // Plain senders in line with those that select.
                    let done = match random(3) {
                        0 => one_in.send(value).is_ok(),
                        1 => select! {
                            sent = send(one_in, value) => sent.is_ok(),
                            sent = send(two_in, value) => sent.is_ok(),
                            after(soon()) => false,
                        },
                        _ => select! {
                            sent = send(one_in, value) => sent.is_ok(),
                            sent = send(two_in, value) => sent.is_ok(),
                        },
                    };
                    if done {
                        counted.borrow_mut().push(value);
                    }
                }
            });
        });
        // All but one of the receivers may go.
        for receiver in receivers.iter().skip(1) {
            dawdle();
            if random(2) == 0 {
                receiver.cancel();
            }
        }
        senders.join().unwrap();
        drop((one_out, two_out));
        receivers.into_iter().for_each(|receiver| drop(receiver.join()));
        let (mut sent, mut received) = (sent.take(), received.take());
        sent.sort_unstable();
        received.sort_unstable();
        assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "received twice: {received:?}");
        assert!(sent.iter().all(|value| received.binary_search(value).is_ok()), "{sent:?} but {received:?}");
        // A plain sender cancelled at the moment of its delivery has been accepted, but could not count it.
        assert!(received.len() <= sent.len() + 5, "{sent:?} but {received:?}");
    });
}

#[test]
fn a_notification_reaches_somebody_who_stays() {
    under_many_schedules(|| {
        let state = Rc::new((Notify::new(), Notify::new(), Cell::new(0_u32), Cell::new(0_u32)));
        let takers: Vec<_> = (0..5)
            .map(|number| {
                let state = Rc::clone(&state);
                spawn_local(move || {
                    let (news, other, items, taken) = &*state;
                    loop {
                        dawdle();
                        // Each item comes with one notification. Some wait for it alone, some among others.
                        match number % 3 {
                            0 => news.wait(),
                            1 => select! {
                                notified(news) => {}
                                notified(other) => continue,
                            },
                            _ => select! {
                                notified(news) => {}
                                after(soon()) => continue,
                            },
                        }
                        // A permit stands for any number of items; whoever gets it sees to all of them.
                        taken.set(taken.get() + items.replace(0));
                    }
                })
            })
            .collect();
        let (news, other, items, taken) = &*state;
        for (at, taker) in takers.iter().enumerate() {
            for _ in 0..3 {
                dawdle();
                items.set(items.get() + 1);
                news.notify_one();
                if random(3) == 0 {
                    other.notify_all();
                }
            }
            if at == 1 {
                taker.cancel();
            }
        }
        // The last notifications are on their way, perhaps to those who go now.
        for taker in takers.iter().skip(2) {
            if random(2) == 0 {
                dawdle();
            }
            taker.cancel();
        }
        let deadline = time::now() + Duration::from_secs(1);
        while taken.get() < 15 {
            assert!(time::now() < deadline, "{} of 15 items were taken", taken.get());
            time::sleep(Duration::from_micros(100));
        }
        takers[0].cancel();
        takers.into_iter().for_each(|taker| assert!(taker.join().is_err()));
    });
}

#[test]
fn a_barrier_lets_a_full_round_go_whoever_leaves_before() {
    under_many_schedules(|| {
        let barrier = Rc::new(Barrier::new(3));
        let (passed, led) = (Rc::new(Cell::new(0_u32)), Rc::new(Cell::new(0_u32)));
        let come = |until: Option<Duration>| {
            let (barrier, passed, led) = (Rc::clone(&barrier), Rc::clone(&passed), Rc::clone(&led));
            spawn_local(move || {
                dawdle();
                let result = match until {
                    None => Some(barrier.wait()),
                    Some(soon) => barrier.wait_until(time::now() + soon),
                };
                if let Some(result) = result {
                    passed.set(passed.get() + 1);
                    led.set(led.get() + u32::from(result.is_leader()));
                }
            })
        };
        let fibers: Vec<_> = (0..9).map(|_| come((random(2) == 0).then(soon))).collect();
        let mut doomed = 0;
        for fiber in &fibers {
            dawdle();
            if random(4) == 0 {
                fiber.cancel();
                doomed += 1;
            }
        }
        time::sleep(Duration::from_millis(1));
        // Whoever waits still is of a round that is not full: the others come.
        let missing = if barrier.waiting() > 0 { barrier.parties() - barrier.waiting() } else { 0 };
        let helpers: Vec<_> = (0..missing).map(|_| come(None)).collect();
        fibers.into_iter().for_each(|fiber| drop(fiber.join()));
        helpers.into_iter().for_each(|fiber| fiber.join().unwrap());
        // A round is three and one of them leads; whoever was cancelled after it was let go is not counted.
        let (passed, rounds) = (passed.get(), led.get());
        assert!(passed <= 3 * rounds && 3 * rounds <= passed + doomed, "{passed} passed in {rounds} rounds");
    });
}

#[test]
fn a_cell_is_initialised_by_somebody_who_stays() {
    under_many_schedules(|| {
        let cell: Rc<OnceCell<u64>> = Rc::default();
        let runs = Rc::new(Cell::new(0_u32));
        let (shared, counted) = (Rc::clone(&cell), Rc::clone(&runs));
        with_cancellation(6, move |number| {
            dawdle();
            let value = match random(3) {
                0 => shared.get_or_try_init(|| {
                    dawdle();
                    Err(())
                }),
                1 => Ok(shared.wait_until(time::now() + soon()).unwrap_or(&number)),
                _ => Ok(shared.get_or_init(|| {
                    dawdle();
                    counted.set(counted.get() + 1);
                    number
                })),
            };
            if let (Ok(value), Some(set)) = (value, shared.get()) {
                assert!(value == set || *value == number);
            }
        });
        assert!(runs.get() <= 1, "initialised {} times", runs.get());
        assert_eq!(*cell.get_or_init(|| 99) == 99, runs.get() == 0);
    });
}

#[test]
fn watchers_see_the_last_value_and_listeners_account_for_every_one() {
    under_many_schedules(|| {
        let (state, watched) = watch::channel(0_u64);
        let (radio, listener) = broadcast::channel(1 + random(3) as usize);
        let (stop, stopped) = unbounded::<()>();
        let observers = spawn_local(move || {
            with_cancellation(4, move |number| {
                let (mut watched, mut listener) = (watched.clone(), listener.clone());
                let (mut seen, mut next) = (0, 0);
                let (mut state_open, mut radio_open) = (true, true);
                while state_open || radio_open {
                    dawdle();
                    select! {
                        changed = changed(watched) if state_open => match changed {
                            Ok(()) => {
                                let now = *watched.borrow_and_update();
                                assert!(now > seen, "{now} after {seen}");
                                seen = now;
                            }
                            Err(_) => state_open = false,
                        },
                        value = recv(listener) if radio_open => match value {
                            Ok(value) => {
                                assert_eq!(value, next, "observer {number}");
                                next += 1;
                            }
                            Err(broadcast::RecvError::Lagged(missed)) => next += missed,
                            Err(broadcast::RecvError::Closed) => radio_open = false,
                        },
                        _ = recv(stopped) if random(2) == 0 => unreachable!("nobody says so"),
                        after(soon()) => {}
                    }
                }
                assert_eq!((seen, next), (12, 12));
            });
        });
        for value in 0..12 {
            dawdle();
            // They may all have been cancelled.
            let _ = radio.send(value);
            state.replace(value + 1);
        }
        drop((state, radio));
        observers.join().unwrap();
        drop(stop);
    });
}

#[test]
fn the_choice_follows_from_the_seed() {
    let run = |seed| {
        let simulation = sim::Sim::new(seed);
        let choices = simulation.run(|| {
            let (one, first) = unbounded();
            let (two, second) = unbounded();
            (0..64)
                .map(|_| {
                    one.send(()).unwrap();
                    two.send(()).unwrap();
                    select! { _ = recv(first) => 1, _ = recv(second) => 2 }
                })
                .collect::<Vec<_>>()
        });
        (choices, simulation.trace_hash())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
    assert!(run(3).0.contains(&1) && run(3).0.contains(&2));
}
