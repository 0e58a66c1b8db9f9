//! `recvmmsg` and `sendmmsg` in fibers, with the kernel's manners; and the checked functions of `_FORTIFY_SOURCE`.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::ptr;
use std::time::{Duration, Instant};

use common::on_fibers;
use fiber_runtime::{spawn_local, time, yield_now};

const BAD: Option<i32> = Some(libc::EBADF);

/// Some messages of one buffer each.
struct Messages {
    buffers: Vec<Vec<u8>>,
    flags: i32,
    limit: Option<libc::timespec>,
}

impl Messages {
    fn new(count: usize, length: usize) -> Self {
        Self { buffers: vec![vec![0; length]; count], flags: 0, limit: None }
    }

    /// Makes the call; what it returns, and the lengths of the messages that it counts.
    fn call(&mut self, fd: RawFd, sends: bool) -> Result<Vec<usize>, Option<i32>> {
        let mut vectors: Vec<_> = self
            .buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: a message of zeros is valid.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        let limit = self.limit.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        let (first, count) = (headers.as_mut_ptr(), headers.len() as u32);
        // SAFETY: the messages and their buffers live through the call.
        let result = unsafe {
            match sends {
                true => libc::sendmmsg(fd, first, count, self.flags | libc::MSG_NOSIGNAL),
                false => libc::recvmmsg(fd, first, count, self.flags, limit),
            }
        };
        let count = usize::try_from(result).map_err(|_| io::Error::last_os_error().raw_os_error())?;
        Ok(headers[..count].iter().map(|header| header.msg_len as usize).collect())
    }

    fn receive(&mut self, from: &impl AsRawFd) -> Result<Vec<usize>, Option<i32>> {
        self.call(from.as_raw_fd(), false)
    }
}

/// In a thread as well, where the kernel answers.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

#[test]
fn what_is_there_is_received_at_once() {
    everywhere(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        for length in 1..=5 {
            other.send(&vec![7; length]).unwrap();
        }
        let mut messages = Messages::new(8, 4);
        messages.flags = libc::MSG_WAITFORONE;
        assert_eq!(messages.receive(&one), Ok(vec![1, 2, 3, 4, 4]));
        assert_eq!(messages.buffers[2], [7, 7, 7, 0]);
        messages.flags = libc::MSG_DONTWAIT;
        assert_eq!(messages.receive(&one), Err(Some(libc::EAGAIN)));
        one.set_nonblocking(true).unwrap();
        messages.flags = 0;
        assert_eq!(messages.receive(&one), Err(Some(libc::EAGAIN)));
        other.send(b"x").unwrap();
        assert_eq!(messages.receive(&one), Ok(vec![1]));
        assert_eq!(Messages::new(0, 1).receive(&one), Ok(vec![]));
        assert_eq!(Messages::new(2, 1).call(999_999, false), Err(BAD));
        assert_eq!(Messages::new(2, 1).call(999_999, true), Err(BAD));
    });
}

#[test]
fn all_messages_are_waited_for() {
    on_fibers(1, || {
        let (one, other) = UnixDatagram::pair().unwrap();
        let waiting = spawn_local(move || {
            let mut messages = Messages::new(3, 4);
            let all = messages.receive(&one);
            messages.flags = libc::MSG_WAITFORONE;
            (all, messages.receive(&one))
        });
        for byte in 1..=3 {
            yield_now();
            time::sleep(Duration::from_millis(2));
            assert!(!waiting.is_finished());
            other.send(&[byte]).unwrap();
        }
        time::sleep(Duration::from_millis(2));
        assert!(!waiting.is_finished());
        other.send(b"last").unwrap();
        assert_eq!(waiting.join().unwrap(), (Ok(vec![1, 1, 1]), Ok(vec![4])));
    });
}

#[test]
fn the_time_limit_is_looked_at_after_each_message_only() {
    fn limit(millis: i64) -> Option<libc::timespec> {
        Some(libc::timespec { tv_sec: 0, tv_nsec: millis * 1_000_000 })
    }

    everywhere(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        let mut messages = Messages::new(3, 4);
        for byte in 0..3 {
            other.send(&[byte]).unwrap();
        }
        messages.limit = limit(0);
        assert_eq!(messages.receive(&one), Ok(vec![1]), "no time, one message");
        // The second one comes long after the limit, and is received.
        messages.limit = limit(10);
        messages.buffers.truncate(3);
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(40));
            other.send(b"late").unwrap();
            other
        });
        let start = Instant::now();
        assert_eq!(messages.receive(&one), Ok(vec![1, 1, 4]));
        assert!(start.elapsed() >= Duration::from_millis(39), "{:?}", start.elapsed());
        let left = messages.limit.unwrap();
        assert_eq!((left.tv_sec, left.tv_nsec), (0, 0));
        let other = late.join().unwrap();
        other.send(b"x").unwrap();
        other.send(b"y").unwrap();
        messages.buffers.truncate(2);
        messages.limit = limit(900);
        assert_eq!(messages.receive(&one), Ok(vec![1, 1]));
        assert!((1..900_000_000).contains(&messages.limit.unwrap().tv_nsec), "what is left is written down");
        messages.limit = limit(1000);
        assert_eq!(messages.receive(&one), Err(Some(libc::EINVAL)), "no such time");
    });
}

#[test]
fn the_sockets_timeout_ends_the_wait_for_the_rest() {
    everywhere(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        one.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        other.send(b"one").unwrap();
        let mut messages = Messages::new(2, 4);
        let start = Instant::now();
        assert_eq!(messages.receive(&one), Ok(vec![3]));
        assert_eq!(messages.receive(&one), Err(Some(libc::EAGAIN)));
        assert!(start.elapsed() >= Duration::from_millis(19), "{:?}", start.elapsed());
    });
}

#[test]
fn messages_of_a_stream_are_sent_whole_and_in_order() {
    on_fibers(1, || {
        const LENGTH: usize = 700_000;
        let (one, mut other) = UnixStream::pair().unwrap();
        let sending = spawn_local(move || {
            let mut messages = Messages::new(3, LENGTH);
            for (number, buffer) in messages.buffers.iter_mut().enumerate() {
                buffer.fill(number as u8 + 1);
            }
            messages.call(one.as_raw_fd(), true)
        });
        let mut all = Vec::new();
        other.read_to_end(&mut all).unwrap();
        assert_eq!(sending.join().unwrap(), Ok(vec![LENGTH; 3]));
        assert_eq!(all.len(), 3 * LENGTH);
        assert!(all.iter().enumerate().all(|(at, &byte)| usize::from(byte) == at / LENGTH + 1));
    });
}

#[test]
fn datagrams_wait_for_room() {
    on_fibers(1, || {
        let (one, other) = UnixDatagram::pair().unwrap();
        let sending = spawn_local(move || Messages::new(300, 2).call(one.as_raw_fd(), true));
        let mut messages = Messages::new(300, 4);
        assert_eq!(messages.receive(&other), Ok(vec![2; 300]));
        assert_eq!(sending.join().unwrap(), Ok(vec![2; 300]));
    });
}

unsafe extern "C" {
    fn __read_chk(fd: i32, buffer: *mut libc::c_void, length: usize, room: usize) -> isize;
    fn __recv_chk(fd: i32, buffer: *mut libc::c_void, length: usize, room: usize, flags: i32) -> isize;
}

#[test]
fn checked_functions_park_as_well() {
    on_fibers(1, || {
        let (one, mut other) = UnixStream::pair().unwrap();
        let waiting = spawn_local(move || {
            let mut buffer = [0_u8; 8];
            let start = buffer.as_mut_ptr().cast();
            // SAFETY: the buffer has eight bytes.
            let counts = unsafe {
                (__read_chk(one.as_raw_fd(), start, 3, 8), __recv_chk(one.as_raw_fd(), start, 8, 8, 0))
            };
            (counts, buffer)
        });
        yield_now();
        assert!(!waiting.is_finished());
        other.write_all(b"abcdef").unwrap();
        assert_eq!(waiting.join().unwrap(), ((3, 3), *b"def\0\0\0\0\0"));
    });
}
