//! The pool: results, panics, limits, and what runs inline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::offload;
use crate::{JoinError, Runtime, spawn, time, yield_now};

fn runtime() -> Runtime {
    Runtime::builder().workers(1).blocking_threads(2).blocking_queue(2).build().unwrap()
}

#[test]
fn the_result_comes_back_from_another_thread() {
    runtime().block_on(|| {
        let worker = std::thread::current().id();
        let (sum, thread) = offload(|| ((1..=10).sum::<u32>(), std::thread::current().id()));
        assert_eq!(sum, 55);
        assert_ne!(thread, worker);
    });
}

#[test]
fn other_fibers_run_meanwhile() {
    runtime().block_on(|| {
        let release = Arc::new(AtomicBool::new(false));
        let flag = release.clone();
        let other = spawn(move || flag.store(true, Ordering::SeqCst));
        offload(move || {
            while !release.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
        });
        other.join().unwrap();
    });
}

#[test]
fn a_panic_goes_on_in_the_caller() {
    runtime().block_on(|| {
        let error = spawn(|| offload(|| panic!("in the pool"))).join().unwrap_err();
        assert_eq!(error.message(), Some("in the pool"));
        assert_eq!(offload(|| 1), 1);
    });
}

#[test]
fn the_number_of_threads_is_bounded_and_callers_beyond_the_queue_wait() {
    let runtime = runtime();
    let most = runtime.block_on(|| {
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (running, most) = (running.clone(), most.clone());
                spawn(move || {
                    offload(move || {
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        for _ in 0..100 {
                            std::thread::yield_now();
                        }
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                })
            })
            .collect();
        for call in calls {
            call.join().unwrap();
        }
        most.load(Ordering::SeqCst)
    });
    assert!((1..=2).contains(&most), "{most} calls at once");
    let metrics = runtime.metrics();
    assert_eq!(metrics.blocking_done, 50);
    assert_eq!(metrics.blocking_queued, 0);
    assert!(metrics.blocking_threads <= 2);
}

#[test]
fn a_cancelled_caller_waits_for_its_call() {
    runtime().block_on(|| {
        let started = Arc::new(AtomicBool::new(false));
        let release = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let (s, r, e) = (started.clone(), release.clone(), ended.clone());
        let caller = spawn(move || {
            offload(move || {
                s.store(true, Ordering::SeqCst);
                while !r.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                e.store(true, Ordering::SeqCst);
            });
            unreachable!("a cancelled fiber does not go on");
        });
        while !started.load(Ordering::SeqCst) {
            yield_now();
        }
        caller.cancel();
        for _ in 0..100 {
            yield_now();
        }
        assert!(!caller.is_finished(), "its stack is lent to the call");
        release.store(true, Ordering::SeqCst);
        assert!(matches!(caller.join(), Err(JoinError::Cancelled)));
        assert!(ended.load(Ordering::SeqCst));
    });
}

/// Holds a thread of the pool until the flag is set.
fn occupy(release: &AtomicBool) {
    while !release.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_call_borrows_from_its_caller() {
    runtime().block_on(|| {
        let mut buffer = vec![0; 4];
        let source = [1, 2, 3, 4];
        offload(|| buffer.copy_from_slice(&source));
        assert_eq!(buffer, source);
    });
}

#[test]
fn waiting_for_a_thread_and_for_room_is_measured() {
    let runtime = Runtime::builder().workers(1).blocking_threads(1).blocking_queue(1).build().unwrap();
    let handle = runtime.handle();
    runtime.block_on(move || {
        let release = Arc::new(AtomicBool::new(false));
        let runs = Arc::new(AtomicBool::new(false));
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let (release, runs) = (release.clone(), runs.clone());
                spawn(move || {
                    offload(move || {
                        runs.store(true, Ordering::SeqCst);
                        occupy(&release);
                    })
                })
            })
            .collect();
        // One runs, one is in the queue, two wait for room; one more may have waited before the first was taken.
        let patience = time::now() + Duration::from_secs(10);
        let settled = |metrics: &crate::Metrics| metrics.blocking_queued == 1 && metrics.blocking_full >= 2;
        while !runs.load(Ordering::SeqCst) || !settled(&handle.metrics()) {
            assert!(time::now() < patience, "{:?}", handle.metrics());
            yield_now();
        }
        let metrics = handle.metrics();
        assert_eq!((metrics.blocking_threads, metrics.blocking_idle, metrics.blocking_done), (1, 0, 0));
        time::sleep(Duration::from_millis(5));
        release.store(true, Ordering::SeqCst);
        calls.into_iter().for_each(|call| call.join().unwrap());
        let metrics = handle.metrics();
        assert_eq!((metrics.blocking_queued, metrics.blocking_done), (0, 4));
        assert!(metrics.blocking_wait_max >= Duration::from_millis(5), "{metrics:?}");
        assert!(metrics.blocking_wait >= metrics.blocking_wait_max);
    });
}

#[test]
fn threads_without_work_leave_and_come_again() {
    let runtime =
        Runtime::builder().workers(1).blocking_keep_alive(Duration::from_millis(10)).build().unwrap();
    let handle = runtime.handle();
    runtime.block_on(move || {
        for _ in 0..2 {
            offload(|| ());
            let patience = time::now() + Duration::from_secs(10);
            while handle.metrics().blocking_threads > 0 {
                assert!(time::now() < patience, "the thread stays");
                time::sleep(Duration::from_millis(1));
            }
        }
    });
}

#[test]
fn a_stop_waits_for_a_running_call_and_reports_one_that_takes_too_long() {
    let start = |runtime: &Runtime| {
        let started = Arc::new(AtomicBool::new(false));
        let release = Arc::new(AtomicBool::new(false));
        let (inside, held) = (started.clone(), release.clone());
        let call = crate::FiberBuilder::new().name("caller");
        drop(runtime.handle().spawn_with(call, move || {
            offload(move || {
                inside.store(true, Ordering::SeqCst);
                occupy(&held);
            });
        }));
        while !started.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        release
    };
    let stuck = runtime();
    let release = start(&stuck);
    let report = stuck.stop(Duration::from_millis(1));
    assert_eq!((report.cancelled, report.leftover.len()), (1, 1), "{report}");
    assert_eq!(report.leftover[0].name.as_deref(), Some("caller"), "{report}");
    release.store(true, Ordering::SeqCst);

    let patient = runtime();
    let release = start(&patient);
    let releaser = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        release.store(true, Ordering::SeqCst);
    });
    assert!(patient.stop(Duration::from_secs(10)).is_clean());
    releaser.join().unwrap();
}

#[test]
fn a_plain_thread_runs_the_call_itself() {
    let me = std::thread::current().id();
    assert_eq!(offload(|| std::thread::current().id()), me);
}

#[test]
fn a_simulation_runs_the_call_itself() {
    crate::sim::Sim::new(1).run(|| {
        let me = std::thread::current().id();
        assert_eq!(offload(|| std::thread::current().id()), me);
        time::sleep(Duration::from_secs(1));
    });
}
