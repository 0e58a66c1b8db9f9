//! The primitives of `sync` under many schedules, with fibers cancelled anywhere: what is conserved stays conserved,
//! and nobody waits for ever (the simulator panics when nothing can go on).

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::storm::{dawdle, random, under_many_schedules, with_cancellation};

use fiber_runtime::sync::channel::{RecvTimeoutError, bounded};
use fiber_runtime::sync::{Condvar, Mutex, RwLock, Semaphore, WaitGroup, oneshot};
use fiber_runtime::{spawn_local, time};

#[test]
fn mutex_excludes_and_is_free_in_the_end() {
    under_many_schedules(|| {
        let lock = Rc::new(Mutex::new(0_u32));
        let inside = Rc::new(Cell::new(false));
        let (shared, flag) = (Rc::clone(&lock), Rc::clone(&inside));
        with_cancellation(6, move |_| {
            struct Leave<'a>(&'a Cell<bool>);
            impl Drop for Leave<'_> {
                fn drop(&mut self) {
                    self.0.set(false);
                }
            }
            for _ in 0..4 {
                dawdle();
                let guard = match random(2) {
                    0 => Some(shared.lock()),
                    _ => shared.lock_until(time::now() + Duration::from_micros(random(60))),
                };
                let Some(mut guard) = guard else { continue };
                assert!(!flag.replace(true), "two fibers hold the lock");
                let leave = Leave(&flag);
                dawdle();
                *guard += 1;
                drop(leave);
            }
        });
        assert!(lock.try_lock().is_some(), "a cancelled fiber kept the lock");
    });
}

#[test]
fn semaphore_permits_are_conserved() {
    under_many_schedules(|| {
        let semaphore = Rc::new(Semaphore::new(3));
        let shared = Rc::clone(&semaphore);
        with_cancellation(8, move |number| {
            for _ in 0..3 {
                dawdle();
                let permit = match number % 3 {
                    0 if random(2) == 0 => Some(shared.acquire_many(2)),
                    0 => shared.acquire_many_until(3, time::now() + Duration::from_micros(random(60))),
                    1 => shared.acquire_until(time::now() + Duration::from_micros(random(40))),
                    _ => Some(shared.acquire()),
                };
                dawdle();
                drop(permit);
            }
        });
        assert_eq!(semaphore.available(), 3);
    });
}

#[test]
fn rwlock_is_free_in_the_end() {
    under_many_schedules(|| {
        let lock = Rc::new(RwLock::new((0, 0)));
        let shared = Rc::clone(&lock);
        with_cancellation(8, move |number| {
            for _ in 0..3 {
                dawdle();
                let until = time::now() + Duration::from_micros(random(60));
                let timed = random(2) == 0;
                if number % 3 == 0 {
                    let pair = if timed { shared.write_until(until) } else { Some(shared.write()) };
                    let Some(mut pair) = pair else { continue };
                    // Nobody is cancelled in between.
                    pair.0 += 1;
                    pair.1 += 1;
                    dawdle();
                } else {
                    let pair = if timed { shared.read_until(until) } else { Some(shared.read()) };
                    let Some(pair) = pair else { continue };
                    let before = *pair;
                    dawdle();
                    assert_eq!((before.0, *pair), (before.1, before), "a writer came in beside a reader");
                }
            }
        });
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn condvar_notifications_reach_somebody_who_stays() {
    under_many_schedules(|| {
        // Every item put in is one notification; whoever is cancelled with one in hand passes it on.
        let queue = Rc::new((Mutex::new(0_u32), Condvar::new()));
        let taken = Rc::new(Cell::new(0_u32));
        let takers: Vec<_> = (0..6)
            .map(|_| {
                let (queue, taken) = (Rc::clone(&queue), Rc::clone(&taken));
                spawn_local(move || {
                    loop {
                        let mut items = queue.1.wait_while(queue.0.lock(), |items| *items == 0);
                        *items -= 1;
                        taken.set(taken.get() + 1);
                        drop(items);
                        dawdle();
                    }
                })
            })
            .collect();
        // Five of six are cancelled on the way; the sixth takes what is left.
        for (at, taker) in takers.iter().enumerate() {
            for _ in 0..3 {
                dawdle();
                *queue.0.lock() += 1;
                queue.1.notify_one();
            }
            dawdle();
            if at > 0 {
                taker.cancel();
            }
        }
        let deadline = time::now() + Duration::from_secs(1);
        while taken.get() < 18 {
            assert!(time::now() < deadline, "{} of 18 items were taken", taken.get());
            time::sleep(Duration::from_micros(100));
        }
        takers[0].cancel();
        takers.into_iter().for_each(|taker| assert!(taker.join().is_err()));
    });
}

#[test]
fn channel_delivers_what_was_accepted_in_order() {
    under_many_schedules(|| {
        let (sender, receiver) = bounded(1 + random(3) as usize);
        let accepted = Rc::new(Cell::new(0_u64));
        let counted = Rc::clone(&accepted);
        let feeders = spawn_local(move || {
            with_cancellation(5, move |number| {
                for value in 0..6 {
                    dawdle();
                    match random(3) {
                        0 => {
                            let until = time::now() + Duration::from_micros(random(40));
                            if sender.send_until((number, value), until).is_err() {
                                continue;
                            }
                        }
                        _ => sender.send((number, value)).unwrap(),
                    }
                    counted.set(counted.get() + 1);
                }
            });
        });
        let mut last = [None; 5];
        let mut received = 0;
        let mut batch = Vec::new();
        loop {
            dawdle();
            let until = time::now() + Duration::from_micros(random(60));
            match receiver.recv_many_until(&mut batch, 1 + random(4) as usize, until) {
                Ok(count) => received += count as u64,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Closed) => break,
            }
            for (number, value) in batch.drain(..) {
                assert!(last[number as usize] < Some(value), "sender {number} out of order");
                last[number as usize] = Some(value);
            }
        }
        feeders.join().unwrap();
        // A sender cancelled at the moment of its delivery has been accepted, but could not count it.
        assert!(
            (accepted.get()..=accepted.get() + 5).contains(&received),
            "{received} of {}",
            accepted.get()
        );
    });
}

#[test]
fn channel_with_several_receivers_loses_nothing_to_the_cancelled() {
    under_many_schedules(|| {
        let (sender, receiver) = bounded(1 + random(3) as usize);
        let taken = Rc::new(Cell::new(0_u64));
        let takers: Vec<_> = (0..5)
            .map(|_| {
                let (receiver, taken) = (receiver.clone(), Rc::clone(&taken));
                spawn_local(move || {
                    loop {
                        dawdle();
                        let until = time::now() + Duration::from_micros(1 + random(60));
                        let received = match random(2) {
                            0 => receiver.recv().map_err(|_| RecvTimeoutError::Closed),
                            _ => receiver.recv_until(until),
                        };
                        match received {
                            Ok(()) => taken.set(taken.get() + 1),
                            Err(RecvTimeoutError::Timeout) => {}
                            Err(RecvTimeoutError::Closed) => break,
                        }
                    }
                })
            })
            .collect();
        let mut sent = 0;
        for taker in takers.iter().skip(1) {
            for _ in 0..6 {
                dawdle();
                sender.send(()).unwrap();
                sent += 1;
            }
            if random(2) == 0 {
                taker.cancel();
            }
        }
        drop(sender);
        takers.into_iter().for_each(|taker| drop(taker.join()));
        // A taker that was cancelled with a value in its hand, after the others were told that the channel is closed.
        let put_back = std::iter::from_fn(|| receiver.try_recv().ok()).count() as u64;
        assert_eq!(taken.get() + put_back, sent);
    });
}

#[test]
fn oneshot_and_wait_group_end_whoever_waits() {
    under_many_schedules(|| {
        let group = WaitGroup::new();
        let pairs: Vec<_> = (0..4).map(|_| oneshot::channel::<u64>()).collect();
        for (number, (sender, receiver)) in pairs.into_iter().enumerate() {
            let token = group.enter();
            let asks = spawn_local(move || {
                let _token = token;
                dawdle();
                receiver.recv().is_ok_and(|value| value == number as u64)
            });
            let token = group.enter();
            let answers = spawn_local(move || {
                let _token = token;
                dawdle();
                sender.send(number as u64).is_ok()
            });
            match random(3) {
                0 => asks.cancel(),
                1 => answers.cancel(),
                _ => {}
            }
            dawdle();
        }
        group.wait();
        assert_eq!(group.count(), 0);
    });
}
