//! The rules that make pinned fibers sound (`fiber_runtime::soundness`), where no other test shows them.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::{Cell, RefCell};
use std::process::Command;
#[cfg(feature = "hook")]
use std::process::{Output, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, on_fibers, runtime, wait_for};
use fiber_runtime::sync::{Mutex, channel};
use fiber_runtime::{no_yield, park, spawn, spawn_local, spawn_on, time, yield_now};

/// Runs one test of this file in a process of its own.
fn child(test: &str) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]).env("SOUNDNESS_CHILD", test).env("RUST_BACKTRACE", "0");
    child
}

fn is_child(test: &str) -> bool {
    std::env::var("SOUNDNESS_CHILD").is_ok_and(|role| role == test)
}

#[track_caller]
#[cfg(feature = "hook")]
fn assert_success(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// A fiber of the calling worker that counts how often it gets to run.
fn counting_sibling() -> (Rc<Cell<u32>>, Rc<Cell<bool>>) {
    let (count, stop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (counts, stops) = (Rc::clone(&count), Rc::clone(&stop));
    spawn_local(move || {
        while !stops.get() {
            counts.set(counts.get() + 1);
            yield_now();
        }
    })
    .detach();
    yield_now();
    assert!(count.get() > 0);
    (count, stop)
}

/// Runs `body` beside a ready fiber of the same worker and fails if that fiber runs meanwhile.
#[track_caller]
fn without_switching<T>(body: impl FnOnce() -> T) -> T {
    let (count, stop) = counting_sibling();
    let before = count.get();
    let result = body();
    let after = count.get();
    stop.set(true);
    assert_eq!(before, after, "another fiber of the worker ran");
    result
}

#[test]
fn r1_a_started_fiber_keeps_its_thread_whoever_wakes_it() {
    let runtime = runtime(4);
    let (sender, receiver) = channel::bounded(1);
    let fiber = runtime.spawn(move || {
        let (home, on_stack) = (thread::current().id(), Rc::new(Cell::new(0)));
        for round in 0..300 {
            match round % 3 {
                0 => yield_now(),
                1 => time::sleep(Duration::from_micros(50)),
                _ => assert_eq!(receiver.recv(), Ok(round)),
            }
            // Not `Send`, and alive across the wait: the thread must be the same.
            on_stack.set(on_stack.get() + 1);
            assert_eq!(thread::current().id(), home, "round {round}");
        }
        on_stack.get()
    });
    // Woken by fibers of other workers, and by a plain thread.
    for round in (2..300).step_by(3) {
        let sender = sender.clone();
        if round % 2 == 0 {
            runtime.spawn_on(round % 4, move || sender.send(round).unwrap()).join().unwrap();
        } else {
            sender.send(round).unwrap();
        }
    }
    assert_eq!(fiber.join().unwrap(), 300);
}

thread_local! {
    static LOCAL: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn r2_a_worker_outlives_a_fiber_that_borrows_from_its_thread() {
    let runtime = runtime(1);
    let (stuck, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let sum = Arc::new(AtomicUsize::new(0));
    let (is_stuck, may_go, total) = (Arc::clone(&stuck), Arc::clone(&go), Arc::clone(&sum));
    runtime
        .spawn(move || {
            LOCAL.with(|local| {
                // A borrow of the thread's own storage is on this stack while the runtime is stopped.
                local.borrow_mut().extend([1, 2, 3]);
                is_stuck.store(true, Ordering::Release);
                while !may_go.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                total.store(local.borrow().iter().sum::<u32>() as usize, Ordering::Release);
            });
        })
        .detach();
    wait_for("the fiber to start", || stuck.load(Ordering::Acquire));
    let report = runtime.stop(Duration::ZERO);
    assert_eq!(report.leftover.len(), 1, "{report}");
    go.store(true, Ordering::Release);
    wait_for("the fiber to end on its thread", || sum.load(Ordering::Acquire) == 6);
}

#[test]
fn r3_a_destructor_that_waits_while_its_fiber_panics_blocks_the_thread() {
    struct Sleepy;

    impl Drop for Sleepy {
        fn drop(&mut self) {
            assert!(thread::panicking());
            time::sleep(Duration::from_millis(2));
            yield_now();
        }
    }

    on_fibers(1, || {
        without_switching(|| {
            let caught = std::panic::catch_unwind(|| {
                let _sleepy = Sleepy;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(caught.is_err());
        });
        assert!(!thread::panicking());
    });
}

#[test]
fn r3_no_yield_blocks_the_thread_in_every_kind_of_wait() {
    on_fibers(2, || {
        let (sender, receiver) = channel::bounded(1);
        let lock = Arc::new(Mutex::new(()));
        let held = Arc::new(AtomicBool::new(false));
        without_switching(|| {
            no_yield(|| {
                yield_now();
                time::sleep(Duration::from_millis(1));
                thread::yield_now();
                #[cfg(feature = "hook")]
                thread::sleep(Duration::from_millis(1));
                // By a fiber of another worker; this one's do not run.
                let other = 1 - worker();
                spawn_on(other, move || sender.send(7).unwrap()).detach();
                assert_eq!(receiver.recv(), Ok(7));
                let (theirs, taken) = (Arc::clone(&lock), Arc::clone(&held));
                let holder = spawn_on(other, move || {
                    let guard = theirs.lock();
                    taken.store(true, Ordering::Release);
                    time::sleep(Duration::from_millis(2));
                    drop(guard);
                });
                while !held.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                drop(lock.lock());
                // Nested, and undone from the inside out.
                no_yield(yield_now);
                yield_now();
                holder.join().unwrap();
            });
        });
    });
}

/// The index of the calling fiber's worker, of two.
fn worker() -> usize {
    usize::from(thread::current().name().unwrap().ends_with('1'))
}

#[test]
fn r3_a_held_fiber_is_not_unwound_by_cancellation_before_it_lets_go() {
    on_fibers(1, || {
        let reached = Rc::new(Cell::new(false));
        let reaches = Rc::clone(&reached);
        let fiber = spawn_local(move || {
            no_yield(|| {
                fiber_runtime::current().cancel();
                time::sleep(Duration::from_millis(1));
                yield_now();
                reaches.set(true);
            });
            park();
        });
        assert!(matches!(fiber.join(), Err(fiber_runtime::JoinError::Cancelled)));
        assert!(reached.get(), "it ended inside no_yield");
    });
}

#[test]
fn r3_a_panic_inside_no_yield_lets_go() {
    on_fibers(1, || {
        let caught = std::panic::catch_unwind(|| no_yield(|| std::panic::resume_unwind(Box::new(()))));
        assert!(caught.is_err());
        let (count, stop) = counting_sibling();
        let before = count.get();
        yield_now();
        assert!(count.get() > before, "it holds its worker for ever");
        stop.set(true);
    });
}

#[cfg(feature = "hook")]
#[test]
fn r3_writing_to_standard_output_never_switches() {
    const TEST: &str = "r3_writing_to_standard_output_never_switches";
    if is_child(TEST) {
        // The parent reads late, so the pipe is full for a while. std holds its lock on standard output meanwhile,
        // which knows threads and not fibers.
        on_fibers(1, || without_switching(|| println!("{}", "x".repeat(1 << 20))));
        return;
    }
    let child = child(TEST).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(100));
    let output = child.wait_with_output().unwrap();
    assert_success(&output);
    assert!(output.stdout.len() > 1 << 20);
}

#[test]
fn r3_destructors_of_thread_locals_wait_as_in_any_thread() {
    struct Waits(channel::Sender<thread::ThreadId>);

    impl Drop for Waits {
        fn drop(&mut self) {
            // At the end of the worker's thread, when no worker is left to give way to.
            assert!(!fiber_runtime::in_fiber());
            time::sleep(Duration::from_millis(1));
            yield_now();
            self.0.send(thread::current().id()).unwrap();
        }
    }

    thread_local!(static WAITS: RefCell<Option<Waits>> = const { RefCell::new(None) });

    let runtime = runtime(1);
    let (sender, receiver) = channel::bounded(1);
    let home = runtime.block_on(|| {
        WAITS.set(Some(Waits(sender)));
        thread::current().id()
    });
    assert!(runtime.stop(PATIENCE).is_clean());
    assert_eq!(receiver.recv_until(common::in_millis(30_000)), Ok(home));
}

#[cfg(feature = "hook")]
#[test]
fn r3_a_signal_handler_that_reports_by_a_socket_does_not_switch() {
    use std::os::fd::AsRawFd;
    use std::sync::atomic::AtomicI32;

    static SOCKET: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn handler(_signal: i32) {
        // More often than the courtesy of one fiber to the others lasts, and more than the socket takes.
        for _ in 0..2000 {
            // SAFETY: one readable byte.
            unsafe {
                libc::send(SOCKET.load(Ordering::Relaxed), c"x".as_ptr().cast(), 1, libc::MSG_DONTWAIT);
                libc::write(SOCKET.load(Ordering::Relaxed), c"x".as_ptr().cast(), 1);
            }
        }
    }

    on_fibers(1, || {
        let (one, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        SOCKET.store(one.as_raw_fd(), Ordering::Relaxed);
        let handler: extern "C" fn(i32) = handler;
        // SAFETY: the handler calls `send` only, which is safe in a handler.
        unsafe { libc::signal(libc::SIGUSR2, handler as libc::sighandler_t) };
        // SAFETY: the signal has a handler; it runs on this thread, on the fiber's stack.
        without_switching(|| unsafe { libc::raise(libc::SIGUSR2) });
    });
}

#[cfg(feature = "hook")]
#[test]
fn r3_a_signal_handler_in_a_cancelled_fiber_reports_and_does_not_switch() {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::AtomicI32;

    static PIPE: AtomicI32 = AtomicI32::new(-1);
    static WRITTEN: AtomicI32 = AtomicI32::new(0);

    extern "C" fn handler(_signal: i32) {
        for _ in 0..200 {
            // SAFETY: one readable byte.
            let count = unsafe { libc::write(PIPE.load(Ordering::Relaxed), c"x".as_ptr().cast(), 1) };
            WRITTEN.fetch_add(count as i32, Ordering::Relaxed);
        }
    }

    on_fibers(1, || {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: the test's own pipe.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        PIPE.store(writer.as_raw_fd(), Ordering::Relaxed);
        let handler: extern "C" fn(i32) = handler;
        // SAFETY: the handler calls `write` only, which is safe in a handler. No other test of this file has this signal.
        unsafe { libc::signal(libc::SIGWINCH, handler as libc::sighandler_t) };
        let turns = std::rc::Rc::new(Cell::new(0));
        let counted = std::rc::Rc::clone(&turns);
        let other = spawn_local(move || {
            loop {
                counted.set(counted.get() + 1);
                yield_now();
            }
        });
        let seen = std::rc::Rc::clone(&turns);
        let cancelled = spawn_local(move || {
            fiber_runtime::current().cancel();
            let before = seen.get();
            // SAFETY: the signal has a handler; it runs on this thread, on the fiber's stack.
            unsafe { libc::raise(libc::SIGWINCH) };
            seen.get() - before
        });
        assert_eq!(cancelled.join().unwrap(), 0, "turns of another fiber while the handler ran");
        other.cancel();
        drop(other.join());
        drop(writer);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!((WRITTEN.load(Ordering::Relaxed), bytes.len()), (200, 200));
    });
}

#[test]
fn r4_a_stopped_runtime_unwinds_no_suspended_fiber_from_outside() {
    // With `use_caller`, fibers of worker 0 cannot run once the caller has left: their stacks are kept, not torn down.
    struct Counts(Arc<AtomicUsize>);

    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let dropped = Arc::new(AtomicUsize::new(0));
    let counts = Counts(Arc::clone(&dropped));
    let runtime = fiber_runtime::Runtime::builder().workers(1).use_caller(true).build().unwrap();
    runtime.block_on(|| {
        spawn_local(move || {
            let _counts = counts;
            park();
        })
        .detach();
        yield_now();
    });
    // Stopped by a thread that may not drive worker 0.
    let report = thread::spawn(move || runtime.stop(Duration::from_millis(10))).join().unwrap();
    assert!(!report.is_clean(), "{report}");
    assert_eq!(dropped.load(Ordering::SeqCst), 0, "a destructor of the fiber ran on a foreign thread");
}

#[test]
fn r6_a_frame_larger_than_the_whole_stack_hits_the_guard() {
    const TEST: &str = "r6_a_frame_larger_than_the_whole_stack_hits_the_guard";

    #[inline(never)]
    fn one_large_frame() -> u8 {
        #[allow(clippy::large_stack_arrays, reason = "the point of it")]
        let frame = std::hint::black_box([7_u8; 8 << 20]);
        frame[std::hint::black_box(4 << 20)]
    }

    if is_child(TEST) {
        let runtime = runtime(1);
        let giant = fiber_runtime::FiberBuilder::new().name("giant");
        let _ = runtime.handle().spawn_with(giant, one_large_frame).join();
        return;
    }
    // Without the compiler's probes the frame would reach over the guard into another fiber's stack.
    let output = child(TEST).output().unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("giant") && errors.contains("overflowed its stack"), "{errors}");
}

#[test]
fn a_result_is_dropped_where_its_fiber_ran_when_nobody_takes_it() {
    // `T: Send`, but a result that is never joined is dropped by the fiber itself, on its own stack.
    struct Reports(Arc<AtomicBool>);

    impl Drop for Reports {
        fn drop(&mut self) {
            self.0.store(fiber_runtime::in_fiber(), Ordering::SeqCst);
        }
    }

    let in_fiber = Arc::new(AtomicBool::new(false));
    let reports = Reports(Arc::clone(&in_fiber));
    on_fibers(1, move || {
        spawn(move || reports).detach();
        (0..10).for_each(|_| yield_now());
    });
    assert!(in_fiber.load(Ordering::SeqCst));
}
