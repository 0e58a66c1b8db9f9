//! Plain threads that make fibers, wake them and wait for them.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, runtime};
use fiber_runtime::sync::{WaitGroup, oneshot};

#[test]
fn threads_spawn_fibers_and_join_them() {
    let runtime = runtime(2);
    let ran = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            let (handle, ran) = (runtime.handle(), Arc::clone(&ran));
            scope.spawn(move || {
                let fibers: Vec<_> = (0..500)
                    .map(|number| {
                        let ran = Arc::clone(&ran);
                        handle.spawn(move || {
                            ran.fetch_add(1, Ordering::Relaxed);
                            number
                        })
                    })
                    .collect();
                let sum: usize = fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum();
                assert_eq!(sum, 499 * 500 / 2);
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), 2_000);
}

#[test]
fn threads_unpark_fibers_in_either_order() {
    let runtime = runtime(2);
    for round in 0..500 {
        let fiber = runtime.spawn(move || {
            if round % 2 == 0 {
                fiber_runtime::yield_now();
            }
            fiber_runtime::park();
        });
        fiber.fiber().unpark();
        assert!(matches!(fiber.join_timeout(PATIENCE), Ok(Ok(()))), "the wake of round {round} is lost");
    }
}

#[test]
fn fibers_spawned_from_threads_run_on_every_worker() {
    let runtime = runtime(3);
    let all_there = WaitGroup::new();
    all_there.add(3);
    let fibers: Vec<_> = (0..3)
        .map(|worker| {
            let all_there = all_there.clone();
            runtime.spawn_on(worker, move || {
                all_there.done();
                all_there.wait();
                thread::current().id()
            })
        })
        .collect();
    let mut names: Vec<_> = fibers.into_iter().map(|fiber| format!("{:?}", fiber.join().unwrap())).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "three workers are three threads");
}

#[test]
fn a_thread_answers_a_fiber() {
    let runtime = runtime(1);
    let (ask, question) = oneshot::channel();
    let (reply, answer) = oneshot::channel();
    let fiber = runtime.spawn(move || {
        ask.send(6).unwrap();
        answer.recv().unwrap()
    });
    thread::spawn(move || {
        let number: u32 = question.recv().unwrap();
        thread::sleep(Duration::from_millis(2));
        reply.send(number * 7).unwrap();
    });
    assert_eq!(fiber.join().unwrap(), 42);
}
