//! Once, OnceCell and Lazy: one runs, others wait; what a panic, an error or a cancellation leaves behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{in_millis, on_fibers, runtime};
use fiber_runtime::sync::{Lazy, Notify, Once, OnceCell};
use fiber_runtime::{Elapsed, JoinError, spawn, spawn_local, with_timeout, yield_now};

#[test]
fn one_initialises_while_fibers_and_threads_wait() {
    let cell = Arc::new(OnceCell::new());
    let runs = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let (cell, runs) = (cell.clone(), runs.clone());
        move || {
            *cell.get_or_init(|| {
                // An initialisation may wait; the others park meanwhile.
                (0..20).for_each(|_| yield_now());
                runs.fetch_add(1, Ordering::SeqCst) + 41
            })
        }
    };
    let runtime = runtime(3);
    let fibers: Vec<_> = (0..20).map(|_| runtime.spawn(ask())).collect();
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(ask())).collect();
    assert!(fibers.into_iter().all(|fiber| fiber.join().unwrap() == 41));
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 41));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_waiting_fiber_does_not_hold_up_its_worker() {
    on_fibers(1, || {
        let (cell, go) = (Arc::new(OnceCell::new()), Arc::new(Notify::new()));
        let first = {
            let (cell, go) = (cell.clone(), go.clone());
            spawn_local(move || {
                *cell.get_or_init(|| {
                    go.wait();
                    1
                })
            })
        };
        yield_now();
        let second = {
            let cell = cell.clone();
            spawn_local(move || *cell.get_or_init(|| 2))
        };
        yield_now();
        assert_eq!(cell.get(), None);
        assert_eq!(cell.wait_until(in_millis(2)), None);
        go.notify_one();
        assert_eq!((first.join().unwrap(), second.join().unwrap(), *cell.wait()), (1, 1, 1));
    });
}

#[test]
fn a_cell_stays_empty_after_a_panic_an_error_or_a_cancellation() {
    on_fibers(1, || {
        let cell: Arc<OnceCell<u32>> = Arc::default();
        assert!(catch_unwind(AssertUnwindSafe(|| cell.get_or_init(|| panic!("on purpose")))).is_err());
        assert_eq!(cell.get_or_try_init(|| Err("refused")), Err("refused"));
        let doomed = {
            let cell = Arc::clone(&cell);
            spawn_local(move || {
                cell.get_or_init(|| {
                    Notify::new().wait();
                    1
                });
            })
        };
        yield_now();
        // One that waits for the doomed takes over.
        let next = {
            let cell = Arc::clone(&cell);
            spawn_local(move || *cell.get_or_init(|| 2))
        };
        yield_now();
        doomed.cancel();
        assert!(matches!(doomed.join(), Err(JoinError::Cancelled)));
        assert_eq!(next.join().unwrap(), 2);
        assert_eq!(cell.set(3), Err(3));
        assert_eq!(Arc::into_inner(cell).and_then(OnceCell::into_inner), Some(2));
    });
}

#[test]
fn a_cell_can_be_set_taken_and_cloned_from() {
    let mut cell = OnceCell::new();
    assert_eq!(cell.set("one"), Ok(()));
    *cell.get_mut().unwrap() = "two";
    assert_eq!(cell.take(), Some("two"));
    assert_eq!(cell.get(), None);
    assert_eq!(OnceCell::from(5).get(), Some(&5));
}

#[test]
#[should_panic(expected = "an initialisation that is under way was asked for by itself")]
fn a_cell_that_initialises_itself_panics_in_a_thread() {
    let cell = OnceCell::new();
    cell.get_or_init(|| {
        cell.get_or_init(|| 1);
        2
    });
}

#[test]
fn a_cell_that_initialises_itself_panics_in_a_fiber() {
    on_fibers(1, || {
        let cell = Arc::new(OnceCell::<u32>::new());
        let fiber = spawn(move || {
            cell.get_or_init(|| {
                // Also after others have run in between.
                yield_now();
                *cell.wait() + 1
            });
        });
        let failed = fiber.join().unwrap_err();
        assert_eq!(failed.message(), Some("an initialisation that is under way was asked for by itself"));
    });
}

#[test]
fn once_runs_once_and_is_poisoned_by_a_panic() {
    let once = Once::new();
    assert!(!once.wait_until(in_millis(1)));
    assert!(catch_unwind(AssertUnwindSafe(|| once.call_once(|| panic!("on purpose")))).is_err());
    let refused = catch_unwind(AssertUnwindSafe(|| once.call_once(|| ()))).unwrap_err();
    assert_eq!(refused.downcast_ref::<&str>(), Some(&"an initialisation that is waited for has panicked"));
    assert!(catch_unwind(AssertUnwindSafe(|| once.wait())).is_err());
    let mut ran = false;
    once.call_once_force(|state| ran = state.is_poisoned());
    assert!(ran && once.is_completed());
    once.call_once(|| unreachable!("it has run"));
    once.wait();
}

#[test]
fn once_is_not_poisoned_by_a_cancellation() {
    on_fibers(1, || {
        let once = Arc::new(Once::new());
        let doomed = {
            let once = Arc::clone(&once);
            spawn_local(move || once.call_once(|| Notify::new().wait()))
        };
        yield_now();
        doomed.cancel();
        assert!(doomed.join().is_err());
        let mut ran = false;
        once.call_once(|| ran = true);
        assert!(ran);
    });
}

#[test]
fn once_is_not_poisoned_by_a_deadline_around_it() {
    let once = Once::new();
    let ended = with_timeout(Duration::from_millis(1), || once.call_once(|| Notify::new().wait()));
    assert_eq!(ended, Err(Elapsed));
    once.call_once(|| ());
    assert!(once.is_completed());
}

#[test]
fn lazy_is_made_at_first_use_and_poisoned_by_a_panic() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static VALUE: Lazy<usize> = Lazy::new(|| MADE.fetch_add(1, Ordering::SeqCst) + 7);
    let runtime = runtime(2);
    let fibers: Vec<_> = (0..8).map(|_| runtime.spawn(|| *VALUE)).collect();
    assert!(fibers.into_iter().all(|fiber| fiber.join().unwrap() == 7));
    assert_eq!((*VALUE, MADE.load(Ordering::SeqCst)), (7, 1));

    let failing: Lazy<u32, _> = Lazy::new(|| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(|| *failing)).is_err());
    let refused = catch_unwind(AssertUnwindSafe(|| *failing)).unwrap_err();
    assert_eq!(refused.downcast_ref::<&str>(), Some(&"an initialisation that is waited for has panicked"));
}
