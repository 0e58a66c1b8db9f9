//! Spawning, joining, parking, stopping: what a user of the runtime relies on.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::{
    JoinError, Wake, current, in_fiber, park, park_until, spawn, spawn_local, spawn_on, time, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).name("test").build().unwrap()
}

/// Runs `body` as a fiber of a one-worker runtime that then stops cleanly.
fn in_runtime<T: Send>(workers: usize, body: impl FnOnce() -> T + Send) -> T {
    let runtime = runtime(workers);
    let value = runtime.block_on(body);
    let report = runtime.stop(Duration::from_secs(5));
    assert!(report.is_clean(), "{report}");
    value
}

/// Gives way until `condition` holds; fails after ten seconds.
fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true in ten seconds");
        if in_fiber() { yield_now() } else { std::thread::yield_now() }
    }
}

#[test]
fn block_on_returns_the_result() {
    assert_eq!(in_runtime(1, || 6 * 7), 42);
}

#[test]
fn block_on_may_borrow_from_the_caller() {
    let text = String::from("borrowed");
    assert_eq!(in_runtime(2, || text.len()), 8);
}

#[test]
fn joined_fibers_return_their_results() {
    for workers in [1, 2, 4] {
        let sum = in_runtime(workers, || {
            let handles: Vec<_> = (0..1000u64).map(|n| spawn(move || n)).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).sum::<u64>()
        });
        assert_eq!(sum, 499_500);
    }
}

#[test]
fn a_plain_thread_joins_a_fiber() {
    let runtime = runtime(2);
    let handle = runtime.spawn(|| {
        time::sleep(Duration::from_millis(5));
        "done"
    });
    assert_eq!(handle.join().unwrap(), "done");
}

#[test]
fn join_timeout_gives_the_handle_back() {
    in_runtime(1, || {
        let gate = spawn(park);
        let gate = gate.join_timeout(Duration::from_millis(2)).unwrap_err();
        gate.fiber().unpark();
        gate.join().unwrap();
    });
}

#[test]
fn a_panic_is_contained_and_its_payload_reaches_the_joiner() {
    in_runtime(1, || {
        let other = spawn(|| 5);
        let error = spawn(|| panic!("boom {}", 7)).join().unwrap_err();
        assert_eq!(error.message(), Some("boom 7"));
        assert!(matches!(error, JoinError::Panicked(_)));
        assert_eq!(other.join().unwrap(), 5);
        assert!(!std::thread::panicking());
    });
}

#[test]
fn block_on_passes_a_panic_on() {
    let runtime = runtime(1);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(|| panic!("up"))));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "up");
    assert_eq!(runtime.block_on(|| 1), 1);
}

#[test]
fn yield_now_lets_others_run_in_turn() {
    let order = in_runtime(1, || {
        let order = Rc::new(Cell::new(0u64));
        let handles: Vec<_> = (1..=3)
            .map(|digit| {
                let order = order.clone();
                spawn_local(move || {
                    for _ in 0..2 {
                        order.set(order.get() * 10 + digit);
                        yield_now();
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
        order.get()
    });
    assert_eq!(order, 123_123);
}

#[test]
fn an_unpark_before_the_park_is_not_lost() {
    in_runtime(1, || {
        current().unpark();
        park();
    });
}

#[test]
fn an_unpark_after_the_park_wakes() {
    in_runtime(1, || {
        let parked = spawn(park);
        yield_now();
        yield_now();
        assert!(!parked.is_finished());
        parked.fiber().unpark();
        parked.join().unwrap();
    });
}

#[test]
fn an_unpark_before_the_start_is_not_lost() {
    in_runtime(1, || {
        let unstarted = spawn(park);
        unstarted.fiber().unpark();
        unstarted.join().unwrap();
    });
    // From another thread, before the worker can have started it.
    let runtime = runtime(1);
    let handle = runtime.spawn(park);
    handle.fiber().unpark();
    handle.join().unwrap();
}

#[test]
fn a_join_does_not_swallow_an_unpark() {
    in_runtime(1, || {
        let me = current();
        let child = spawn(move || me.unpark());
        child.join().unwrap();
        // The token given while this fiber waited in join is still there.
        assert_eq!(park_until(Some(time::now())), Wake::Unparked);
    });
}

#[test]
fn wakes_from_other_workers_are_not_lost() {
    in_runtime(4, || {
        let rounds = 2000;
        let turn = Arc::new(AtomicUsize::new(0));
        let play = |me: usize, turn: Arc<AtomicUsize>, partner: Arc<std::sync::OnceLock<crate::Fiber>>| {
            move || {
                for round in 0..rounds {
                    while turn.load(Ordering::Acquire) != 2 * round + me {
                        park();
                    }
                    turn.store(2 * round + me + 1, Ordering::Release);
                    if let Some(partner) = partner.get() {
                        partner.unpark();
                    }
                }
            }
        };
        let partners: [Arc<std::sync::OnceLock<crate::Fiber>>; 2] = Default::default();
        let first = spawn_on(1, play(0, turn.clone(), partners[1].clone()));
        let second = spawn_on(2, play(1, turn.clone(), partners[0].clone()));
        partners[0].set(first.fiber().clone()).unwrap();
        partners[1].set(second.fiber().clone()).unwrap();
        first.fiber().unpark();
        second.fiber().unpark();
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(turn.load(Ordering::Acquire), 2 * rounds);
    });
}

#[test]
fn park_until_times_out() {
    in_runtime(1, || {
        let began = time::now();
        assert_eq!(park_until(Some(began + Duration::from_millis(3))), Wake::TimedOut);
        assert!(time::now() - began >= Duration::from_millis(3));
        assert_eq!(park_until(Some(began)), Wake::TimedOut);
    });
}

#[test]
fn spawn_on_starts_on_the_worker_asked_for_and_stays() {
    in_runtime(3, || {
        for worker in 0..3 {
            let threads = spawn_on(worker, || {
                let first = std::thread::current().id();
                for _ in 0..10 {
                    yield_now();
                    time::sleep(Duration::from_micros(50));
                }
                (first, std::thread::current().id(), std::thread::current().name().map(str::to_owned))
            })
            .join()
            .unwrap();
            assert_eq!(threads.0, threads.1);
            assert_eq!(threads.2.as_deref(), Some(format!("test-{worker}").as_str()));
        }
    });
}

#[test]
fn unstarted_fibers_are_stolen_from_a_busy_worker() {
    in_runtime(2, || {
        let release = Arc::new(AtomicBool::new(false));
        let started = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..8)
            .map(|_| {
                let (release, started) = (release.clone(), started.clone());
                spawn(move || {
                    started.fetch_add(1, Ordering::SeqCst);
                    while !release.load(Ordering::SeqCst) {
                        time::sleep(Duration::from_micros(100));
                    }
                })
            })
            .collect();
        // This worker never gives way here: somebody else must start them.
        let deadline = Instant::now() + Duration::from_secs(10);
        while started.load(Ordering::SeqCst) < 8 {
            assert!(Instant::now() < deadline, "only {} were stolen", started.load(Ordering::SeqCst));
            std::hint::spin_loop();
        }
        release.store(true, Ordering::SeqCst);
        for handle in handles {
            handle.join().unwrap();
        }
    });
}

#[test]
fn fibers_from_outside_are_stolen_from_a_worker_that_is_stuck() {
    let runtime = runtime(2);
    let release = Arc::new(AtomicBool::new(false));
    let flag = release.clone();
    let stuck = runtime.spawn_on(0, move || {
        while !flag.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
    });
    let handles: Vec<_> = (0..100).map(|n| runtime.spawn(move || n)).collect();
    let sum: i32 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
    assert_eq!(sum, 4950);
    assert!(!stuck.is_finished());
    release.store(true, Ordering::SeqCst);
    stuck.join().unwrap();
}

#[test]
fn a_dropped_handle_detaches() {
    in_runtime(1, || {
        let ran = Arc::new(AtomicBool::new(false));
        let flag = ran.clone();
        spawn(move || flag.store(true, Ordering::SeqCst)).detach();
        eventually(|| ran.load(Ordering::SeqCst));
    });
}

#[test]
fn cancel_unwinds_and_runs_destructors() {
    in_runtime(1, || {
        let dropped = Arc::new(AtomicBool::new(false));
        struct Flag(Arc<AtomicBool>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let flag = Flag(dropped.clone());
        let handle = spawn(move || {
            let _flag = flag;
            park();
            unreachable!("a cancelled fiber does not go on");
        });
        yield_now();
        handle.cancel();
        assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
        assert!(dropped.load(Ordering::SeqCst));
    });
}

#[test]
fn a_cancelled_fiber_that_has_not_started_never_does() {
    in_runtime(1, || {
        let handle = spawn(|| unreachable!("cancelled before its start"));
        handle.cancel();
        assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
    });
}

#[test]
fn stop_is_prompt_for_any_number_of_workers() {
    for workers in 1..=16 {
        for use_caller in [false, true] {
            let runtime = Runtime::builder().workers(workers).use_caller(use_caller).build().unwrap();
            runtime.block_on(|| spawn(yield_now).join().unwrap());
            let began = Instant::now();
            let report = runtime.stop(Duration::from_secs(5));
            assert!(report.is_clean(), "{report}");
            let took = began.elapsed();
            assert!(took < Duration::from_millis(50), "{workers} workers took {took:?}, caller {use_caller}");
        }
    }
}

#[test]
fn stop_waits_for_fibers_that_end_in_time() {
    for use_caller in [false, true] {
        let runtime = Runtime::builder().workers(2).use_caller(use_caller).build().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let flag = done.clone();
        runtime
            .spawn_on(0, move || {
                time::sleep(Duration::from_millis(30));
                flag.store(true, Ordering::SeqCst);
            })
            .detach();
        let report = runtime.stop(Duration::from_secs(5));
        assert!(report.is_clean(), "{report}");
        assert!(done.load(Ordering::SeqCst));
    }
}

#[test]
fn stop_cancels_what_does_not_end() {
    for use_caller in [false, true] {
        let runtime = Runtime::builder().workers(2).use_caller(use_caller).build().unwrap();
        let handles: Vec<_> = (0..10).map(|n| runtime.spawn_on(n % 2, park)).collect();
        let report = runtime.stop(Duration::from_millis(10));
        assert_eq!(report.cancelled, 10);
        assert!(report.leftover.is_empty(), "{report}");
        for handle in handles {
            assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
        }
    }
}

#[test]
fn stop_reports_by_name_who_does_not_end() {
    let runtime = runtime(2);
    let release = Arc::new(AtomicBool::new(false));
    let flag = release.clone();
    let body = move || {
        while !flag.load(Ordering::SeqCst) {
            let _ = std::panic::catch_unwind(park);
            std::thread::sleep(Duration::from_micros(100));
        }
    };
    let stubborn = runtime.handle().spawn_with(FiberBuilder::new().name("stubborn").worker(1), body);
    let report = runtime.stop(Duration::from_millis(10));
    assert_eq!(report.leftover.len(), 1, "{report}");
    assert_eq!(report.leftover[0].name.as_deref(), Some("stubborn"), "{report}");
    release.store(true, Ordering::SeqCst);
    stubborn.join().unwrap();
}

#[test]
fn a_spawn_after_the_stop_is_cancelled() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    runtime.stop(Duration::from_secs(1));
    assert!(matches!(handle.spawn(|| 1).join(), Err(JoinError::Cancelled)));
}

#[test]
fn use_caller_runs_on_the_calling_thread() {
    let runtime = Runtime::builder().workers(1).use_caller(true).build().unwrap();
    let thread = std::thread::current().id();
    assert!(runtime.block_on(move || std::thread::current().id() == thread));
    assert!(runtime.block_on(move || spawn(move || std::thread::current().id() == thread).join().unwrap()));
}

#[test]
fn use_caller_helps_other_workers() {
    let runtime = Runtime::builder().workers(2).use_caller(true).build().unwrap();
    let other = runtime.block_on(|| spawn_on(1, || std::thread::current().id()).join().unwrap());
    assert_ne!(other, std::thread::current().id());
}

#[test]
fn a_wait_while_unwinding_blocks_the_thread_instead_of_switching() {
    in_runtime(2, || {
        let ran = Rc::new(Cell::new(false));
        struct Waits(Rc<Cell<bool>>);
        impl Drop for Waits {
            fn drop(&mut self) {
                time::sleep(Duration::from_millis(5));
                assert!(!self.0.get(), "another fiber ran while this one unwinds");
            }
        }
        let waits = Waits(ran.clone());
        let panics = spawn_local(move || {
            let _waits = waits;
            panic!("on purpose");
        });
        let other = spawn_local(move || ran.set(true));
        assert_eq!(panics.join().unwrap_err().message(), Some("on purpose"));
        other.join().unwrap();
    });
}

#[test]
fn metrics_count_fibers() {
    let runtime = runtime(2);
    runtime.block_on(|| {
        for handle in (0..10).map(|_| spawn(|| ())).collect::<Vec<_>>() {
            handle.join().unwrap();
        }
    });
    eventually(|| runtime.metrics().alive() == 0);
    let metrics = runtime.metrics();
    assert_eq!(metrics.workers.iter().map(|worker| worker.ended).sum::<u64>(), 11);
    assert_eq!(metrics.spawned_outside, 1);
}
