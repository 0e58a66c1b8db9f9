//! Cancel tokens: fibers, waiters and children hear of the word, each once, whenever they came.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::{
    CancelToken, Cancelled, FiberBuilder, JoinError, park, select, sim::Sim, spawn, time, yield_now,
};

#[test]
fn bound_fibers_are_cancelled_and_others_are_not() {
    on_fibers(2, || {
        let token = CancelToken::new();
        let bound: Vec<_> = (0..10).map(|_| FiberBuilder::new().cancel_token(&token).spawn(park)).collect();
        let free = spawn(park);
        time::sleep(Duration::from_millis(1));
        token.cancel();
        token.cancel();
        for fiber in bound {
            assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
        }
        assert!(!free.is_finished());
        free.fiber().unpark();
        free.join().unwrap();
    });
}

#[test]
fn a_fiber_bound_to_a_cancelled_token_never_starts() {
    on_fibers(1, || {
        let token = CancelToken::new();
        token.cancel();
        let ran = Arc::new(AtomicBool::new(false));
        let inner = ran.clone();
        let fiber =
            FiberBuilder::new().cancel_token(&token).spawn(move || inner.store(true, Ordering::SeqCst));
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
        assert!(!ran.load(Ordering::SeqCst));
    });
}

#[test]
fn a_token_forgets_fibers_that_have_ended() {
    on_fibers(1, || {
        let token = CancelToken::new();
        for _ in 0..100 {
            FiberBuilder::new().cancel_token(&token).spawn(|| ()).join().unwrap();
        }
        yield_now();
        assert_eq!(format!("{token:?}"), "CancelToken { cancelled: false, fibers: 0 }");
    });
}

#[test]
fn children_are_cancelled_with_their_parent_and_not_the_other_way_round() {
    let root = CancelToken::new();
    let (left, right) = (root.child_token(), root.child_token());
    let leaf = left.child_token();
    left.cancel();
    assert!(left.is_cancelled() && leaf.is_cancelled());
    assert!(!root.is_cancelled() && !right.is_cancelled());
    assert_eq!(right.check(), Ok(()));
    root.cancel();
    assert_eq!(right.check(), Err(Cancelled));
    assert!(root.child_token().is_cancelled(), "born cancelled");
}

#[test]
fn long_chains_and_many_dead_children_are_no_burden() {
    let root = CancelToken::new();
    let mut last = root.clone();
    // Each is held by nothing but the next: the chain would be gone without its middle.
    let mut chain = Vec::new();
    for _ in 0..100_000 {
        last = last.child_token();
        chain.push(last.clone());
    }
    for _ in 0..100_000 {
        drop(root.child_token());
    }
    root.cancel();
    assert!(last.is_cancelled());
}

#[test]
fn waiters_are_woken_in_fibers_and_threads() {
    let runtime = runtime(2);
    let token = CancelToken::new();
    let waiting = Arc::new(AtomicUsize::new(0));
    let wait = || {
        let (token, waiting) = (token.clone(), waiting.clone());
        move || {
            waiting.fetch_add(1, Ordering::SeqCst);
            token.cancelled();
        }
    };
    let fibers: Vec<_> = (0..4).map(|_| runtime.spawn(wait())).collect();
    let thread = std::thread::spawn(wait());
    wait_for("everybody", || waiting.load(Ordering::SeqCst) == 5);
    token.cancel();
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    thread.join().unwrap();
    token.cancelled();
}

#[test]
fn a_wait_for_a_token_has_a_deadline_and_can_itself_be_cancelled() {
    on_fibers(1, || {
        let token = CancelToken::new();
        assert!(!token.cancelled_until(in_millis(1)));
        let inner = token.clone();
        let waiter = spawn(move || inner.cancelled());
        yield_now();
        waiter.cancel();
        assert!(matches!(waiter.join(), Err(JoinError::Cancelled)));
        token.cancel();
        assert!(token.cancelled_until(in_millis(1)));
    });
}

#[test]
fn a_fiber_may_cancel_its_own_token() {
    on_fibers(1, || {
        let token = CancelToken::new();
        let inner = token.clone();
        let fiber = FiberBuilder::new().cancel_token(&token).spawn(move || {
            inner.cancel();
            park();
        });
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
    });
}

#[test]
fn under_every_schedule_nobody_misses_the_word() {
    for seed in 0..200 {
        Sim::new(seed).run(|| {
            let token = CancelToken::new();
            let fibers: Vec<_> = (0..6)
                .map(|n| {
                    let token = if n % 2 == 0 { token.clone() } else { token.child_token() };
                    spawn(move || {
                        yield_now();
                        if n < 3 {
                            token.cancelled();
                        } else {
                            let bound = FiberBuilder::new().cancel_token(&token).spawn(park);
                            assert!(matches!(bound.join(), Err(JoinError::Cancelled)));
                        }
                    })
                })
                .collect();
            yield_now();
            token.cancel();
            // A simulation panics when nothing can happen any more.
            fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        });
    }
}

#[test]
fn a_select_sees_a_token_that_is_cancelled_before_or_while_it_waits() {
    on_fibers(2, || {
        let token = CancelToken::new();
        let waiting = {
            let token = token.child_token();
            spawn(move || {
                select! {
                    cancelled(token) => true,
                    after(Duration::from_secs(20)) => false,
                }
            })
        };
        yield_now();
        token.cancel();
        assert!(waiting.join().unwrap());
        let seen = select! {
            cancelled(token) => true,
            default => false,
        };
        assert!(seen);
    });
}
