//! Spawning: settings, handles, and what is asked for in vain.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{PATIENCE, in_millis, on_fibers, runtime};
use fiber_runtime::sync::{Spin, oneshot};
use fiber_runtime::{
    FiberBuilder, JoinError, JoinHandle, Runtime, current, park, sim, spawn, spawn_local, spawn_on, time,
    try_current, yield_now,
};

/// The message that `body` panics with.
#[track_caller]
fn panic_of<T>(body: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(body)).err().expect("a panic");
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("a message")
}

#[test]
fn names_numbers_and_workers_are_what_was_asked_for() {
    on_fibers(2, || {
        let builder = FiberBuilder::new().name("clerk").worker(1).stack_size(512 * 1024);
        let clerk = builder.spawn(|| (current().id(), current().name().map(str::to_owned), deep(300_000)));
        let id = clerk.fiber().id();
        assert_eq!(clerk.join().unwrap(), (id, Some("clerk".to_owned()), 300_000));
        assert_ne!(spawn(|| current().id()).join().unwrap(), id);
        assert_eq!(spawn(|| current().name().map(str::to_owned)).join().unwrap(), None);
    });
    assert!(try_current().is_none());
}

/// Uses about `bytes` of stack.
fn deep(bytes: usize) -> usize {
    let page = std::hint::black_box([0u8; 4096]);
    if bytes <= page.len() { bytes } else { deep(bytes - page.len()) + page.len() }
}

#[test]
fn stacks_of_absurd_sizes_are_rounded_to_the_limits() {
    on_fibers(1, || {
        for bytes in [0, 1, 2, usize::MAX] {
            let fiber = FiberBuilder::new().stack_size(bytes).spawn(move || bytes.wrapping_add(1));
            assert_eq!(fiber.join().unwrap(), bytes.wrapping_add(1));
        }
    });
    for bytes in [0, 2] {
        let runtime = Runtime::builder().workers(1).stack_size(bytes).build().unwrap();
        assert_eq!(runtime.block_on(|| 3), 3);
    }
}

#[test]
fn runtimes_of_absurd_sizes_are_refused() {
    for workers in [0, 1025, usize::MAX] {
        let error = Runtime::builder().workers(workers).build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&workers.to_string()), "{error}");
    }
}

#[test]
fn a_worker_that_does_not_exist_is_an_error_with_both_numbers() {
    let runtime = runtime(2);
    let outside = panic_of(|| runtime.spawn_on(2, || ()));
    assert!(outside.contains("worker 2 of 2"), "{outside}");
    let inside = runtime.block_on(|| panic_of(|| spawn_on(7, || ())));
    assert!(inside.contains("worker 7 of 2"), "{inside}");
    let local = runtime.block_on(|| {
        let elsewhere = FiberBuilder::new().worker(usize::MAX);
        panic_of(|| elsewhere.spawn_local(|| ()))
    });
    assert!(local.contains("spawn_local"), "{local}");
}

#[test]
fn spawning_outside_a_fiber_says_where_to_spawn() {
    assert!(panic_of(|| spawn(|| ())).contains("Runtime::spawn"));
    assert!(panic_of(|| spawn_local(|| ())).contains("in a fiber"));
}

#[test]
fn a_fiber_that_joins_itself_panics_instead_of_waiting_for_ever() {
    type Own = JoinHandle<()>;

    on_fibers(1, || {
        let joins: [fn(Own); 2] = [|own| drop(own.join()), |own| drop(own.join_until(in_millis(60_000)))];
        for join in joins {
            let (give, take) = oneshot::channel::<Own>();
            let (tell, told) = oneshot::channel();
            let fiber = FiberBuilder::new().name("narcissus").spawn(move || {
                let own = take.recv().unwrap();
                tell.send(panic_of(|| join(own))).unwrap();
            });
            give.send(fiber).unwrap();
            let message = told.recv_until(in_millis(30_000)).unwrap();
            assert!(message.contains("'narcissus'") && message.contains("joins itself"), "{message}");
        }
    });
}

#[test]
fn a_join_with_a_deadline_gives_the_handle_back() {
    on_fibers(1, || {
        let fiber = spawn(park);
        let fiber = fiber.join_until(in_millis(2)).unwrap_err();
        let fiber = fiber.join_timeout(Duration::from_millis(2)).unwrap_err();
        assert!(!fiber.is_finished());
        fiber.fiber().unpark();
        fiber.join_timeout(Duration::MAX).unwrap().unwrap();
    });
}

#[test]
fn block_on_inside_a_fiber_parks_that_fiber() {
    let runtime = Arc::new(runtime(1));
    let inner = runtime.clone();
    let other_ran = Arc::new(AtomicBool::new(false));
    let told = other_ran.clone();
    let result = runtime.block_on(move || {
        let other = spawn(move || told.store(true, Ordering::SeqCst));
        // On the only worker, whose fiber this is.
        let result = inner.block_on(|| {
            yield_now();
            5
        });
        other.join().unwrap();
        result
    });
    assert_eq!(result, 5);
    assert!(other_ran.load(Ordering::SeqCst));
}

#[test]
fn block_on_of_a_real_runtime_in_a_simulation_is_refused() {
    let runtime = runtime(1);
    let message = sim::Sim::new(1).run(|| panic_of(|| runtime.block_on(|| ())));
    assert!(message.contains("in a simulation"), "{message}");
}

#[test]
fn a_sleep_for_ever_is_one_and_can_be_ended() {
    on_fibers(1, || {
        let sleepers = [
            spawn(|| time::sleep(Duration::MAX)),
            spawn(|| time::sleep(Duration::from_secs(u64::MAX / 4))),
            spawn(|| fiber_runtime::with_timeout(Duration::MAX, park).unwrap()),
        ];
        time::sleep(Duration::from_millis(2));
        for sleeper in sleepers {
            assert!(!sleeper.is_finished());
            sleeper.cancel();
            assert!(matches!(sleeper.join(), Err(JoinError::Cancelled)));
        }
    });
}

#[test]
fn results_are_dropped_once_whoever_lets_go() {
    struct Count(Arc<Spin<u32>>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.lock(|count| *count += 1);
        }
    }
    let drops = Arc::new(Spin::new(0));
    let count = || Count(drops.clone());
    let runtime = runtime(2);
    for round in 0..100 {
        let (one, two, three) = (count(), count(), count());
        let joined = runtime.spawn(move || one);
        let detached = runtime.spawn(move || two);
        let late = runtime.spawn(move || three);
        drop(joined.join().unwrap());
        detached.detach();
        if round % 2 == 0 {
            yield_now();
        }
        drop(late);
    }
    assert!(runtime.stop(PATIENCE).is_clean());
    assert_eq!(drops.lock(|count| *count), 300);
}
