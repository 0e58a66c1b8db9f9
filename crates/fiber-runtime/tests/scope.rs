//! Scopes: fibers that borrow, and that never outlive what they borrow.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::sync::channel;
use fiber_runtime::{
    Elapsed, FiberBuilder, JoinError, park, scope, sim, spawn, spawn_local, time, with_timeout, yield_now,
};

#[test]
fn fibers_borrow_and_the_scope_waits_for_all_of_them() {
    on_fibers(2, || {
        let numbers: Vec<u64> = (0..1000).collect();
        let sum = AtomicUsize::new(0);
        scope(|scope| {
            for chunk in numbers.chunks(10) {
                let sum = &sum;
                scope.spawn(move || {
                    time::sleep(Duration::from_micros(100));
                    sum.fetch_add(chunk.iter().sum::<u64>() as usize, Ordering::Relaxed);
                });
            }
            assert!(scope.len() <= 100);
        });
        assert_eq!(sum.into_inner(), 499_500);
    });
}

#[test]
fn handles_give_results_that_borrow() {
    on_fibers(2, || {
        let text = String::from("stackful fibers borrow");
        let words = scope(|scope| {
            let first = scope.spawn(|| text.split(' ').next().unwrap());
            let last = scope
                .spawn_with(FiberBuilder::new().name("last").worker(1), || text.rsplit(' ').next().unwrap());
            assert_eq!(last.fiber().name(), Some("last"));
            [first.join().unwrap(), last.join_until(in_millis(30_000)).unwrap().unwrap()]
        });
        assert_eq!(words, ["stackful", "borrow"]);
    });
}

#[test]
fn local_fibers_share_what_is_not_send() {
    on_fibers(2, || {
        let log = RefCell::new(Vec::new());
        let shared = Rc::new(Cell::new(0));
        scope(|scope| {
            for n in 0..4 {
                let (log, shared) = (&log, shared.clone());
                scope.spawn_local(move || {
                    yield_now();
                    shared.set(shared.get() + n);
                    log.borrow_mut().push(n);
                });
            }
        });
        assert_eq!((shared.get(), log.into_inner().len()), (6, 4));
    });
}

#[test]
fn fibers_of_a_scope_spawn_into_it() {
    on_fibers(2, || {
        let count = AtomicUsize::new(0);
        scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        scope.spawn(|| count.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 16);
    });
}

/// Spawns three fibers that sleep for ever and note that they were unwound, and calls `body`; returns how many were.
fn unwound_after(body: impl FnOnce(&fiber_runtime::Scope<'_, '_>)) -> (std::thread::Result<()>, usize) {
    struct Note<'a>(&'a AtomicUsize);
    impl Drop for Note<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let unwound = AtomicUsize::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let _note = Note(&unwound);
                    time::sleep(Duration::MAX);
                });
            }
            time::sleep(Duration::from_millis(1));
            body(scope);
        });
    }));
    (outcome, unwound.into_inner())
}

#[test]
fn a_panic_of_the_body_cancels_the_fibers_and_goes_on_after_they_have_ended() {
    on_fibers(2, || {
        let (outcome, unwound) = unwound_after(|_| panic!("body"));
        assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"body"));
        assert_eq!(unwound, 3);
    });
}

#[test]
fn a_cancelled_scope_ends_its_fibers_and_the_body_goes_on() {
    on_fibers(2, || {
        let (outcome, unwound) = unwound_after(|scope| {
            assert!(!scope.is_cancelled());
            scope.cancel();
            assert!(scope.is_cancelled());
        });
        assert!(outcome.is_ok());
        assert_eq!(unwound, 3);
        let ran = AtomicBool::new(false);
        scope(|scope| {
            scope.cancel();
            let late = scope.spawn(|| ran.store(true, Ordering::SeqCst));
            assert!(matches!(late.join(), Err(JoinError::Cancelled)));
        });
        assert!(!ran.into_inner(), "what is spawned into a cancelled scope never starts");
    });
}

#[test]
fn a_cancelled_fiber_leaves_its_scope_only_after_the_children() {
    for waits_in_body in [true, false] {
        on_fibers(2, move || {
            let unwound = Arc::new(AtomicUsize::new(0));
            let seen = unwound.clone();
            let parent = spawn(move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    unwound_into(&seen, waits_in_body);
                }));
                let at_the_end = seen.load(Ordering::SeqCst);
                assert!(outcome.is_err());
                at_the_end
            });
            time::sleep(Duration::from_millis(5));
            parent.cancel();
            assert_eq!(parent.join().unwrap(), 2, "waits in body: {waits_in_body}");
        });
    }
}

fn unwound_into(count: &AtomicUsize, waits_in_body: bool) {
    struct Slow<'a>(&'a AtomicUsize);
    impl Drop for Slow<'_> {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(5));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _slow = Slow(count);
                park();
            });
        }
        if waits_in_body {
            park();
        }
    });
}

#[test]
fn a_deadline_around_a_scope_cancels_its_fibers() {
    on_fibers(2, || {
        let ended = AtomicUsize::new(0);
        let outcome = with_timeout(Duration::from_millis(10), || {
            scope(|scope| {
                scope.spawn(|| {
                    let _ = catch_unwind(|| time::sleep(Duration::MAX));
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            });
        });
        assert_eq!((outcome, ended.into_inner()), (Err(Elapsed), 1));
    });
}

#[test]
fn a_leaked_handle_neither_frees_nor_hangs_the_scope() {
    on_fibers(2, || {
        let text = String::from("borrowed");
        let ran = AtomicBool::new(false);
        scope(|scope| {
            let handle = scope.spawn(|| {
                yield_now();
                ran.store(true, Ordering::SeqCst);
                &text[..]
            });
            let _leaked = std::mem::ManuallyDrop::new(handle);
        });
        assert!(ran.into_inner());
    });
}

#[test]
fn results_that_nobody_takes_are_dropped_before_the_scope_ends() {
    struct Needs<'a>(&'a AtomicUsize);
    impl Drop for Needs<'_> {
        fn drop(&mut self) {
            yield_now();
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    on_fibers(2, || {
        for _ in 0..200 {
            let dropped = AtomicUsize::new(0);
            scope(|scope| {
                for _ in 0..4 {
                    drop(scope.spawn(|| Needs(&dropped)));
                }
                let kept = scope.spawn(|| Needs(&dropped));
                drop(kept);
            });
            assert_eq!(dropped.into_inner(), 5);
        }
    });
}

#[test]
fn a_panic_that_nobody_joined_makes_the_scope_panic_and_one_that_was_joined_does_not() {
    on_fibers(2, || {
        let unseen = catch_unwind(|| {
            scope(|scope| {
                drop(scope.spawn(|| panic!("unseen")));
                scope.spawn(|| time::sleep(Duration::from_millis(1)));
            });
        });
        let message = unseen.unwrap_err();
        assert_eq!(
            message.downcast_ref::<&str>(),
            Some(&"a fiber of the scope panicked and nobody joined it")
        );
        let seen = scope(|scope| scope.spawn(|| panic!("seen")).join());
        assert_eq!(seen.unwrap_err().message(), Some("seen"));
        // A cancellation is no panic.
        scope(|scope| scope.spawn(park).cancel());
    });
}

#[test]
fn block_on_in_a_cancelled_fiber_ends_the_inner_fiber_first() {
    struct Flag<'a>(&'a AtomicBool);
    impl Drop for Flag<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (outer, inner) = (runtime(1), runtime(1));
    let (entered, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let outcome = outer.block_on(|| {
        scope(|scope| {
            let fiber = scope.spawn(|| {
                inner.block_on(|| {
                    let _flag = Flag(&ended);
                    entered.store(true, Ordering::SeqCst);
                    park();
                });
            });
            wait_for("the inner fiber", || entered.load(Ordering::SeqCst));
            fiber.cancel();
            fiber.join()
        })
    });
    assert!(matches!(outcome, Err(JoinError::Cancelled)), "{outcome:?}");
    assert!(ended.into_inner(), "the inner fiber was unwound");
}

#[test]
fn a_scope_outside_a_fiber_panics_and_says_where_to_go() {
    let panic = catch_unwind(|| scope(|_| ())).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>().copied(), None);
    assert!(panic.downcast_ref::<String>().is_none_or(|text| text.contains("in a fiber")));
}

#[test]
fn under_every_schedule_and_cancellation_nothing_outlives_the_scope() {
    for seed in 0..300 {
        sim::Sim::new(seed).run(|| {
            let parent = spawn_local(|| {
                let alive = Cell::new(0);
                struct Alive<'a>(&'a Cell<i32>);
                impl Drop for Alive<'_> {
                    fn drop(&mut self) {
                        self.0.set(self.0.get() - 1);
                    }
                }
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let (sender, receiver) = channel::bounded(1);
                    scope(|scope| {
                        for n in 0..5u64 {
                            let (sender, alive) = (sender.clone(), &alive);
                            scope.spawn_local(move || {
                                alive.set(alive.get() + 1);
                                let _alive = Alive(alive);
                                time::sleep(Duration::from_millis(n));
                                let _ = sender.send(n);
                            });
                        }
                        drop(sender);
                        while receiver.recv().is_ok() {
                            if sim::random_u64().is_multiple_of(16) {
                                panic!("body");
                            }
                        }
                    });
                }));
                assert_eq!(alive.get(), 0);
                outcome.is_ok()
            });
            time::sleep(Duration::from_micros(sim::random_u64() % 6_000));
            if sim::random_u64().is_multiple_of(2) {
                parent.cancel();
            }
            match parent.join() {
                Ok(_) | Err(JoinError::Cancelled) => {}
                Err(error) => error.resume(),
            }
        });
    }
}
