//! Bytes from one descriptor to another in fibers: `std::io::copy`, `splice`, `tee`, `sendfile`.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::time::Duration;

use common::beside::Ticker;
use common::{on_fibers, tcp_pair};
use fiber_runtime::{spawn_local, time, yield_now};

/// Bytes that tell where they are from.
fn block(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251 + at / 65_537) as u8).collect()
}

/// Reads everything, a piece a millisecond.
fn read_slowly(mut stream: impl Read, pieces: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; pieces];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
        time::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_file_is_copied_to_a_socket_with_a_slow_reader() {
    on_fibers(1, || {
        const LENGTH: usize = 32 << 20;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&block(LENGTH)).unwrap();
        file.rewind().unwrap();
        let (mut client, server) = tcp_pair();
        let ticker = Ticker::start();
        let writing = spawn_local(move || io::copy(&mut file, &mut client).unwrap());
        let all = read_slowly(server, 1 << 19);
        assert_eq!(writing.join().unwrap(), LENGTH as u64);
        assert!(all == block(LENGTH));
        assert!(ticker.ticks() > 20, "{}", ticker.ticks());
    });
}

#[test]
fn a_socket_is_copied_to_a_socket() {
    on_fibers(1, || {
        const LENGTH: usize = 8 << 20;
        let (mut source, mut from) = tcp_pair();
        let (mut to, sink) = tcp_pair();
        let copying = spawn_local(move || io::copy(&mut from, &mut to).unwrap());
        let writing = spawn_local(move || {
            time::sleep(Duration::from_millis(2));
            source.write_all(&block(LENGTH)).unwrap();
        });
        let all = read_slowly(sink, 1 << 19);
        writing.join().unwrap();
        assert_eq!(copying.join().unwrap(), LENGTH as u64);
        assert!(all == block(LENGTH));
    });
}

#[test]
fn pipes_and_sockets_are_copied_to_each_other() {
    on_fibers(1, || {
        const LENGTH: usize = 4 << 20;
        let (mut pipe_1, mut source) = io::pipe().unwrap();
        let (mut to, mut from) = tcp_pair();
        let (sink, mut pipe_2) = io::pipe().unwrap();
        let ticker = Ticker::start();
        let into_socket = spawn_local(move || io::copy(&mut pipe_1, &mut to).unwrap());
        let into_pipe = spawn_local(move || io::copy(&mut from, &mut pipe_2).unwrap());
        let writing = spawn_local(move || source.write_all(&block(LENGTH)).unwrap());
        let all = read_slowly(sink, 1 << 17);
        writing.join().unwrap();
        assert_eq!((into_socket.join().unwrap(), into_pipe.join().unwrap()), (LENGTH as u64, LENGTH as u64));
        assert!(all == block(LENGTH));
        assert!(ticker.ticks() > 10, "{}", ticker.ticks());
    });
}

fn splice(from: RawFd, to: RawFd, length: usize, flags: u32) -> Result<usize, Option<i32>> {
    // SAFETY: no offsets; the descriptors are the test's own.
    let moved = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), length, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error().raw_os_error())
}

#[test]
fn a_splice_out_of_an_empty_pipe_or_socket_parks() {
    on_fibers(1, || {
        let (pipe_reader, mut pipe_writer) = io::pipe().unwrap();
        let (one, mut other) = UnixStream::pair().unwrap();
        let (sink, full) = io::pipe().unwrap();
        for from in [pipe_reader.as_raw_fd(), one.as_raw_fd()] {
            let to = full.as_raw_fd();
            let waiting = spawn_local(move || splice(from, to, 100, 0));
            yield_now();
            assert!(!waiting.is_finished());
            if from == one.as_raw_fd() { other.write_all(b"abc") } else { pipe_writer.write_all(b"abc") }
                .unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(3));
        }
        assert_eq!(
            splice(pipe_reader.as_raw_fd(), full.as_raw_fd(), 9, libc::SPLICE_F_NONBLOCK),
            Err(Some(11))
        );
        one.set_nonblocking(true).unwrap();
        assert_eq!(splice(one.as_raw_fd(), full.as_raw_fd(), 9, 0), Err(Some(libc::EAGAIN)));
        // What is in the way of a broken socket stays in the pipe.
        drop(other);
        assert_eq!(splice(sink.as_raw_fd(), one.as_raw_fd(), 9, 0), Err(Some(libc::EPIPE)));
        drop(full);
        let mut sink = sink;
        let mut text = String::new();
        sink.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcabc");
        // An end is an end.
        drop(pipe_writer);
        let (_sink, full) = io::pipe().unwrap();
        assert_eq!(splice(pipe_reader.as_raw_fd(), full.as_raw_fd(), 9, 0), Ok(0));
        assert_eq!(splice(pipe_reader.as_raw_fd(), 999_999, 9, 0), Err(Some(libc::EBADF)));
    });
}

#[test]
fn a_splice_without_a_pipe_fails_at_once() {
    on_fibers(1, || {
        let (one, _other) = UnixStream::pair().unwrap();
        let (stream, _peer) = tcp_pair();
        for to in [one.as_raw_fd(), stream.as_raw_fd()] {
            assert_eq!(splice(one.as_raw_fd(), to, 9, 0), Err(Some(libc::EINVAL)));
        }
    });
}

#[test]
fn sendfile_into_the_end_of_a_pipe_for_reading_fails_at_once() {
    on_fibers(1, || {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        // SAFETY: no offset; the descriptors are the test's own.
        let sent = unsafe { libc::sendfile(reader.as_raw_fd(), file.as_raw_fd(), ptr::null_mut(), 10) };
        assert_eq!((sent, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EBADF)));
    });
}

#[test]
fn a_tee_into_a_full_pipe_parks() {
    on_fibers(1, || {
        let (from, mut source) = io::pipe().unwrap();
        let (mut sink, mut to) = io::pipe().unwrap();
        source.write_all(b"both").unwrap();
        to.write_all(&vec![b'.'; 1 << 16]).unwrap();
        let waiting = spawn_local(move || {
            // SAFETY: the descriptors are the test's own.
            let count = unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), 100, 0) };
            let mut text = [0; 4];
            let mut from = from;
            from.read_exact(&mut text).unwrap();
            (count, text)
        });
        yield_now();
        assert!(!waiting.is_finished());
        let mut buffer = vec![0; 1 << 16];
        sink.read_exact(&mut buffer).unwrap();
        assert_eq!(waiting.join().unwrap(), (4, *b"both"));
        let mut text = String::new();
        sink.read_to_string(&mut text).unwrap();
        assert_eq!(text, "both");
    });
}

#[test]
fn sendfile_to_a_slow_reader_sends_everything_and_leaves_the_worker_to_others() {
    on_fibers(1, || {
        const LENGTH: usize = 32 << 20;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&block(LENGTH)).unwrap();
        file.rewind().unwrap();
        let (client, server) = tcp_pair();
        let ticker = Ticker::start();
        let writing = spawn_local(move || {
            // SAFETY: the file's own position is used.
            unsafe { libc::sendfile(client.as_raw_fd(), file.as_raw_fd(), ptr::null_mut(), LENGTH + 9) }
        });
        let all = read_slowly(server, 1 << 19);
        assert_eq!(writing.join().unwrap(), LENGTH as isize);
        assert!(all == block(LENGTH));
        assert!(ticker.ticks() > 20, "{}", ticker.ticks());
    });
}

#[test]
fn sendfile_keeps_its_offset_and_its_time_limit() {
    on_fibers(1, || {
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(&block(8 << 20)).unwrap();
        let (client, mut server) = tcp_pair();
        client.set_write_timeout(Some(Duration::from_millis(30))).unwrap();
        let mut offset: libc::off_t = 1000;
        let mut send = |length| {
            // SAFETY: the offset lives through the call.
            let sent =
                unsafe { libc::sendfile(client.as_raw_fd(), file.as_raw_fd(), &raw mut offset, length) };
            (sent, offset)
        };
        assert_eq!(send(500), (500, 1500));
        let (sent, offset) = send(8 << 20);
        assert!(sent > 0 && sent < 8 << 20, "nobody reads: {sent}");
        assert_eq!(offset, 1500 + sent as i64);
        assert_eq!(send(10).0, -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN));
        let mut received = vec![0; 500 + sent as usize];
        server.read_exact(&mut received).unwrap();
        assert!(received == block(8 << 20)[1000..1500 + sent as usize]);
        // The end of the file is an end.
        offset_at_end(&file, &client);
        let (mut pipe, writer) = io::pipe().unwrap();
        file.rewind().unwrap();
        // SAFETY: the file's own position is used.
        let sent = unsafe { libc::sendfile(writer.as_raw_fd(), file.as_raw_fd(), ptr::null_mut(), 3000) };
        assert_eq!(sent, 3000);
        let mut start = vec![0; 3000];
        pipe.read_exact(&mut start).unwrap();
        assert!(start == block(3000));
    });
}

fn offset_at_end(file: &File, to: &TcpStream) {
    let mut offset: libc::off_t = 8 << 20;
    // SAFETY: the offset lives through the call.
    let sent = unsafe { libc::sendfile(to.as_raw_fd(), file.as_raw_fd(), &raw mut offset, 10) };
    assert_eq!(sent, 0);
}
