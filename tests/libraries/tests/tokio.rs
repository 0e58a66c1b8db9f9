//! tokio's runtimes on fibers: each fiber has tokio's thread-locals for itself.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::future::Future;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use fiber_runtime::{Runtime as Fibers, hook, spawn, time};
use moon_library_tests::program::PATIENCE;
use moon_tests::wait::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime that its caller drives.
fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs `body` as a fiber of a runtime with `workers` workers. One that hangs fails.
#[track_caller]
fn on_fibers<T: Send + 'static>(workers: usize, body: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = Fibers::builder().workers(workers).stack_size(256 << 10).build().unwrap();
    match runtime.spawn(body).join_timeout(PATIENCE) {
        Ok(Ok(result)) => {
            let report = runtime.stop(PATIENCE);
            assert!(report.is_clean(), "{report}");
            result
        }
        Ok(Err(failed)) => {
            failed.resume();
        }
        Err(_) => panic!("the test hangs: {}", runtime.stop(Duration::ZERO)),
    }
}

/// Whether tokio thinks that the caller is in a runtime.
fn is_in_tokio() -> bool {
    Handle::try_current().is_ok()
}

#[test]
fn all_thread_locals_of_the_tokio_that_is_linked_have_been_looked_at() {
    let found = hook::private_thread_locals().unwrap();
    assert_eq!(
        found.shared, [""; 0],
        "new ones: add them to the list, with the reason, or say why they stay shared"
    );
    let names = found.private.join("\n");
    // A program that uses no `LocalSet` has no `local::CURRENT`.
    for known in ["context::CONTEXT", "park::CURRENT_PARKER"] {
        assert!(names.contains(known), "{known} is not among\n{names}");
    }
}

#[test]
fn a_hundred_fibers_of_a_worker_each_drive_a_runtime_of_their_own_at_once() {
    const FIBERS: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(200);
    let elapsed = on_fibers(1, || {
        let began = Instant::now();
        let fibers: Vec<_> = (0..FIBERS)
            .map(|number| {
                spawn(move || {
                    current_thread().block_on(async move {
                        for _ in 0..number % 3 {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        tokio::time::sleep(PAUSE).await;
                        let joined = tokio::spawn(async move { number }).await.unwrap();
                        assert_eq!(joined, number);
                    });
                    assert!(!is_in_tokio());
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        began.elapsed()
    });
    assert!(elapsed >= PAUSE);
    assert!(elapsed < PAUSE * FIBERS / 4, "one after the other: {elapsed:?}");
}

/// Sends back one line of each connection, in threads.
fn echo_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    thread::sleep(Duration::from_millis(5));
                    stream.write_all(&buffer[..count]).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn round_trips_of_many_runtimes_on_two_workers_are_not_mixed_up() {
    let address = echo_server();
    on_fibers(2, move || {
        let fibers: Vec<_> = (0..60)
            .map(|number| {
                spawn(move || {
                    let runtime = current_thread();
                    let mut stream = runtime.block_on(TcpStream::connect(address)).unwrap();
                    for round in 0..10 {
                        let message = format!("{number}:{round}");
                        // A `block_on` for each call, as blocking clients do.
                        runtime.block_on(stream.write_all(message.as_bytes())).unwrap();
                        let mut back = vec![0; message.len()];
                        runtime.block_on(stream.read_exact(&mut back)).unwrap();
                        assert_eq!(back, message.as_bytes());
                    }
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
}

/// A future that waits with a *blocking* call: the fiber gives its worker away while tokio polls.
fn blocks_while_polled() -> impl Future<Output = ()> {
    std::future::poll_fn(|_| {
        thread::sleep(Duration::from_millis(10));
        Poll::Ready(())
    })
}

#[test]
fn a_fiber_that_waits_while_tokio_polls_finds_its_own_task_again() {
    on_fibers(1, || {
        let fibers: Vec<_> = (0..20)
            .map(|_| {
                spawn(|| {
                    let runtime = current_thread();
                    runtime.block_on(async {
                        let id = runtime.handle().id();
                        tokio::spawn(async move {
                            let task = tokio::task::id();
                            blocks_while_polled().await;
                            assert_eq!(tokio::task::id(), task);
                            assert_eq!(Handle::current().id(), id);
                        })
                        .await
                        .unwrap();
                    });
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
}

/// Waits for a runtime that another thread drives, which is what tokio parks the caller for: the wakers are counted
/// references to what one of its thread-locals holds.
#[test]
fn a_fiber_waits_for_a_runtime_of_threads_without_its_worker() {
    let threads = Arc::new(Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    let shared = threads.clone();
    on_fibers(1, move || {
        let began = Instant::now();
        let fibers: Vec<_> = (0..30)
            .map(|number| {
                let threads = shared.clone();
                spawn(move || {
                    let got = threads.block_on(async move {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        tokio::spawn(async move { number }).await.unwrap()
                    });
                    assert_eq!(got, number);
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        let elapsed = began.elapsed();
        assert!(elapsed < Duration::from_millis(100 * 30 / 3), "one after the other: {elapsed:?}");
    });
    drop(threads);
}

/// A runtime whose innards keep `kept`: whoever has a handle of it keeps that, too.
fn runtime_that_keeps(kept: &Arc<()>) -> Runtime {
    let kept = kept.clone();
    let callback = move || assert!(Arc::strong_count(&kept) > 1);
    Builder::new_current_thread().enable_all().on_thread_park(callback).build().unwrap()
}

/// Leaves a handle of a runtime behind in tokio's thread-local, as the one that the thread is in.
fn leave_a_handle_behind(kept: &Arc<()>) {
    let runtime = runtime_that_keeps(kept);
    let _never_left = ManuallyDrop::new(runtime.enter());
    assert!(is_in_tokio());
}

/// How a fiber ends that has left something behind.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Return,
    Panic,
    Cancel,
}

#[test]
fn what_a_fiber_leaves_behind_is_dropped_once_and_before_it_is_joined_however_it_ends() {
    on_fibers(1, || {
        for end in [End::Return, End::Panic, End::Cancel] {
            let kept = Arc::new(());
            let fibers: Vec<_> = (0..10)
                .map(|_| {
                    let kept = kept.clone();
                    spawn(move || {
                        assert!(!is_in_tokio(), "another fiber's");
                        leave_a_handle_behind(&kept);
                        drop(kept);
                        time::sleep(Duration::from_millis(5));
                        assert!(is_in_tokio(), "gone");
                        match end {
                            End::Return => {}
                            End::Panic => std::panic::resume_unwind(Box::new("by intention")),
                            End::Cancel => time::sleep(PATIENCE),
                        }
                    })
                })
                .collect();
            time::sleep(Duration::from_millis(1));
            assert!(!is_in_tokio());
            assert_eq!(Arc::strong_count(&kept), 11, "each fiber's handle keeps it");
            if end == End::Cancel {
                time::sleep(Duration::from_millis(20));
                fibers.iter().for_each(|fiber| fiber.cancel());
            }
            for fiber in fibers {
                assert_eq!(fiber.join().is_ok(), end == End::Return);
            }
            assert_eq!(Arc::strong_count(&kept), 1);
            assert!(!is_in_tokio());
        }
    });
}

/// Uses tokio when it is dropped, and leaves something behind.
struct Late(Arc<()>);

impl Drop for Late {
    fn drop(&mut self) {
        current_thread().block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        leave_a_handle_behind(&self.0);
    }
}

#[test]
fn a_result_that_nobody_wants_may_use_tokio_when_it_is_dropped() {
    on_fibers(1, || {
        let kept = Arc::new(());
        for used_before in [true, false] {
            let kept = kept.clone();
            // Dropped when the fiber's own thread-locals, if it had any, have been dropped.
            spawn(move || {
                if used_before {
                    leave_a_handle_behind(&kept);
                }
                Late(kept)
            })
            .detach();
        }
        wait_until("the ends of all", PATIENCE, || Arc::strong_count(&kept) == 1);
        assert!(!is_in_tokio());
    });
}

#[test]
fn threads_that_use_tokio_beside_fibers_keep_their_own() {
    let stop = Arc::new(AtomicBool::new(false));
    let kept = Arc::new(());
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (stop, kept) = (stop.clone(), kept.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let runtime = current_thread();
                    let handle = runtime.handle().id();
                    runtime.block_on(async {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        assert_eq!(Handle::current().id(), handle);
                    });
                    assert!(!is_in_tokio());
                }
                // Dropped at the thread's end, by libc.
                leave_a_handle_behind(&kept);
            })
        })
        .collect();
    on_fibers(2, || {
        let fibers: Vec<_> = (0..200)
            .map(|_| {
                spawn(|| {
                    current_thread().block_on(async { tokio::time::sleep(Duration::from_millis(2)).await })
                })
            })
            .collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    });
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn a_thread_that_is_in_a_runtime_may_drive_fibers_and_finds_itself_in_it_afterwards() {
    let outer = current_thread();
    let kept = Arc::new(());
    let guard = outer.enter();
    for _ in 0..2 {
        let runtime = Fibers::builder().workers(1).stack_size(256 << 10).use_caller(true).build().unwrap();
        let (of_fiber, inner) = runtime.block_on(|| {
            assert!(!is_in_tokio(), "the thread's");
            leave_a_handle_behind(&kept);
            let other = spawn(is_in_tokio);
            (Arc::strong_count(&kept), other.join().unwrap())
        });
        assert_eq!((of_fiber, inner), (2, false));
        drop(runtime);
        assert_eq!(Handle::current().id(), outer.handle().id());
        assert_eq!(Arc::strong_count(&kept), 1);
    }
    drop(guard);
    assert!(!is_in_tokio());
}

#[test]
fn a_fiber_that_never_used_tokio_sees_nothing_of_those_that_do() {
    on_fibers(1, || {
        let inside = Arc::new(AtomicBool::new(false));
        let told = inside.clone();
        let user = spawn(move || {
            let runtime = current_thread();
            let _entered = runtime.enter();
            told.store(true, Ordering::Relaxed);
            time::sleep(Duration::from_millis(5));
            assert!(is_in_tokio());
        });
        wait_until("the other inside", PATIENCE, || inside.load(Ordering::Relaxed));
        // The look is a use; before it, this fiber has none of its own.
        assert!(!is_in_tokio());
        user.join().unwrap();
    });
}
