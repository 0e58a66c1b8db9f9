//! What no caller should ask for, and what a machine may run out of: a clear error or a documented behaviour each time,
//! and never a hang. What needs a limit of the whole process runs in one of its own.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{self, Read};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{PATIENCE, on_fibers, runtime, wait_for};
use fiber_runtime::io_manager::Event;
use fiber_runtime::net::{TcpListener, TcpStream};
use fiber_runtime::sync::{Condvar, Mutex, Semaphore, channel, oneshot};
use fiber_runtime::{
    FiberBuilder, IoManager, JoinError, JoinHandle, Runtime, park, spawn, spawn_local, time, with_timeout,
    yield_now,
};

/// Runs a test of this file in a process of its own, which may set limits for itself. True: this is it.
#[track_caller]
fn alone(test: &str) -> bool {
    if std::env::var("BAD_INPUT_CHILD").is_ok_and(|role| role == test) {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("BAD_INPUT_CHILD", test)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    false
}

/// Sets a limit of this process.
fn limit(resource: libc::__rlimit_resource_t, to: u64) {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: the structure lives through the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// Opens descriptors until there are none left.
fn use_up_descriptors() -> Vec<OwnedFd> {
    let mut all = Vec::new();
    loop {
        // SAFETY: a plain call; the descriptor is new.
        match unsafe { libc::dup(2) } {
            -1 => {
                assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EMFILE));
                return all;
            }
            // SAFETY: as above.
            fd => all.push(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
}

/// The text of a panic.
fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().map_or(String::new(), |text| (*text).to_owned()),
    }
}

#[test]
fn a_stack_of_0_2_or_endless_bytes_is_brought_within_the_limits() {
    for bytes in [0, 2, 16 * 1024, usize::MAX] {
        let runtime = Runtime::builder().workers(1).stack_size(bytes).build().unwrap();
        assert_eq!(runtime.spawn(move || bytes).join().unwrap(), bytes);
    }
    on_fibers(1, || {
        for bytes in [0, 2, usize::MAX] {
            let fiber = FiberBuilder::new().stack_size(bytes).spawn(move || bytes);
            assert_eq!(fiber.join().unwrap(), bytes);
        }
    });
}

#[test]
fn numbers_of_workers_and_threads_outside_their_limits_are_refused_by_name() {
    for workers in [0, 1025, usize::MAX] {
        let error = Runtime::builder().workers(workers).build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&workers.to_string()), "{error}");
    }
    for builder in [Runtime::builder().blocking_threads(0), Runtime::builder().blocking_queue(0)] {
        assert_eq!(builder.workers(1).build().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_worker_that_does_not_exist_is_named_in_the_panic() {
    let runtime = runtime(2);
    let payload = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.spawn_on(2, || ()))).unwrap_err();
    let text = message(payload);
    assert!(text.contains("worker 2 of 2"), "{text}");
}

#[test]
fn spawning_outside_a_runtime_panics_and_says_where_to_go() {
    let payload = std::panic::catch_unwind(|| spawn(|| ())).unwrap_err();
    let text = message(payload);
    assert!(text.contains("Runtime::spawn"), "{text}");
}

#[test]
fn descriptors_that_are_closed_or_of_another_kind_give_the_kernels_error() {
    on_fibers(1, || {
        // A file where a socket is expected.
        let file = std::fs::File::open("/proc/self/status").unwrap();
        // SAFETY: the file gives up its descriptor.
        let std_stream = unsafe { std::net::TcpStream::from_raw_fd(file.into_raw_fd()) };
        let error = TcpStream::from_std(std_stream).read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK), "{error}");
        // SAFETY: the buffer is valid for its length; the descriptors are no descriptors, which is the point.
        unsafe {
            let mut byte = [0_u8];
            for fd in [-1, i32::MAX] {
                assert_eq!(libc::recv(fd, byte.as_mut_ptr().cast(), 1, 0), -1);
                assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
                assert_eq!(libc::read(fd, byte.as_mut_ptr().cast(), 1), -1);
                assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
            }
        }
    });
    let manager = IoManager::new(1, false, "bad").unwrap();
    assert!(manager.add_event(-1, Event::Read, || {}).is_err());
    // What is no descriptor now is for the callback to find out: it is called, and its own read fails.
    let called = Arc::new(AtomicBool::new(false));
    let calls = Arc::clone(&called);
    manager.add_event(i32::MAX, Event::Read, move || calls.store(true, Ordering::Release)).unwrap();
    wait_for("the callback", || called.load(Ordering::Acquire));
    assert!(manager.stop(PATIENCE).is_clean());
}

#[test]
fn waits_of_the_longest_duration_are_for_ever_and_can_be_left() {
    on_fibers(2, || {
        let waits: Vec<(&str, JoinHandle<()>)> = vec![
            ("sleep", spawn(|| time::sleep(Duration::MAX))),
            ("with_timeout", spawn(|| assert!(with_timeout(Duration::MAX, park).is_ok()))),
            (
                "join_timeout",
                spawn(|| {
                    let (_open, closed) = oneshot::channel::<()>();
                    let waits = spawn(move || closed.recv().is_ok());
                    drop(waits.join_timeout(Duration::MAX));
                }),
            ),
            #[cfg(feature = "hook")]
            ("thread::sleep", spawn(|| (0..2).for_each(|_| std::thread::sleep(Duration::MAX)))),
        ];
        (0..20).for_each(|_| yield_now());
        time::sleep(Duration::from_millis(5));
        for (what, wait) in &waits {
            assert!(!wait.is_finished(), "{what} ended");
            wait.cancel();
        }
        for (what, wait) in waits {
            let ended = wait.join_timeout(PATIENCE);
            assert!(ended.is_ok(), "{what} does not end when it is cancelled");
        }
    });
}

#[test]
fn a_fiber_that_joins_itself_panics_and_says_so() {
    on_fibers(1, || {
        let (sender, receiver) = oneshot::channel::<JoinHandle<()>>();
        let fiber = spawn_local(move || receiver.recv().unwrap().join().unwrap());
        let watched = fiber.fiber().clone();
        sender.send(fiber).unwrap();
        let deadline = time::now() + PATIENCE;
        while !watched_has_ended(&watched) {
            assert!(time::now() < deadline, "it waits for itself");
            time::sleep(Duration::from_millis(1));
        }
    });

    /// Whether nobody but the caller holds on to the fiber any more.
    fn watched_has_ended(fiber: &fiber_runtime::Fiber) -> bool {
        let metrics = fiber_runtime::Handle::current().metrics();
        let _ = fiber.id();
        metrics.alive() == 1
    }
}

#[test]
fn block_on_inside_a_fiber_parks_it_whatever_runtime_it_is() {
    let other = Arc::new(runtime(1));
    let same = Arc::new(runtime(1));
    let (inner, itself) = (Arc::clone(&other), Arc::clone(&same));
    let fiber = same.spawn(move || {
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        spawn_local(move || runs.store(true, Ordering::Relaxed)).detach();
        let foreign = inner.block_on(|| {
            time::sleep(Duration::from_millis(1));
            20
        });
        assert!(ran.load(Ordering::Relaxed), "the worker was blocked");
        // Of its own runtime, whose only worker it is on.
        foreign + itself.block_on(|| spawn(|| 22).join().unwrap())
    });
    assert!(matches!(fiber.join_timeout(PATIENCE), Ok(Ok(42))));
}

#[test]
fn a_spawn_after_the_end_of_its_runtime_is_cancelled_and_drops_its_closure() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    assert!(runtime.stop(PATIENCE).is_clean());
    let closure = Arc::new(());
    for worker in [None, Some(1)] {
        let held = Arc::clone(&closure);
        let fiber = match worker {
            None => handle.spawn(move || drop(held)),
            Some(worker) => handle.spawn_on(worker, move || drop(held)),
        };
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
    }
    assert_eq!(Arc::strong_count(&closure), 1);
}

#[test]
fn channels_and_semaphores_refuse_or_bear_absurd_sizes() {
    assert!(std::panic::catch_unwind(|| channel::bounded::<u8>(0)).is_err());
    // Room is taken as it is needed.
    let (sender, receiver) = channel::bounded(usize::MAX);
    sender.send(1).unwrap();
    assert_eq!(receiver.recv(), Ok(1));
    let none = Semaphore::new(0);
    assert!(none.try_acquire().is_none());
    // A deadline long past is no wait.
    let (lock, changed) = (Mutex::new(()), Condvar::new());
    on_fibers(1, move || {
        let past = time::now() - Duration::from_secs(1);
        drop(changed.wait_until(lock.lock(), past));
        assert_eq!(fiber_runtime::park_until(Some(past)), fiber_runtime::Wake::TimedOut);
    });
}

#[test]
fn without_descriptors_a_runtime_is_not_built_and_says_why() {
    if !alone("without_descriptors_a_runtime_is_not_built_and_says_why") {
        return;
    }
    limit(libc::RLIMIT_NOFILE, 64);
    let held = use_up_descriptors();
    for workers in [1, 4] {
        let error = Runtime::builder().workers(workers).build().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
    }
    // Half of the workers could start: those end again.
    let mut held = held;
    held.truncate(held.len() - 5);
    let error = Runtime::builder().workers(8).build().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
    drop(held);
    assert_eq!(runtime(4).block_on(|| 7), 7, "with descriptors it works again");
}

#[test]
fn accept_without_descriptors_fails_and_recovers() {
    if !alone("accept_without_descriptors_fails_and_recovers") {
        return;
    }
    limit(libc::RLIMIT_NOFILE, 64);
    on_fibers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let mut held = use_up_descriptors();
        let failures = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let failed = Arc::clone(&failures);
        // A server that tries again at once must not keep its worker from those who would free descriptors.
        let server = spawn_local(move || {
            loop {
                match listener.accept() {
                    Ok((mut stream, _)) => return io::Write::write_all(&mut stream, b"hello").unwrap(),
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        wait_for("a failed accept", || failures.load(Ordering::Relaxed) > 2);
        assert!(!server.is_finished());
        held.truncate(held.len() - 4);
        let Ok(served) = server.join_timeout(PATIENCE) else { panic!("it does not recover") };
        served.unwrap();
        drop(held);
        let mut hello = [0; 5];
        client.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");
    });
}

#[test]
fn without_memory_for_a_stack_a_fiber_ends_with_an_error_and_others_go_on() {
    if !alone("without_memory_for_a_stack_a_fiber_ends_with_an_error_and_others_go_on") {
        return;
    }
    // One worker: it keeps the stacks of its ended fibers for itself.
    let runtime = runtime(1);
    runtime.block_on(|| {
        // What is there now, and room for a few large stacks.
        let used = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
        limit(libc::RLIMIT_AS, pages * 4096 + (600 << 20));
        let (sender, receiver) = channel::bounded::<()>(1);
        let receiver = Arc::new(receiver);
        let fibers: Vec<_> = (0..200)
            .map(|number| {
                let receiver = Arc::clone(&receiver);
                FiberBuilder::new().name("large").stack_size(64 << 20).spawn(move || {
                    let _ = receiver.recv();
                    number
                })
            })
            .collect();
        let failed = || fibers.iter().filter(|fiber| fiber.is_finished()).count();
        wait_for("a fiber without a stack", || failed() > 0);
        // Small ones, whose address space is reserved already, still start.
        assert_eq!(spawn(|| 5).join().unwrap(), 5);
        drop(sender);
        let (mut fine, mut without) = (0, 0);
        for fiber in fibers {
            match fiber.join() {
                Ok(_) => fine += 1,
                Err(error) => {
                    let text = error.message().unwrap_or_default().to_owned();
                    assert!(text.contains("no stack for fiber") && text.contains("large"), "{text}");
                    without += 1;
                }
            }
        }
        assert!(without > 0, "{fine} fibers of 64 MiB fit");
        // The stacks of those that ended serve again.
        assert!(fine > 0, "not one of 64 MiB fits into 600");
        let again = FiberBuilder::new().name("large").stack_size(64 << 20).spawn(|| 6);
        assert_eq!(again.join().map_err(|error| error.to_string()), Ok(6));
    });
}
