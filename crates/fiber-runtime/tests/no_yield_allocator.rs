//! Rule R3 in a global allocator: it may wait inside `no_yield`, and no other fiber of the worker runs meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::on_fibers;
use fiber_runtime::sync::{channel, oneshot};
use fiber_runtime::{in_fiber, no_yield, spawn, spawn_local, time, yield_now};

/// The system's, which gives way wherever it can.
struct Waiting;

/// Whether allocations wait.
static WAITS: AtomicBool = AtomicBool::new(false);
static WAITED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is inside the allocator.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: the system's allocator does the work; what happens beside it does not allocate and does not unwind.
unsafe impl GlobalAlloc for Waiting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WAITS.load(Ordering::Relaxed) && in_fiber() && !INSIDE.replace(true) {
            no_yield(|| {
                yield_now();
                if WAITED.fetch_add(1, Ordering::Relaxed).is_multiple_of(16) {
                    time::sleep(Duration::from_micros(20));
                }
            });
            INSIDE.set(false);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Waiting = Waiting;

#[test]
fn an_allocator_that_waits_is_not_interrupted_by_another_fiber() {
    let total = on_fibers(2, || {
        WAITS.store(true, Ordering::Relaxed);
        // Allocations of all kinds, by the program and by the runtime, beside fibers that are always ready.
        let watchers: Vec<_> = (0..2)
            .map(|worker| {
                fiber_runtime::spawn_on(worker, || {
                    for _ in 0..2000 {
                        assert!(!INSIDE.get(), "a fiber runs inside another one's allocation");
                        yield_now();
                    }
                })
            })
            .collect();
        let (sender, receiver) = channel::unbounded();
        let makers: Vec<_> = (0..200_u64)
            .map(|number| {
                let sender = sender.clone();
                spawn(move || {
                    let (reply, answer) = oneshot::channel();
                    spawn_local(move || reply.send(vec![number; 10]).unwrap()).detach();
                    sender.send(answer.recv().unwrap().into_iter().sum::<u64>()).unwrap();
                    yield_now();
                })
            })
            .collect();
        drop(sender);
        let total: u64 = receiver.iter().sum();
        makers.into_iter().for_each(|maker| maker.join().unwrap());
        watchers.into_iter().for_each(|watcher| watcher.join().unwrap());
        WAITS.store(false, Ordering::Relaxed);
        total
    });
    assert_eq!(total, 199_000);
    assert!(WAITED.load(Ordering::Relaxed) > 100, "the allocator was hardly asked");
}
