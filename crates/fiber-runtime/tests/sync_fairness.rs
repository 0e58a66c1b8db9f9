//! Nobody starves: for each primitive, somebody patient among greedy ones gets their turn, and where the order is
//! promised, in it. What a turn costs is counted, not timed.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{in_millis, on_fibers};
use fiber_runtime::sync::channel::bounded;
use fiber_runtime::sync::{Condvar, Mutex, RwLock, Semaphore, Spin, watch};
use fiber_runtime::{JoinHandle, select, spawn, spawn_local, yield_now};

/// Long enough for any machine: whoever has not had a turn by then is starving.
const TURN_MILLIS: u64 = 20_000;

/// Fibers that do the same thing over and over until they are stopped.
struct Greedy {
    stop: Arc<AtomicBool>,
    fibers: Vec<JoinHandle<()>>,
}

impl Greedy {
    fn new(count: usize, turn: impl Fn() + Clone + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let fibers = (0..count)
            .map(|_| {
                let (stop, turn) = (Arc::clone(&stop), turn.clone());
                spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        turn();
                    }
                })
            })
            .collect();
        Greedy { stop, fibers }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    }
}

#[test]
fn a_newcomer_takes_a_mutex_before_a_woken_waiter_once_at_most() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(()));
        let guard = lock.lock();
        let has_it = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (lock, has_it) = (Arc::clone(&lock), Arc::clone(&has_it));
            spawn_local(move || {
                let _guard = lock.lock();
                has_it.store(true, Ordering::Relaxed);
            })
        };
        yield_now();
        // The waiter is woken, and the newcomer is back before it runs.
        drop(guard);
        let guard = lock.try_lock().expect("the newcomer slips in");
        yield_now();
        assert!(!has_it.load(Ordering::Relaxed));
        // This time the lock is handed over.
        drop(guard);
        assert!(lock.try_lock().is_none(), "the waiter was passed over twice");
        drop(lock.lock());
        assert!(has_it.load(Ordering::Relaxed));
        waiter.join().unwrap();
    });
}

#[test]
fn nobody_starves_at_a_mutex() {
    on_fibers(3, || {
        let lock = Arc::new(Mutex::new(0_u64));
        let shared = Arc::clone(&lock);
        let greedy = Greedy::new(5, move || *shared.lock() += 1);
        for _ in 0..200 {
            drop(lock.lock_until(in_millis(TURN_MILLIS)).expect("a turn at the mutex"));
        }
        greedy.end();
    });
}

#[test]
fn readers_do_not_starve_a_writer_nor_writers_a_reader() {
    on_fibers(3, || {
        let lock = Arc::new(RwLock::new(0_u64));
        let shared = Arc::clone(&lock);
        // They overlap, so that there is hardly a moment without a reader.
        let readers = Greedy::new(6, move || {
            let _value = shared.read();
            yield_now();
        });
        for _ in 0..100 {
            *lock.write_until(in_millis(TURN_MILLIS)).expect("a turn to write") += 1;
        }
        readers.end();

        let shared = Arc::clone(&lock);
        let writers = Greedy::new(6, move || {
            *shared.write() += 1;
            yield_now();
        });
        for _ in 0..100 {
            drop(lock.read_until(in_millis(TURN_MILLIS)).expect("a turn to read"));
        }
        writers.end();
    });
}

#[test]
fn small_requests_do_not_starve_a_large_one() {
    on_fibers(3, || {
        let semaphore = Arc::new(Semaphore::new(4));
        let shared = Arc::clone(&semaphore);
        let greedy = Greedy::new(8, move || {
            let _permit = shared.acquire();
            yield_now();
        });
        for _ in 0..100 {
            drop(semaphore.acquire_many_until(4, in_millis(TURN_MILLIS)).expect("all permits at once"));
        }
        greedy.end();
        assert_eq!(semaphore.available(), 4);
    });
}

#[test]
fn condvar_waiters_are_notified_in_order_of_arrival() {
    on_fibers(1, || {
        let shared = Arc::new((Mutex::new(()), Condvar::new(), Spin::new(Vec::new())));
        let fibers: Vec<_> = (0..4)
            .map(|number| {
                let shared = Arc::clone(&shared);
                let fiber = spawn_local(move || {
                    for _ in 0..3 {
                        drop(shared.1.wait(shared.0.lock()));
                        shared.2.lock(|order| order.push(number));
                    }
                });
                yield_now();
                fiber
            })
            .collect();
        for turn in 1..=12 {
            shared.1.notify_one();
            while shared.2.lock(|order| order.len()) < turn {
                yield_now();
            }
            // Whoever was notified is in line again.
            yield_now();
        }
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(shared.2.lock(|order| order.clone()), [0, 1, 2, 3].repeat(3));
    });
}

#[test]
fn no_sender_starves_at_a_full_channel_whether_it_selects_or_not() {
    on_fibers(3, || {
        let (sender, receiver) = bounded(2);
        let shared = sender.clone();
        let greedy = Greedy::new(6, move || shared.send(0).unwrap());
        let received = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&received);
        let drains = spawn(move || counted.fetch_add(receiver.iter().count(), Ordering::Relaxed));
        for turn in 0..200 {
            if turn % 2 == 0 {
                sender.send_until(1, in_millis(TURN_MILLIS)).expect("a turn to send");
            } else {
                select! {
                    sent = send(sender, 1) => sent.unwrap(),
                    at(in_millis(TURN_MILLIS)) => panic!("no turn to send"),
                }
            }
        }
        greedy.end();
        drop(sender);
        drains.join().unwrap();
        assert!(received.load(Ordering::Relaxed) >= 200);
    });
}

#[test]
fn no_receiver_starves_whether_it_selects_or_not() {
    on_fibers(3, || {
        let (sender, receiver) = bounded(2);
        let stop = Arc::new(AtomicBool::new(false));
        let feeds = {
            let stop = Arc::clone(&stop);
            spawn(move || while !stop.load(Ordering::Relaxed) && sender.send(()).is_ok() {})
        };
        let shared = receiver.clone();
        let greedy = Greedy::new(6, move || {
            let _ = shared.try_recv();
            yield_now();
        });
        for turn in 0..200 {
            if turn % 2 == 0 {
                receiver.recv_until(in_millis(TURN_MILLIS)).expect("a turn to receive");
            } else {
                select! {
                    value = recv(receiver) => value.unwrap(),
                    at(in_millis(TURN_MILLIS)) => panic!("no turn to receive"),
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        receiver.close();
        greedy.end();
        feeds.join().unwrap();
    });
}

#[test]
fn readers_of_a_watched_value_do_not_starve_its_sender() {
    on_fibers(3, || {
        let (sender, receiver) = watch::channel(0_u64);
        let greedy = Greedy::new(6, move || {
            let _value = receiver.borrow();
            yield_now();
        });
        let sends = spawn(move || (1..=200).map(|value| sender.replace(value)).sum::<u64>());
        assert!(sends.join_timeout(std::time::Duration::from_millis(TURN_MILLIS)).is_ok(), "no turn to send");
        greedy.end();
    });
}
