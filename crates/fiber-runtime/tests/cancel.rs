//! Cancellation: what a cancelled fiber's calls do, that destructors run, and what becomes of locks.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::waits::for_each_endless_wait;
use common::{in_millis, on_fibers, runtime, wait_for};
use fiber_runtime::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use fiber_runtime::sync::{Mutex, RwLock};
use fiber_runtime::{
    Cancelled, FiberBuilder, JoinError, JoinHandle, offload, park, shielded, spawn, spawn_local, time,
    yield_now,
};

/// Spawns `body`, cancels it once it waits, and returns its outcome.
fn cancelled<T: 'static>(body: impl FnOnce() -> T + 'static) -> Result<T, JoinError> {
    let fiber = spawn_local(body);
    yield_now();
    assert!(!fiber.is_finished(), "the fiber was to wait");
    fiber.cancel();
    fiber.join()
}

/// A socket that nobody writes to, and its other end.
fn silent() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (server, client)
}

#[test]
fn the_first_native_io_call_of_a_cancelled_fiber_fails_with_cancelled() {
    on_fibers(1, || {
        let (mut stream, _other) = silent();
        let error = cancelled(move || stream.read(&mut [0; 8])).unwrap().unwrap_err();
        assert!(Cancelled::is_in(&error), "{error:?}");
        assert_eq!(error.kind(), std::io::ErrorKind::Other);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = cancelled(move || listener.accept().map(drop)).unwrap().unwrap_err();
        assert!(Cancelled::is_in(&error), "{error:?}");

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = cancelled(move || socket.recv_from(&mut [0; 8]).map(drop)).unwrap().unwrap_err();
        assert!(Cancelled::is_in(&error), "{error:?}");
    });
}

#[test]
fn a_loop_that_ignores_the_error_is_unwound_by_the_next_call() {
    on_fibers(1, || {
        let (mut stream, _other) = silent();
        let errors = Arc::new(AtomicUsize::new(0));
        let counted = errors.clone();
        let outcome: Result<(), _> = cancelled(move || {
            loop {
                if stream.read(&mut [0; 8]).is_err() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        assert!(matches!(outcome, Err(JoinError::Cancelled)));
        assert_eq!(errors.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_cancelled_fiber_whose_stream_never_runs_dry_ends_as_well() {
    on_fibers(2, || {
        let (mut reader, mut writer) = UnixStream::pair().unwrap();
        let feeding = spawn(move || while writer.write_all(&[7; 4096]).is_ok() {});
        let rounds = Arc::new(AtomicUsize::new(0));
        let counted = rounds.clone();
        let hungry = spawn(move || -> std::io::Result<()> {
            loop {
                reader.read_exact(&mut [0; 512])?;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        wait_for("some reads", || rounds.load(Ordering::SeqCst) > 100);
        hungry.cancel();
        let error = hungry.join().unwrap().unwrap_err();
        assert!(Cancelled::is_in(&error), "{error:?}");
        feeding.join().unwrap();
    });
}

#[test]
fn a_call_that_starts_after_the_cancellation_fails_at_once() {
    on_fibers(1, || {
        let (mut stream, mut other) = silent();
        other.write_all(b"ready").unwrap();
        let fiber = spawn_local(move || {
            fiber_runtime::current().cancel();
            stream.read(&mut [0; 8])
        });
        let error = fiber.join().unwrap().unwrap_err();
        assert!(Cancelled::is_in(&error), "data was there, and yet: {error:?}");
    });
}

#[test]
fn a_stream_that_ends_under_its_reader_is_not_a_cancellation() {
    on_fibers(1, || {
        let (stream, _other) = silent();
        let mut reader = stream.try_clone().unwrap();
        let reading = spawn_local(move || reader.read(&mut [0; 8]));
        yield_now();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(reading.join().unwrap().unwrap(), 0);
    });
}

/// Sets a flag when dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn every_wait_that_cannot_fail_unwinds_and_runs_destructors() {
    on_fibers(1, || {
        for_each_endless_wait(|what, wait| {
            let dropped = Arc::new(AtomicBool::new(false));
            let flag = Flag(dropped.clone());
            let outcome = cancelled(move || {
                let _flag = flag;
                wait();
                unreachable!("the wait returned");
            });
            assert!(matches!(outcome, Err(JoinError::Cancelled)), "{what}: {outcome:?}");
            assert!(dropped.load(Ordering::SeqCst), "{what}: destructors did not run");
        });
    });
}

#[test]
fn a_fiber_that_catches_the_unwinding_meets_it_again() {
    on_fibers(1, || {
        let outcome = cancelled(|| {
            for _ in 0..3 {
                assert!(catch_unwind(AssertUnwindSafe(park)).is_err());
            }
            park();
        });
        assert!(matches!(outcome, Err(JoinError::Cancelled)));
    });
}

#[test]
fn a_fiber_cancelled_before_it_starts_never_does() {
    on_fibers(1, || {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = Flag(dropped.clone());
        let fiber: JoinHandle<()> = spawn_local(move || {
            let _flag = flag;
            unreachable!("it was cancelled before");
        });
        fiber.cancel();
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
        assert!(dropped.load(Ordering::SeqCst), "what the closure owned is dropped");
    });
}

#[test]
fn a_shielded_fiber_ends_in_peace_and_is_unwound_after() {
    on_fibers(1, || {
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        let (mut stream, mut other) = silent();
        let outcome = cancelled(move || {
            shielded(|| {
                for _ in 0..3 {
                    time::sleep(Duration::from_millis(1));
                    yield_now();
                }
                stream.write_all(b"bye").unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
            });
            yield_now();
            counted.fetch_add(1, Ordering::SeqCst);
        });
        assert!(matches!(outcome, Err(JoinError::Cancelled)));
        assert_eq!(done.load(Ordering::SeqCst), 1, "the shielded part alone is completed");
        let mut word = [0; 3];
        other.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"bye");
    });
}

#[test]
fn cancelling_from_other_workers_and_threads_wakes_the_sleeper() {
    let runtime = runtime(2);
    for from in 0..3 {
        let fiber = runtime.spawn_on(0, || time::sleep(Duration::MAX));
        wait_for("the start", || runtime.metrics().workers[0].started > from);
        match from {
            0 => fiber.cancel(),
            1 => {
                let other = fiber.fiber().clone();
                runtime.spawn_on(1, move || other.cancel()).join().unwrap();
            }
            _ => {
                let other = fiber.fiber().clone();
                std::thread::spawn(move || other.cancel()).join().unwrap();
            }
        }
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
    }
}

#[test]
fn offloaded_work_is_finished_before_its_cancelled_caller_ends() {
    on_fibers(1, || {
        let (started, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (begun, finished) = (started.clone(), done.clone());
        let fiber = spawn_local(move || {
            offload(move || {
                begun.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                finished.store(true, Ordering::SeqCst);
            });
            unreachable!("the fiber was cancelled meanwhile");
        });
        wait_for("the pool", || started.load(Ordering::SeqCst));
        fiber.cancel();
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
        assert!(done.load(Ordering::SeqCst));
    });
}

#[test]
fn locks_of_this_crate_are_usable_after_a_cancelled_holder() {
    on_fibers(1, || {
        let (mutex, rwlock) = (Arc::new(Mutex::new(1)), Arc::new(RwLock::new(1)));
        let (one, other) = (mutex.clone(), rwlock.clone());
        let outcome = cancelled(move || {
            let _guards = (one.lock(), other.write());
            park();
        });
        assert!(matches!(outcome, Err(JoinError::Cancelled)));
        assert_eq!((*mutex.lock(), *rwlock.read()), (1, 1));
    });
}

/// What `Fiber::cancel` says of std's locks: a guard dropped by unwinding poisons, one dropped by returning does not.
#[test]
fn locks_of_std_are_poisoned_by_unwinding_and_not_by_the_error() {
    on_fibers(1, || {
        let lock = Arc::new(std::sync::Mutex::new(()));
        let inner = lock.clone();
        let outcome = cancelled(move || {
            let _guard = inner.lock().unwrap();
            park();
        });
        assert!(matches!(outcome, Err(JoinError::Cancelled)));
        assert!(lock.is_poisoned(), "std poisons what is unlocked while the thread unwinds");

        let lock = Arc::new(std::sync::Mutex::new(()));
        let inner = lock.clone();
        let (mut stream, _other) = silent();
        let outcome = cancelled(move || {
            let _guard = inner.lock().unwrap();
            stream.read(&mut [0; 8]).map(drop)
        });
        assert!(Cancelled::is_in(&outcome.unwrap().unwrap_err()));
        assert!(!lock.is_poisoned(), "returning the error is no unwinding");
    });
}

#[test]
fn a_destructor_that_waits_while_its_fiber_unwinds_waits_to_the_end() {
    struct Farewell(Arc<AtomicBool>);

    impl Drop for Farewell {
        fn drop(&mut self) {
            let began = time::now();
            time::sleep(Duration::from_millis(10));
            self.0.store(time::now() - began >= Duration::from_millis(10), Ordering::SeqCst);
        }
    }

    on_fibers(1, || {
        let slept = Arc::new(AtomicBool::new(false));
        let farewell = Farewell(slept.clone());
        let outcome = cancelled(move || {
            let _farewell = farewell;
            park();
        });
        assert!(matches!(outcome, Err(JoinError::Cancelled)));
        assert!(slept.load(Ordering::SeqCst), "the destructor was cut short");
    });
}

#[test]
fn a_named_fiber_says_so_when_its_end_is_reported() {
    on_fibers(1, || {
        let fiber = FiberBuilder::new().name("sleepy").spawn(park);
        assert_eq!(fiber.fiber().to_string(), format!("'sleepy' (#{})", fiber.fiber().id()));
        fiber.cancel();
        let error = fiber.join_until(in_millis(20_000)).unwrap().unwrap_err();
        assert!(error.is_cancelled() && !error.is_panic(), "{error}");
    });
}

#[cfg(feature = "hook")]
mod hooked {
    //! The same through the symbols of libc: nothing unwinds, every call says `ECANCELED`.

    use super::*;

    #[test]
    fn hooked_calls_of_a_cancelled_fiber_fail_and_never_unwind() {
        on_fibers(1, || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let errors = cancelled(move || {
                let mut errors = Vec::new();
                for _ in 0..5 {
                    errors.push(server.read(&mut [0; 8]).unwrap_err().raw_os_error());
                    errors.push(listener.accept().unwrap_err().raw_os_error());
                }
                errors
            });
            assert_eq!(errors.unwrap(), vec![Some(libc::ECANCELED); 10]);
        });
    }

    #[test]
    fn a_cancelled_loop_of_hooked_calls_gives_way_to_others() {
        on_fibers(1, || {
            let (mut stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let told = stop.clone();
            let stubborn = spawn_local(move || {
                while !told.load(Ordering::SeqCst) {
                    let _ = stream.read(&mut [0; 8]);
                }
            });
            yield_now();
            stubborn.cancel();
            yield_now();
            yield_now();
            stop.store(true, Ordering::SeqCst);
            stubborn.join().unwrap();
        });
    }
}
