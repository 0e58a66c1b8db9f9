//! The end of a runtime: in peace, then by cancellation, then with a report of who would not go.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, runtime, wait_for};
use fiber_runtime::diagnostics::FiberState;
use fiber_runtime::{
    CancelToken, FiberBuilder, JoinError, Runtime, park, shielded, spawn, sync::Semaphore, time, yield_now,
};

#[test]
fn fibers_that_hear_of_the_stop_end_by_themselves() {
    let runtime = runtime(2);
    let served = Arc::new(AtomicUsize::new(0));
    let servers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (runtime.stop_token(), served.clone());
            runtime.spawn(move || {
                stop.cancelled();
                // Not cancelled yet: there is time for an orderly end.
                time::sleep(Duration::from_millis(2));
                served.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    let handle = runtime.handle();
    assert!(!handle.stop_token().is_cancelled());
    assert!(runtime.stop(PATIENCE).is_clean());
    assert!(handle.stop_token().is_cancelled());
    servers.into_iter().for_each(|server| server.join().unwrap());
    assert_eq!(served.load(Ordering::SeqCst), 4);
}

#[test]
fn cancelling_the_token_by_hand_stops_nothing() {
    let runtime = runtime(1);
    runtime.stop_token().cancel();
    assert!(!runtime.stop_token().is_cancelled());
    assert_eq!(runtime.block_on(|| 1), 1);
}

#[test]
fn what_is_spawned_while_the_runtime_stops_still_runs() {
    let runtime = runtime(2);
    let stop = runtime.stop_token();
    let parent = runtime.spawn(move || {
        stop.cancelled();
        spawn(|| 6 * 7).join().unwrap()
    });
    assert!(runtime.stop(PATIENCE).is_clean());
    assert_eq!(parent.join().unwrap(), 42);
}

#[test]
fn after_the_deadline_fibers_are_cancelled_and_unwound() {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let runtime = runtime(2);
    let (entered, unwound) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for n in 0..10 {
        let (entered, count) = (entered.clone(), Count(unwound.clone()));
        let wait = move || {
            let _count = count;
            entered.fetch_add(1, Ordering::SeqCst);
            if n % 2 == 0 { park() } else { time::sleep(Duration::MAX) }
        };
        runtime.spawn(wait).detach();
    }
    wait_for("all to wait", || entered.load(Ordering::SeqCst) == 10);
    let report = runtime.stop(Duration::ZERO);
    assert_eq!((report.cancelled, report.leftover.len(), report.unlisted), (10, 0, 0), "{report}");
    assert_eq!(unwound.load(Ordering::SeqCst), 10);
    assert!(!report.is_clean());
}

#[test]
fn the_report_names_who_would_not_end_and_what_it_waits_for() {
    let runtime = runtime(2);
    let gate = Arc::new(Semaphore::new(0));
    let inner = gate.clone();
    let stubborn = runtime.handle().spawn_with(FiberBuilder::new().name("stubborn").worker(1), move || {
        shielded(|| inner.acquire().keep());
    });
    runtime.spawn(|| time::sleep(Duration::MAX)).detach();
    wait_for("the wait", || runtime.metrics().workers.iter().map(|worker| worker.started).sum::<u64>() == 2);
    let report = runtime.stop(Duration::from_millis(1));
    assert_eq!((report.cancelled, report.leftover.len()), (2, 1), "{report}");
    let left = &report.leftover[0];
    assert_eq!((left.name.as_deref(), left.worker), (Some("stubborn"), Some(1)));
    assert!(matches!(left.state, FiberState::Parked { waits_for: "semaphore", .. }), "{left:?}");
    let text = report.to_string();
    assert!(text.contains("2 fibers cancelled, 1 left over"), "{text}");
    assert!(text.contains("'stubborn'") && text.contains("waits for semaphore"), "{text}");
    if cfg!(target_arch = "x86_64") {
        assert!(!left.backtrace.is_empty(), "{text}");
    }
    // Its worker runs on, so that it may end one day.
    gate.release(1);
    stubborn.join_timeout(PATIENCE).expect("the worker of a fiber that is left runs on").unwrap();
}

#[test]
fn a_fiber_that_never_gives_way_is_reported_as_running() {
    let runtime = runtime(1);
    let (go, spinning) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (may_go, started) = (go.clone(), spinning.clone());
    let hog = runtime.handle().spawn_with(FiberBuilder::new().name("hog"), move || {
        started.store(true, Ordering::SeqCst);
        while !may_go.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
    });
    wait_for("the hog", || spinning.load(Ordering::SeqCst));
    let report = runtime.stop(Duration::ZERO);
    assert_eq!(report.leftover.len(), 1, "{report}");
    assert_eq!(report.leftover[0].name.as_deref(), Some("hog"), "{report}");
    assert!(matches!(report.leftover[0].state, FiberState::Running), "{report}");
    go.store(true, Ordering::SeqCst);
    hog.join_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn the_caller_s_own_worker_is_reported_too() {
    let runtime = Runtime::builder().workers(1).use_caller(true).build().unwrap();
    let stubborn = || shielded(|| time::sleep(Duration::from_secs(3600)));
    runtime.block_on(|| {
        FiberBuilder::new().name("at the caller").spawn(stubborn).detach();
        yield_now();
    });
    let report = runtime.stop(Duration::ZERO);
    assert_eq!(report.leftover.len(), 1, "{report}");
    assert_eq!(report.leftover[0].name.as_deref(), Some("at the caller"));
    assert_eq!(report.unlisted, 0, "{report}");
}

#[test]
fn stopping_from_inside_cancels_and_does_not_wait_for_itself() {
    let runtime = runtime(1);
    let token = CancelToken::new();
    let handle = runtime.handle();
    let bound = FiberBuilder::new().cancel_token(&token);
    let other = handle.spawn_with(bound, park);
    let stopper = handle.spawn(move || {
        let report = runtime.stop(PATIENCE);
        assert!(report.cancelled >= 1, "{report}");
        park();
    });
    assert!(matches!(stopper.join(), Err(JoinError::Cancelled)));
    assert!(matches!(other.join(), Err(JoinError::Cancelled)));
}

#[test]
fn a_stop_with_all_the_time_in_the_world_returns_when_the_last_fiber_ends() {
    let runtime = runtime(1);
    let began = Instant::now();
    runtime.spawn(|| time::sleep(Duration::from_millis(5))).detach();
    assert!(runtime.stop(Duration::MAX).is_clean());
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn spawning_after_the_stop_gives_cancelled_from_everywhere() {
    let gone = runtime(2);
    let handle = gone.handle();
    assert!(gone.stop(PATIENCE).is_clean());
    assert!(matches!(handle.spawn(|| 1).join(), Err(JoinError::Cancelled)));
    assert!(matches!(handle.spawn_on(1, || 1).join(), Err(JoinError::Cancelled)));
    let alive = runtime(1);
    let inner = handle.clone();
    let outcome = alive.block_on(move || inner.spawn(|| 1).join());
    assert!(matches!(outcome, Err(JoinError::Cancelled)));
}
