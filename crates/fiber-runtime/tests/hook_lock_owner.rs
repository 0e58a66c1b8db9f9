//! The crate `backtrace` notes by thread who has its lock, and lets that thread pass. Fibers of one thread must not pass for
//! each other.

#![cfg(feature = "hook")]
#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{on_fibers, wait_for};
use fiber_runtime::{spawn, yield_now};

/// Calls `body` once under the lock of the crate `backtrace`.
fn under_its_lock(mut body: impl FnMut()) {
    let mut called = false;
    let function: fn() = fibers_that_wait_for_the_lock_of_backtraces_are_not_let_past_it;
    // A return address: the instruction before it is looked up.
    let address = (function as *mut std::ffi::c_void).wrapping_byte_add(4);
    backtrace::resolve(address, |_| {
        if !std::mem::replace(&mut called, true) {
            body();
        }
    });
    assert!(called, "tests are not stripped: the function has a symbol");
}

#[test]
fn fibers_that_wait_for_the_lock_of_backtraces_are_not_let_past_it() {
    let (taken, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let holder = thread::spawn({
        let (taken, release) = (Arc::clone(&taken), Arc::clone(&release));
        move || {
            under_its_lock(|| {
                taken.store(true, Ordering::SeqCst);
                while !release.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
    wait_for("a thread to have the lock", || taken.load(Ordering::SeqCst));
    let released = Arc::clone(&release);
    let releaser = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        released.store(true, Ordering::SeqCst);
    });
    let early = Arc::new(AtomicUsize::new(0));
    let entered = on_fibers(1, move || {
        let fibers: Vec<_> = (0..5)
            .map(|_| {
                let (early, release) = (Arc::clone(&early), Arc::clone(&release));
                spawn(move || {
                    under_its_lock(|| {
                        if !release.load(Ordering::SeqCst) {
                            early.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                    yield_now();
                })
            })
            .collect();
        let count = fibers.into_iter().map(|fiber| fiber.join().unwrap()).count();
        (count, early.load(Ordering::SeqCst))
    });
    assert_eq!(entered, (5, 0), "fibers that came, and those of them that came while a thread had the lock");
    holder.join().unwrap();
    releaser.join().unwrap();
}
