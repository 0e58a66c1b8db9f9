//! Fiber-local values: one for each fiber, one for each thread outside, dropped at the fiber's end.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{on_fibers, runtime, wait_for};
use fiber_runtime::{AccessError, fiber_local, park, spawn, spawn_local, time, yield_now};

fiber_local! {
    static NUMBER: Cell<u64> = Cell::new(7);
    static WORDS: RefCell<Vec<&'static str>> = RefCell::new(vec!["initial"]);
    /// Not `Send`: it never leaves the fiber.
    static SHARED: Rc<Cell<u32>> = Rc::new(Cell::new(0))
}

#[test]
fn each_fiber_has_its_own_value_across_waits() {
    on_fibers(2, || {
        let fibers: Vec<_> = (0..50)
            .map(|n| {
                spawn(move || {
                    assert_eq!(NUMBER.get(), 7);
                    NUMBER.set(n);
                    for _ in 0..10 {
                        yield_now();
                        time::sleep(Duration::from_micros(50));
                        assert_eq!(NUMBER.replace(NUMBER.get()), n);
                    }
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(NUMBER.get(), 7);
        WORDS.with_borrow_mut(|words| words.push("more"));
        assert_eq!(WORDS.take(), ["initial", "more"]);
        assert!(WORDS.with_borrow(Vec::is_empty));
        assert!(WORDS.replace(vec!["last"]).is_empty());
    });
}

#[test]
fn outside_fibers_each_thread_has_one() {
    NUMBER.set(1);
    std::thread::spawn(|| assert_eq!(NUMBER.take(), 7)).join().unwrap();
    on_fibers(1, || {
        assert_eq!(NUMBER.get(), 7, "a fiber does not see a thread's value");
        NUMBER.set(2);
    });
    assert_eq!(NUMBER.get(), 1);
}

#[test]
fn a_reference_may_be_held_across_waits() {
    on_fibers(1, || {
        let fiber = spawn_local(|| {
            SHARED.with(|shared| {
                yield_now();
                WORDS.with_borrow_mut(Vec::clear);
                NUMBER.set(1);
                shared.set(shared.get() + 1);
                shared.get()
            })
        });
        assert_eq!(SHARED.with(|shared| shared.get()), 0);
        assert_eq!(fiber.join().unwrap(), 1);
    });
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Waits in its destructor, as only something on a fiber's stack may.
struct Waits(Rc<()>);

impl Drop for Waits {
    fn drop(&mut self) {
        time::sleep(Duration::from_millis(1));
        assert!(fiber_runtime::in_fiber(), "dropped on the fiber's own stack");
        assert_eq!(Rc::strong_count(&self.0), 1);
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

fiber_local! {
    static WAITS: Waits = Waits(Rc::new(()));
}

#[test]
fn values_are_dropped_before_the_fiber_can_be_joined() {
    on_fibers(2, || {
        for n in 1..=10 {
            spawn(|| WAITS.with(|_| ())).join().unwrap();
            assert_eq!(DROPPED.load(Ordering::SeqCst), n);
        }
        // Also when the fiber is cancelled, or panics.
        let parked = spawn(|| WAITS.with(|_| park()));
        time::sleep(Duration::from_millis(2));
        parked.cancel();
        assert!(parked.join().is_err());
        let failed = spawn(|| WAITS.with(|_| panic!("on purpose")));
        assert!(failed.join().is_err());
        assert!(DROPPED.load(Ordering::SeqCst) >= 11);
        wait_for("the last one", || DROPPED.load(Ordering::SeqCst) >= 12);
    });
}

struct UsesOthers;

/// What the destructor got: an other value, and its own.
type Seen = (Result<u64, AccessError>, Result<(), AccessError>);

thread_local! {
    static SEEN: Cell<Option<Seen>> = const { Cell::new(None) };
}

impl Drop for UsesOthers {
    fn drop(&mut self) {
        let older = NUMBER.try_with(Cell::get);
        let itself = USES_OTHERS.try_with(|_| ());
        SEEN.set(Some((older, itself)));
    }
}

fiber_local! {
    static USES_OTHERS: UsesOthers = UsesOthers;
}

#[test]
fn a_destructor_sees_older_values_and_not_itself() {
    on_fibers(1, || {
        spawn_local(|| {
            NUMBER.set(11);
            USES_OTHERS.with(|_| ());
        })
        .join()
        .unwrap();
        assert_eq!(SEEN.get(), Some((Ok(11), Err(AccessError))));
        // One that is younger is gone by then.
        spawn_local(|| {
            USES_OTHERS.with(|_| ());
            NUMBER.set(12);
        })
        .join()
        .unwrap();
        assert_eq!(SEEN.get(), Some((Err(AccessError), Err(AccessError))));
    });
}

struct Panics(Rc<Cell<bool>>);

impl Drop for Panics {
    fn drop(&mut self) {
        self.0.set(true);
        panic!("in the destructor of a fiber-local value, on purpose");
    }
}

fiber_local! {
    static PANICS: RefCell<Option<Panics>> = RefCell::new(None);
}

#[test]
fn a_destructor_that_panics_spoils_neither_the_result_nor_the_worker() {
    on_fibers(1, || {
        let dropped = Rc::new(Cell::new(false));
        let inner = dropped.clone();
        let fiber = spawn_local(move || {
            PANICS.with(|slot| *slot.borrow_mut() = Some(Panics(inner)));
            5
        });
        assert_eq!(fiber.join().unwrap(), 5);
        assert!(dropped.get());
        assert_eq!(spawn(|| 6).join().unwrap(), 6);
    });
}

#[test]
fn a_fiber_that_never_starts_makes_no_values() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    drop(runtime);
    assert!(handle.spawn(|| NUMBER.get()).join().is_err());
}
