//! Waits that cannot park a fiber are recognised, block the worker, and are reported once with what to use instead.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{on_fibers, runtime, wait_for};
use fiber_runtime::diagnostics::{BlockingKind, BlockingWait, blocking_waits};
use fiber_runtime::{FiberBuilder, Handle, hook, spawn_local, yield_now};

const MILLI: Duration = Duration::from_millis(1);

/// Runs `body`, which waits for a thread for ten milliseconds, in a fiber of this name beside a fiber that is always ready;
/// asserts that the latter does not run meanwhile, that the wait is counted, and gives the report.
fn report_of(kind: BlockingKind, name: &'static str, body: impl FnOnce() + Send + 'static) -> BlockingWait {
    on_fibers(1, move || {
        let counted = || Handle::current().metrics().total().blocking_waits;
        let before = counted();
        let stop = Arc::new(AtomicBool::new(false));
        let neighbour = {
            let stop = stop.clone();
            spawn_local(move || {
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    yield_now();
                }
                longest
            })
        };
        yield_now();
        FiberBuilder::new().name(name).spawn_local(body).join().unwrap();
        assert!(counted() > before);
        stop.store(true, Ordering::Relaxed);
        let longest = neighbour.join().unwrap();
        assert!(longest > 3 * MILLI, "the neighbour ran all the time, but for {longest:?}");
    });
    let find = || blocking_waits().into_iter().find(|wait| wait.kind == kind);
    wait_for("the report", || find().is_some());
    find().unwrap()
}

fn soon<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        thread::sleep(10 * MILLI);
        body()
    })
}

#[test]
fn thread_park_is_reported_with_its_fiber_and_its_stack() {
    fn waits_by_thread_park() {
        let done = Arc::new(AtomicBool::new(false));
        let thread = {
            let (done, parked) = (done.clone(), thread::current());
            soon(move || {
                done.store(true, Ordering::Relaxed);
                parked.unpark();
            })
        };
        while !done.load(Ordering::Relaxed) {
            thread::park();
        }
        thread.join().unwrap();
    }
    let wait = report_of(BlockingKind::ThreadPark, "parker", waits_by_thread_park);
    assert_eq!((wait.name.as_deref(), wait.worker), (Some("parker"), 0));
    let text = wait.to_string();
    assert!(text.contains("'parker'") && text.contains("use fiber_runtime::park"), "{text}");
    assert!(text.contains("waits_by_thread_park"), "{text}");
}

#[test]
fn a_channel_of_std_is_reported() {
    let wait = report_of(BlockingKind::StdChannel, "std channel", || {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = soon(move || sender.send(7).unwrap());
        assert_eq!(receiver.recv().unwrap(), 7);
        thread.join().unwrap();
    });
    assert_eq!(wait.name.as_deref(), Some("std channel"));
    assert_eq!(wait.kind.instead(), "fiber_runtime::sync::channel");
}

#[test]
fn a_channel_of_crossbeam_is_reported() {
    let wait = report_of(BlockingKind::CrossbeamChannel, "crossbeam", || {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let thread = soon(move || sender.send(7).unwrap());
        assert_eq!(receiver.recv().unwrap(), 7);
        thread.join().unwrap();
    });
    assert_eq!(wait.name.as_deref(), Some("crossbeam"));
    assert_eq!(wait.kind.instead(), "fiber_runtime::sync::channel");
}

#[test]
fn the_end_of_a_scope_of_threads_is_reported() {
    let wait = report_of(BlockingKind::ThreadScope, "scope", || {
        let mut number = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(10 * MILLI);
                number = 7;
            });
        });
        assert_eq!(number, 7);
    });
    assert_eq!(wait.name.as_deref(), Some("scope"));
    assert_eq!(wait.kind.instead(), "fiber_runtime::scope");
}

#[test]
fn a_lock_of_parking_lot_is_reported_and_works() {
    let wait = report_of(BlockingKind::ParkingLot, "parking lot", || {
        let lock = Arc::new(parking_lot::Mutex::new(0));
        let held = Arc::new(AtomicBool::new(false));
        let thread = {
            let (lock, held) = (lock.clone(), held.clone());
            thread::spawn(move || {
                let mut guard = lock.lock();
                held.store(true, Ordering::Relaxed);
                thread::sleep(10 * MILLI);
                *guard = 7;
            })
        };
        while !held.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        assert_eq!(*lock.lock(), 7);
        thread.join().unwrap();
    });
    assert_eq!(wait.name.as_deref(), Some("parking lot"));
    assert!(wait.kind.instead().contains("std::sync"));
}

#[test]
fn another_futex_is_reported_as_such() {
    fn wait_by_number(word: &AtomicU32) {
        let nobody = std::ptr::null::<libc::timespec>();
        // SAFETY: the word lives through the call.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, nobody) };
    }
    let wait = report_of(BlockingKind::Futex, "futex", || {
        let word = Arc::new(AtomicU32::new(0));
        let thread = {
            let word = word.clone();
            soon(move || {
                word.store(1, Ordering::SeqCst);
                // SAFETY: a wake touches no memory.
                unsafe { libc::syscall(libc::SYS_futex, &*word, libc::FUTEX_WAKE, 1) };
            })
        };
        while word.load(Ordering::SeqCst) == 0 {
            wait_by_number(&word);
        }
        thread.join().unwrap();
    });
    assert_eq!(wait.name.as_deref(), Some("futex"));
}

#[test]
fn a_kind_is_reported_once_and_counted_each_time() {
    let wait = || {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = soon(move || drop(sender));
        assert!(receiver.recv().is_err());
        thread.join().unwrap();
    };
    let runtime = runtime(1);
    for _ in 0..3 {
        let before = runtime.metrics().total().blocking_waits;
        let named = FiberBuilder::new().name("std channel");
        runtime.handle().spawn_with(named, wait).join().unwrap();
        assert!(runtime.metrics().total().blocking_waits > before);
    }
    let of_kind =
        || blocking_waits().into_iter().filter(|wait| wait.kind == BlockingKind::StdChannel).count();
    wait_for("the report", || of_kind() > 0);
    thread::sleep(20 * MILLI);
    assert_eq!(of_kind(), 1);
}

#[test]
fn who_switches_the_hooks_off_wants_to_block_and_hears_nothing_of_it() {
    let runtime = runtime(1);
    let wait = || {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = soon(move || drop(sender));
        assert!(hook::disabled(|| receiver.recv()).is_err());
        thread.join().unwrap();
    };
    runtime.spawn(wait).join().unwrap();
    assert_eq!(runtime.metrics().total().blocking_waits, 0);
}

#[test]
fn a_read_write_lock_whose_word_is_that_of_a_parked_thread_parks_the_fiber() {
    // Locked for writing, with readers and writers waiting, the word of a lock is all ones: what `park` waits for.
    on_fibers(1, || {
        let lock = Arc::new(std::sync::RwLock::new(0));
        let guard = lock.write().unwrap();
        let writer = {
            let lock = lock.clone();
            spawn_local(move || *lock.write().unwrap() += 1)
        };
        yield_now();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                spawn_local(move || *lock.read().unwrap())
            })
            .collect();
        yield_now();
        fiber_runtime::time::sleep(5 * MILLI);
        drop(guard);
        writer.join().unwrap();
        for reader in readers {
            assert!(reader.join().unwrap() <= 1);
        }
        let waits = Handle::current().metrics().total().blocking_waits;
        assert_eq!(waits, 0, "no wait for a lock is taken for a parked thread");
    });
}
