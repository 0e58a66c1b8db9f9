//! Panics: contained in their fiber, told to its joiner with their payload, harmless to everybody else.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, on_fibers, runtime, wait_for};
use fiber_runtime::sync::Mutex;
use fiber_runtime::{FiberBuilder, JoinError, spawn, spawn_local, time, yield_now};

/// A payload that is not text.
#[derive(Debug, PartialEq)]
struct Code(i32);

/// Counts its drops.
struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_joiner_gets_the_payload_whatever_its_type() {
    on_fibers(2, || {
        let text = spawn(|| -> () { panic!("number {}", 7) }).join().unwrap_err();
        assert_eq!(text.message(), Some("number 7"));
        let code = spawn(|| -> () { panic_any(Code(3)) }).join().unwrap_err();
        assert_eq!(code.message(), None);
        let JoinError::Panicked(payload) = code else { panic!("it was not cancelled") };
        assert_eq!(payload.downcast_ref(), Some(&Code(3)));
    });
}

#[test]
fn a_panic_after_a_wait_is_contained_as_well() {
    on_fibers(1, || {
        let late = spawn(|| {
            time::sleep(Duration::from_millis(1));
            yield_now();
            resume_unwind(Box::new(Code(1)));
        });
        assert!(matches!(late.join(), Err(JoinError::Panicked(_))));
        assert!(!thread::panicking());
    });
}

#[test]
fn resume_goes_on_with_the_panic_in_the_joiner() {
    on_fibers(1, || {
        let inner = spawn(|| -> () { resume_unwind(Box::new(Code(5))) });
        let outer = spawn(move || inner.join().unwrap_or_else(|error| error.resume()));
        let JoinError::Panicked(payload) = outer.join().unwrap_err() else { panic!("it was not cancelled") };
        assert_eq!(payload.downcast_ref(), Some(&Code(5)));
    });
}

#[test]
fn a_worker_goes_on_after_any_number_of_panics() {
    let runtime = runtime(2);
    let dropped = Arc::new(AtomicUsize::new(0));
    let fibers: Vec<_> = (0..500)
        .map(|number| {
            let counts = Counts(Arc::clone(&dropped));
            runtime.spawn(move || {
                let _counts = counts;
                if number % 2 == 0 {
                    resume_unwind(Box::new(number));
                }
                number
            })
        })
        .collect();
    let fine = fibers.into_iter().map(|fiber| fiber.join()).filter(Result::is_ok).count();
    assert_eq!(fine, 250);
    assert_eq!(dropped.load(Ordering::SeqCst), 500, "every closure's values were dropped, once");
    assert_eq!(runtime.block_on(|| 1), 1);
    assert!(runtime.stop(PATIENCE).is_clean());
}

#[test]
fn locks_of_this_crate_are_released_and_not_poisoned() {
    on_fibers(1, || {
        let lock = Arc::new(Mutex::new(1));
        let inner = Arc::clone(&lock);
        let failing = spawn_local(move || {
            let mut value = inner.lock();
            *value = 2;
            time::sleep(Duration::from_millis(1));
            resume_unwind(Box::new(()));
        });
        assert!(failing.join().is_err());
        assert_eq!(*lock.lock(), 2);
    });
}

#[test]
fn a_fiber_that_catches_its_panic_goes_on() {
    on_fibers(1, || {
        for _ in 0..10 {
            let caught = catch_unwind(|| {
                yield_now();
                resume_unwind(Box::new(Code(9)));
            });
            assert!(caught.is_err());
            yield_now();
            assert!(!thread::panicking());
        }
    });
}

#[test]
fn other_fibers_do_not_see_themselves_panicking() {
    // Destructors of one that unwinds run between turns of others.
    struct Busy;

    impl Drop for Busy {
        fn drop(&mut self) {
            assert!(thread::panicking());
            time::sleep(Duration::from_micros(200));
        }
    }

    on_fibers(1, || {
        let others: Vec<_> = (0..4)
            .map(|_| {
                spawn_local(|| {
                    for _ in 0..200 {
                        assert!(!thread::panicking(), "a sibling's panic is seen");
                        yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            let failing = spawn_local(|| {
                let _busy = Busy;
                yield_now();
                resume_unwind(Box::new(()));
            });
            assert!(failing.join().is_err());
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_result_whose_destructor_panics_harms_nobody() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new("a result's destructor"));
        }
    }

    on_fibers(1, || {
        // Nobody takes the result: the runtime drops it, on the fiber's stack.
        spawn(|| Bomb).detach();
        (0..10).for_each(|_| yield_now());
        // The handle drops it, in the dropping fiber.
        let ended = spawn(|| Bomb);
        wait_for("the end", || ended.is_finished());
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(ended)));
        assert!(dropped.is_ok(), "a handle's drop does not panic");
        assert_eq!(spawn(|| 4).join().unwrap(), 4);
    });
}

#[test]
fn the_message_names_the_fiber() {
    const TEST: &str = "the_message_names_the_fiber";
    if std::env::var("PANIC_CHILD").is_ok() {
        on_fibers(1, || {
            let failing = FiberBuilder::new().name("unlucky").spawn(|| -> () { panic!("on purpose") });
            assert!(failing.join().is_err());
        });
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture"])
        .env("PANIC_CHILD", "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("unlucky") && errors.contains("on purpose"), "{errors}");
}
