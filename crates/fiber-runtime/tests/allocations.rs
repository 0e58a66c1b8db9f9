//! What a runtime in steady state allocates: nothing, for a yield, a park and its wake, a timer armed and cancelled, a value
//! sent, a `select!`, and for a spawn, whose block and stack are those of a fiber that ended.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use common::runtime;
use fiber_runtime::sync::channel::bounded;
use fiber_runtime::sync::{Mutex, oneshot};
use fiber_runtime::{Wake, current, park, park_until, select, spawn, spawn_local, time, yield_now};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; the count is a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations of 1,000 calls on one worker, after as many to warm up.
fn allocations(step: impl Fn() + Send + 'static) -> u64 {
    runtime(1).block_on(move || {
        (0..1000).for_each(|_| step());
        let before = ALLOCATIONS.get();
        (0..1000).for_each(|_| step());
        ALLOCATIONS.get() - before
    })
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1000);
}

#[test]
fn a_yield_allocates_nothing() {
    assert_eq!(allocations(yield_now), 0);
}

/// Allocations of 1,000 turns of two fibers that wake each other and wait with `wait`.
fn allocations_of_turns(wait: fn()) -> u64 {
    runtime(1).block_on(move || {
        let me = current();
        let other = spawn_local(move || {
            for _ in 0..2000 {
                wait();
                me.unpark();
            }
        });
        let turn = || {
            other.fiber().unpark();
            wait();
        };
        (0..1000).for_each(|_| turn());
        let before = ALLOCATIONS.get();
        (0..1000).for_each(|_| turn());
        let count = ALLOCATIONS.get() - before;
        other.join().unwrap();
        count
    })
}

#[test]
fn a_park_and_its_wake_allocate_nothing() {
    assert_eq!(allocations_of_turns(park), 0);
}

#[test]
fn a_timer_armed_and_cancelled_allocates_nothing() {
    let count = allocations_of_turns(|| {
        assert_eq!(park_until(Some(time::now() + Duration::from_secs(60))), Wake::Unparked);
    });
    assert_eq!(count, 0);
}

#[test]
fn a_timer_that_fires_allocates_nothing() {
    assert_eq!(allocations(|| time::sleep(Duration::from_micros(10))), 0);
}

#[test]
fn a_spawn_with_its_join_allocates_nothing() {
    assert_eq!(allocations(|| spawn(|| 1).join().map(drop).unwrap()), 0);
    assert_eq!(allocations(|| spawn_local(|| 1).join().map(drop).unwrap()), 0);
}

#[test]
fn a_value_through_a_channel_allocates_nothing() {
    let count = runtime(1).block_on(|| {
        let (ping, pings) = bounded(1);
        let (pong, pongs) = bounded(1);
        let echo = spawn_local(move || pings.iter().for_each(|value: u64| pong.send(value).unwrap()));
        let turn = |value| {
            ping.send(value).unwrap();
            assert_eq!(pongs.recv(), Ok(value));
        };
        (0..1000).for_each(turn);
        let before = ALLOCATIONS.get();
        (0..1000).for_each(turn);
        let count = ALLOCATIONS.get() - before;
        drop(ping);
        echo.join().unwrap();
        count
    });
    assert_eq!(count, 0);
}

#[test]
fn a_contended_lock_allocates_nothing() {
    let count = runtime(1).block_on(|| {
        let lock = std::rc::Rc::new(Mutex::new(0));
        let contend = |turns: u32| {
            let lock = lock.clone();
            move || {
                for _ in 0..turns {
                    let mut guard = lock.lock();
                    yield_now();
                    *guard += 1;
                }
            }
        };
        let other = spawn_local(contend(3000));
        contend(1000)();
        let before = ALLOCATIONS.get();
        contend(1000)();
        let count = ALLOCATIONS.get() - before;
        other.join().unwrap();
        assert_eq!(*lock.lock(), 5000);
        count
    });
    assert_eq!(count, 0);
}

#[test]
fn a_oneshot_allocates_what_its_ends_share() {
    let count = allocations(|| {
        let (sender, receiver) = oneshot::channel();
        sender.send(1).unwrap();
        assert_eq!(receiver.recv(), Ok(1));
    });
    assert_eq!(count, 1000);
}

#[test]
fn a_select_allocates_nothing() {
    let count = runtime(1).block_on(|| {
        let (ping, pings) = bounded(1);
        let (pong, pongs) = bounded(1);
        let (stop, stopped) = bounded::<()>(1);
        let echo = spawn_local(move || {
            loop {
                select! {
                    value = recv(pings) => pong.send(value.unwrap_or(0)).unwrap(),
                    _ = recv(stopped) => break,
                }
            }
        });
        // Both ways, waiting and not.
        let turn = |value| {
            let mut received = None;
            let mut sent = false;
            while received.is_none() {
                select! {
                    result = send(ping, value) if !sent => {
                        result.unwrap();
                        sent = true;
                    }
                    result = recv(pongs) => received = result.ok(),
                    after(Duration::from_secs(60)) => panic!("no echo"),
                }
            }
            assert_eq!(received, Some(value));
        };
        (0..1000_u64).for_each(turn);
        let before = ALLOCATIONS.get();
        (0..1000).for_each(turn);
        let count = ALLOCATIONS.get() - before;
        stop.send(()).unwrap();
        echo.join().unwrap();
        count
    });
    assert_eq!(count, 0);
}
