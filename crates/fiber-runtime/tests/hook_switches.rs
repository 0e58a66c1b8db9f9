//! For whom the calls of libc are hooked: all, no fiber of a runtime, not one fiber, or not in a scope.

#![cfg(feature = "hook")]
#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{PATIENCE, on_fibers};
use fiber_runtime::{FiberBuilder, Runtime, hook, spawn, spawn_local, time, yield_now};

/// How often another fiber of the worker runs while the calling one sleeps by libc.
fn turns_of_others_during_a_sleep() -> u32 {
    let turns = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = std::rc::Rc::clone(&turns);
    let ticker = spawn_local(move || {
        loop {
            counted.set(counted.get() + 1);
            yield_now();
        }
    });
    std::thread::sleep(Duration::from_millis(5));
    let seen = turns.get();
    ticker.cancel();
    let _ = ticker.join();
    seen
}

#[test]
fn hooks_are_on_in_fibers_unless_told_otherwise() {
    on_fibers(1, || {
        assert!(hook::enabled());
        assert!(turns_of_others_during_a_sleep() > 0);
        hook::disabled(|| {
            assert!(!hook::enabled());
            assert_eq!(turns_of_others_during_a_sleep(), 0, "nobody runs during a plain sleep");
        });
        assert!(hook::enabled());
    });
}

#[test]
fn a_fiber_built_without_hooks_makes_plain_calls_and_its_siblings_do_not() {
    on_fibers(1, || {
        let plain = FiberBuilder::new().hooks(false).spawn(|| {
            let nested = hook::disabled(hook::enabled);
            let child = spawn(|| (hook::enabled(), turns_of_others_during_a_sleep())).join().unwrap();
            (hook::enabled() || nested, turns_of_others_during_a_sleep(), child)
        });
        let (enabled, turns, (child, child_turns)) = plain.join().unwrap();
        assert!(!enabled);
        assert_eq!(turns, 0);
        assert!(child && child_turns > 0, "the setting is the fiber's own");
    });
}

#[test]
fn the_fibers_of_a_runtime_without_hooks_park_only_in_its_own_types() {
    let runtime = Runtime::builder().workers(1).hooks(false).build().unwrap();
    let slept = runtime.spawn(|| {
        assert!(!hook::enabled());
        assert_eq!(turns_of_others_during_a_sleep(), 0);
        let start = Instant::now();
        let sleepers: Vec<_> = (0..20).map(|_| spawn(|| time::sleep(Duration::from_millis(50)))).collect();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        start.elapsed()
    });
    let slept = slept.join_timeout(PATIENCE).unwrap().unwrap();
    assert!(slept < Duration::from_millis(20 * 50 / 2), "native sleeps are together: {slept:?}");
    // Beside it, a runtime with hooks.
    on_fibers(1, || assert!(hook::enabled()));
}

#[test]
fn a_plain_thread_is_never_hooked_and_may_say_disabled() {
    assert!(!hook::enabled());
    let (mut one, mut other) = UnixStream::pair().unwrap();
    hook::disabled(|| {
        one.write_all(b"x").unwrap();
        hook::disabled(|| other.read_exact(&mut [0]).unwrap());
        assert!(!hook::enabled());
    });
}
