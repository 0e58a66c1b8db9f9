//! Readiness waits: edges before and after, several waiters, deadlines, closed and reused descriptors.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Interest, closing, wait};
use crate::{FiberBuilder, Runtime, spawn_local, spawn_on, time, yield_now};

fn in_runtime<T: Send>(workers: usize, body: impl FnOnce() -> T + Send) -> T {
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.block_on(body)
}

fn pair() -> (UnixStream, UnixStream) {
    let (left, right) = UnixStream::pair().unwrap();
    left.set_nonblocking(true).unwrap();
    right.set_nonblocking(true).unwrap();
    (left, right)
}

/// A deadline that only a lost wake reaches.
fn soon() -> Option<std::time::Instant> {
    Some(time::now() + Duration::from_secs(10))
}

#[test]
fn an_edge_before_the_wait_is_not_lost() {
    in_runtime(1, || {
        let (left, mut right) = pair();
        right.write_all(b"x").unwrap();
        wait(left.as_raw_fd(), Interest::Read, soon()).unwrap();
    });
}

#[test]
fn an_edge_after_the_wait_wakes() {
    in_runtime(1, || {
        let (mut left, mut right) = pair();
        let reader = spawn_local(move || {
            wait(left.as_raw_fd(), Interest::Read, soon()).unwrap();
            let mut byte = [0];
            left.read_exact(&mut byte).unwrap();
            byte[0]
        });
        yield_now();
        right.write_all(b"y").unwrap();
        assert_eq!(reader.join().unwrap(), b'y');
    });
}

#[test]
fn an_edge_while_nobody_waits_is_remembered() {
    in_runtime(1, || {
        let (left, mut right) = pair();
        let fd = left.as_raw_fd();
        let shortly = || Some(time::now() + Duration::from_millis(1));
        assert_eq!(wait(fd, Interest::Read, shortly()).unwrap_err().kind(), ErrorKind::TimedOut);
        // Registered, and nobody waits: the kernel reports this edge once.
        right.write_all(b"x").unwrap();
        time::sleep(Duration::from_millis(5));
        wait(fd, Interest::Read, soon()).unwrap();
        // And it is remembered once.
        assert_eq!(wait(fd, Interest::Read, shortly()).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn the_other_end_going_away_wakes() {
    in_runtime(1, || {
        let (left, right) = pair();
        let reader = spawn_local(move || wait(left.as_raw_fd(), Interest::Read, soon()));
        yield_now();
        drop(right);
        reader.join().unwrap().unwrap();
    });
}

#[test]
fn a_deadline_ends_the_wait_and_leaves_nothing_behind() {
    in_runtime(1, || {
        let (left, mut right) = pair();
        let fd = left.as_raw_fd();
        let began = time::now();
        let error = wait(fd, Interest::Read, Some(began + Duration::from_millis(2))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(time::now() - began >= Duration::from_millis(2));
        right.write_all(b"x").unwrap();
        wait(fd, Interest::Read, soon()).unwrap();
    });
}

#[test]
fn all_waiters_of_a_direction_wake() {
    in_runtime(1, || {
        let (left, mut right) = pair();
        let left = Arc::new(left);
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let left = left.clone();
                spawn_local(move || wait(left.as_raw_fd(), Interest::Read, soon()))
            })
            .collect();
        yield_now();
        right.write_all(b"x").unwrap();
        for reader in readers {
            reader.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_full_buffer_waits_for_room() {
    in_runtime(1, || {
        let (left, right) = pair();
        let total = Arc::new(AtomicUsize::new(0));
        let sum = total.clone();
        let writer = spawn_local(move || {
            let mut left = left;
            let mut sent = 0;
            while sent < 4 << 20 {
                match left.write(&[7; 4096]) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        wait(left.as_raw_fd(), Interest::Write, soon()).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            sent
        });
        let reader = spawn_local(move || {
            let mut right = right;
            let mut buffer = [0; 8192];
            loop {
                match right.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => drop(sum.fetch_add(count, Ordering::Relaxed)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        wait(right.as_raw_fd(), Interest::Read, soon()).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let sent = writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(total.load(Ordering::Relaxed), sent);
    });
}

#[test]
fn closing_wakes_waiters_on_every_worker() {
    in_runtime(3, || {
        let (left, _right) = pair();
        let fd = left.as_raw_fd();
        let waiting = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..3)
            .map(|worker| {
                let waiting = waiting.clone();
                spawn_on(worker, move || {
                    waiting.fetch_add(1, Ordering::SeqCst);
                    wait(fd, Interest::Read, soon())
                })
            })
            .collect();
        while waiting.load(Ordering::SeqCst) < 3 {
            yield_now();
        }
        // A little later all three are in the kernel; one that is not yet finds the new generation or the closed number.
        time::sleep(Duration::from_millis(20));
        closing(fd);
        drop(left);
        for waiter in waiters {
            let error = waiter.join().unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "{error}");
        }
    });
}

#[test]
fn a_reused_number_registers_anew() {
    in_runtime(2, || {
        for round in 0..50 {
            let (left, mut right) = pair();
            let fd = left.as_raw_fd();
            // The same number over and over, on two workers in turn.
            let reader = spawn_on(round % 2, move || wait(fd, Interest::Read, soon()));
            yield_now();
            right.write_all(b"x").unwrap();
            reader.join().unwrap().unwrap();
            closing(fd);
            drop(left);
        }
    });
}

#[test]
fn a_duplicate_of_a_closed_descriptor_does_not_confuse_its_successor() {
    in_runtime(1, || {
        let (left, mut right) = pair();
        let fd = left.as_raw_fd();
        right.write_all(b"x").unwrap();
        wait(fd, Interest::Read, soon()).unwrap();
        let duplicate = left.try_clone().unwrap();
        closing(fd);
        drop(left);
        let (again, mut other) = pair();
        let reader = spawn_local(move || {
            let result = wait(again.as_raw_fd(), Interest::Read, soon());
            (result, again)
        });
        yield_now();
        // Edges of the duplicate's file belong to nobody.
        right.write_all(b"y").unwrap();
        time::sleep(Duration::from_millis(1));
        assert!(!reader.is_finished());
        other.write_all(b"z").unwrap();
        reader.join().unwrap().0.unwrap();
        drop(duplicate);
    });
}

#[test]
fn a_cancelled_fiber_gets_an_error_and_does_not_unwind_in_the_wait() {
    in_runtime(1, || {
        let (left, _right) = pair();
        let waiter = FiberBuilder::new().name("waiter").spawn(move || {
            let error = wait(left.as_raw_fd(), Interest::Read, soon()).unwrap_err();
            error.raw_os_error()
        });
        yield_now();
        yield_now();
        waiter.cancel();
        assert_eq!(waiter.join().unwrap(), Some(libc::ECANCELED));
    });
}

#[test]
fn files_that_are_always_ready_are_refused_by_the_kernel() {
    in_runtime(1, || {
        let file = tempfile::tempfile().unwrap();
        let error = wait(file.as_raw_fd(), Interest::Read, soon()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(wait(-1, Interest::Read, soon()).unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn outside_a_fiber_there_is_nothing_to_wait_with() {
    assert_eq!(wait(0, Interest::Read, None).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_busy_worker_still_hears_of_events() {
    in_runtime(1, || {
        let (left, mut right) = pair();
        let reader = spawn_local(move || wait(left.as_raw_fd(), Interest::Read, soon()));
        yield_now();
        right.write_all(b"x").unwrap();
        let deadline = time::now() + Duration::from_secs(10);
        // Never idle: this fiber is ready all the time.
        while !reader.is_finished() {
            assert!(time::now() < deadline, "the event was not seen");
            yield_now();
        }
        reader.join().unwrap().unwrap();
    });
}

#[test]
fn a_descriptor_that_is_always_ready_does_not_starve_other_fibers() {
    in_runtime(1, || {
        let (left, right) = crate::net::UnixStream::pair().unwrap();
        let ran = std::rc::Rc::new(std::cell::Cell::new(false));
        let flag = ran.clone();
        let other = spawn_local(move || flag.set(true));
        let mut rounds = 0;
        while !ran.get() {
            rounds += 1;
            assert!(rounds < 10_000, "ten thousand operations without giving way");
            (&left).write_all(b"x").unwrap();
            let mut byte = [0];
            (&right).read_exact(&mut byte).unwrap();
        }
        other.join().unwrap();
    });
}
