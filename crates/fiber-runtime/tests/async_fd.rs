//! Readiness of descriptors of any kind, and the kernel's counter of events.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use common::{in_millis, on_fibers, wait_for};
use fiber_runtime::fd::{AsyncFd, EventFd, Interest};
use fiber_runtime::{spawn, spawn_local, time, yield_now};

/// Both on a fiber and on a plain thread.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

fn pair() -> (AsyncFd<UnixStream>, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    (AsyncFd::new(one).unwrap(), other)
}

#[test]
fn readiness_is_as_poll_sees_it() {
    everywhere(|| {
        let (one, mut other) = pair();
        one.writable().unwrap();
        let error = one.ready(Interest::Read, Some(in_millis(5))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        other.write_all(b"ab").unwrap();
        one.readable().unwrap();
        // What is left unread counts, without another edge.
        one.readable().unwrap();
        assert_eq!(one.get_ref().read(&mut [0; 8]).unwrap(), 2);
        let error = one.ready(Interest::Read, Some(in_millis(5))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(other);
        one.readable().unwrap();
    });
}

#[test]
fn an_operation_is_repeated_until_it_does_not_block() {
    on_fibers(1, || {
        let (one, mut other) = pair();
        let reader = spawn_local(move || {
            let (mut tries, mut byte) = (0, [0]);
            let count = one.try_io(Interest::Read, |mut stream| {
                tries += 1;
                stream.read(&mut byte)
            });
            (count.unwrap(), tries, byte[0])
        });
        yield_now();
        yield_now();
        other.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), (1, 2, b'x'));
    });
}

#[test]
fn an_operation_has_a_deadline_and_its_own_errors() {
    everywhere(|| {
        let (one, _other) = pair();
        let blocked =
            one.try_io_until(Interest::Read, Some(in_millis(5)), |mut stream| stream.read(&mut [0]));
        assert_eq!(blocked.unwrap_err().kind(), ErrorKind::TimedOut);
        let failed = one.try_io(Interest::Read, |_| Err::<(), _>(ErrorKind::Unsupported.into()));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn a_regular_file_is_always_ready() {
    everywhere(|| {
        let file = AsyncFd::new(tempfile::tempfile().unwrap()).unwrap();
        file.readable().unwrap();
        file.writable().unwrap();
    });
}

#[test]
fn a_descriptor_given_back_works_on_and_can_be_taken_again() {
    on_fibers(1, || {
        let (one, other) = UnixStream::pair().unwrap();
        let mut fd = AsyncFd::new(one).unwrap();
        for _ in 0..3 {
            (&other).write_all(b"x").unwrap();
            fd.readable().unwrap();
            let mut back = fd.into_inner();
            assert_eq!(back.read(&mut [0; 4]).unwrap(), 1);
            fd = AsyncFd::new(back).unwrap();
        }
    });
}

#[test]
fn a_counter_of_events_collects_and_waits() {
    everywhere(|| {
        let counter = EventFd::new().unwrap();
        assert_eq!(counter.try_take().unwrap(), 0);
        assert_eq!(counter.take_until(Some(in_millis(5))).unwrap_err().kind(), ErrorKind::TimedOut);
        counter.add(3).unwrap();
        counter.add(4).unwrap();
        assert_eq!(counter.take().unwrap(), 7);
        assert_eq!(counter.add(u64::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_counter_wakes_fibers_of_other_workers_and_threads() {
    on_fibers(2, || {
        let counter = EventFd::semaphore().unwrap();
        let takers: Vec<_> = (0..10)
            .map(|_| {
                let counter = counter.clone();
                spawn(move || counter.take().unwrap())
            })
            .collect();
        let plain = {
            let counter = counter.clone();
            std::thread::spawn(move || counter.take().unwrap())
        };
        for _ in 0..11 {
            counter.add(1).unwrap();
            time::sleep(std::time::Duration::from_micros(100));
        }
        for taker in takers {
            assert_eq!(taker.join().unwrap(), 1);
        }
        wait_for("the thread", || plain.is_finished());
        assert_eq!(plain.join().unwrap(), 1);
        assert_eq!(counter.try_take().unwrap(), 0);
    });
}

#[test]
fn a_full_counter_waits_for_room() {
    on_fibers(1, || {
        let counter = EventFd::new().unwrap();
        counter.add(EventFd::MAX).unwrap();
        let adder = {
            let counter = counter.clone();
            spawn_local(move || counter.add(5))
        };
        yield_now();
        assert!(!adder.is_finished());
        assert_eq!(counter.take().unwrap(), EventFd::MAX);
        adder.join().unwrap().unwrap();
        assert_eq!(counter.take().unwrap(), 5);
    });
}
