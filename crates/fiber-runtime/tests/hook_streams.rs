//! `read`, `write` and their vectored forms in a fiber: what the kernel promises of pipes, counters, sockets and files.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use common::on_fibers;
use fiber_runtime::{spawn_local, yield_now};

fn counter() -> File {
    // SAFETY: the call makes a new descriptor, which nobody else owns.
    unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) }
}

/// How many bytes wait to be read.
fn unread(fd: RawFd) -> i32 {
    let mut count = 0;
    // SAFETY: the count lives through the call.
    assert_eq!(unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) }, 0);
    count
}

fn fcntl(fd: RawFd, command: i32, argument: i32) {
    // SAFETY: these commands take and change numbers.
    assert!(unsafe { libc::fcntl(fd, command, argument) } >= 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_vectored_write_of_up_to_pipe_buf_is_in_one_piece() {
    on_fibers(1, || {
        let (mut reader, mut writer) = io::pipe().unwrap();
        fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096);
        writer.write_all(&[b'.'; 4000]).unwrap();
        let mut second = writer.try_clone().unwrap();
        let writing = spawn_local(move || {
            let half = [b'w'; 90];
            second.write_vectored(&[IoSlice::new(&half), IoSlice::new(&half)]).unwrap()
        });
        yield_now();
        // The first half would have fitted.
        assert!(!writing.is_finished());
        assert_eq!(unread(reader.as_raw_fd()), 4000);
        let mut all = [0; 4180];
        reader.read_exact(&mut all).unwrap();
        assert_eq!(writing.join().unwrap(), 180);
        assert!(all[4000..].iter().all(|&byte| byte == b'w'));
    });
}

#[test]
fn a_vectored_write_beyond_the_pipes_room_is_complete() {
    on_fibers(1, || {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let block: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
        let sent = block.clone();
        let writing = spawn_local(move || {
            let pieces: Vec<IoSlice> = sent.chunks(10_007).map(IoSlice::new).collect();
            writer.write_vectored(&pieces).unwrap()
        });
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(writing.join().unwrap(), block.len());
        assert!(all == block);
    });
}

#[test]
fn a_non_blocking_pipe_takes_what_fits_and_then_nothing() {
    on_fibers(1, || {
        let (mut reader, mut writer) = io::pipe().unwrap();
        fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
        let fitted = writer.write(&vec![1; 1 << 20]).unwrap();
        assert_eq!(fitted as i32, unread(reader.as_raw_fd()));
        assert_eq!(writer.write(&[1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let half = [2; 2500];
        let both = [IoSlice::new(&half), IoSlice::new(&half)];
        reader.read_exact(&mut [0; 4096]).unwrap();
        assert_eq!(writer.write_vectored(&both).unwrap(), 4096, "one page is free");
    });
}

#[test]
fn a_pipe_without_readers_breaks_a_write_and_keeps_what_was_written() {
    on_fibers(1, || {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut second = writer.try_clone().unwrap();
        let writing = spawn_local(move || second.write(&vec![1; 1 << 20]).unwrap());
        yield_now();
        drop(reader);
        assert_eq!(writing.join().unwrap(), 1 << 16, "what the pipe held");
        assert_eq!(writer.write(&[1]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_counter_takes_what_the_kernel_lets_it_take() {
    on_fibers(1, || {
        let mut file = counter();
        let mut sixteen = [0; 16];
        sixteen[0] = 3;
        // Kernels differ in what they say of more than eight; none takes the second half for a second number.
        for length in [0, 7, 8, 9, 16] {
            let mut written = || file.write(&sixteen[..length]).map_err(|error| error.raw_os_error());
            let expected = fiber_runtime::hook::disabled(&mut written);
            assert_eq!(written(), expected, "{length} bytes");
        }
        let mut number = [0; 8];
        assert_eq!(file.read(&mut number).unwrap(), 8);
        assert_eq!(number[0] % 6, 0, "each length was written by both or by none");
        let eight = [IoSlice::new(&sixteen[..8]), IoSlice::new(&sixteen[..8])];
        assert_eq!(file.write_vectored(&eight).unwrap(), 16);
        assert_eq!((file.read(&mut number).unwrap(), number[0]), (8, 6), "two numbers in two buffers");
    });
}

#[test]
fn a_full_counter_parks_its_writer() {
    on_fibers(1, || {
        let mut file = counter();
        let mut second = file.try_clone().unwrap();
        file.write_all(&(u64::MAX - 1).to_le_bytes()).unwrap();
        let writing = spawn_local(move || second.write(&1_u64.to_le_bytes()).unwrap());
        yield_now();
        assert!(!writing.is_finished());
        let mut number = [0; 8];
        file.read_exact(&mut number).unwrap();
        assert_eq!(writing.join().unwrap(), 8);
        file.read_exact(&mut number).unwrap();
        assert_eq!(u64::from_le_bytes(number), 1);
    });
}

#[test]
fn reading_into_nothing_takes_and_waits_for_nothing() {
    on_fibers(1, || {
        let (one, other) = UnixDatagram::pair().unwrap();
        let mut reader = File::from(OwnedFd::from(one));
        let mut nothing = [];
        assert_eq!(reader.read_vectored(&mut [IoSliceMut::new(&mut nothing)]).unwrap(), 0);
        assert_eq!(reader.read(&mut nothing).unwrap(), 0);
        other.send(b"here").unwrap();
        assert_eq!(reader.read_vectored(&mut [IoSliceMut::new(&mut nothing)]).unwrap(), 0);
        let mut text = [0; 8];
        assert_eq!(reader.read(&mut text).unwrap(), 4, "the datagram is still there");
        let (mut pipe, _writer) = io::pipe().unwrap();
        assert_eq!(pipe.read_vectored(&mut [IoSliceMut::new(&mut nothing)]).unwrap(), 0);
    });
}

#[test]
fn writing_nothing_to_a_datagram_socket_is_a_datagram() {
    on_fibers(1, || {
        let (one, other) = UnixDatagram::pair().unwrap();
        let mut writer = File::from(OwnedFd::from(one));
        let mut sent = 0;
        let reading = spawn_local(move || {
            let mut received = 0;
            let mut buffer = [9; 4];
            while other.recv(&mut buffer).unwrap() == 0 {
                received += 1;
            }
            received
        });
        // More than the socket's queue holds: the writer has to wait.
        while sent < 100 {
            assert_eq!(writer.write(&[]).unwrap(), 0);
            sent += 1;
        }
        writer.write_all(b"end").unwrap();
        assert_eq!(reading.join().unwrap(), sent);
    });
}

#[test]
fn shutting_a_datagram_socket_down_ends_the_wait_for_it() {
    on_fibers(1, || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        let number = socket.as_raw_fd();
        let waiting = spawn_local(move || socket.recv(&mut [0; 8]).unwrap());
        for _ in 0..3 {
            yield_now();
        }
        assert!(!waiting.is_finished());
        // SAFETY: plain numbers, of a socket that the fiber keeps open.
        assert_eq!(unsafe { libc::shutdown(number, libc::SHUT_RD) }, 0);
        assert_eq!(waiting.join().unwrap(), 0);
    });
}

#[test]
fn a_named_pipe_parks_both_of_its_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name ends in a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    on_fibers(1, move || {
        let mut reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut writer = File::options().write(true).open(&path).unwrap();
        let block: Vec<u8> = (0..300_000).map(|at| (at % 251) as u8).collect();
        let expected = block.clone();
        let reading = spawn_local(move || {
            let mut all = vec![0; expected.len()];
            reader.read_exact(&mut all).unwrap();
            all == expected
        });
        yield_now();
        assert_eq!(writer.write(&block[..100_000]).unwrap(), 100_000);
        let pieces: Vec<IoSlice> = block[100_000..].chunks(30_000).map(IoSlice::new).collect();
        assert_eq!(writer.write_vectored(&pieces).unwrap(), 200_000);
        assert!(reading.join().unwrap());
    });
}

#[test]
fn a_number_that_became_another_kind_of_file_behind_the_hooks_back_still_works() {
    /// Puts `file` under `number` without any hook's knowledge.
    fn replace(number: RawFd, file: OwnedFd) -> File {
        // SAFETY: the number is ours, and was given up by `into_raw_fd`.
        let result = unsafe { libc::syscall(libc::SYS_dup3, file.as_raw_fd(), number, 0) };
        assert_eq!(result, i64::from(number));
        // SAFETY: the number is ours.
        unsafe { File::from_raw_fd(number) }
    }
    /// Reads from `number`, to which `other` writes.
    fn check(number: RawFd, file: impl Into<OwnedFd>, mut other: impl Write) {
        let mut file = replace(number, file.into());
        other.write_all(b"now").unwrap();
        let mut text = [0; 8];
        assert_eq!(file.read(&mut text).unwrap(), 3);
        other.write_all(b"then").unwrap();
        let (mut one, mut two) = ([0; 2], [0; 8]);
        let mut both = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(file.read_vectored(&mut both).unwrap(), 4);
        let _ = file.into_raw_fd();
    }

    on_fibers(1, || {
        // Until the first close of it that is seen, a number keeps the note that its first file left.
        for first_is_socket in [false, true] {
            let (reader, mut writer) = io::pipe().unwrap();
            let (one, mut other) = UnixStream::pair().unwrap();
            let number = if first_is_socket { one.into_raw_fd() } else { reader.into_raw_fd() };
            // SAFETY: the number is ours.
            let mut first = unsafe { File::from_raw_fd(number) };
            for _ in 0..2 {
                if first_is_socket { other.write_all(b"?") } else { writer.write_all(b"?") }.unwrap();
                assert_eq!(first.read(&mut [0; 8]).unwrap(), 1);
            }
            let _ = first.into_raw_fd();

            let (reader, writer) = io::pipe().unwrap();
            check(number, reader, writer);
            let (one, other) = UnixStream::pair().unwrap();
            check(number, one, other);
            let (mut reader, writer) = io::pipe().unwrap();
            let mut file = replace(number, writer.into());
            assert_eq!(file.write(b"into a pipe").unwrap(), 11);
            assert_eq!(file.write_vectored(&[IoSlice::new(b"and "), IoSlice::new(b"more")]).unwrap(), 8);
            assert_eq!(reader.read(&mut [0; 32]).unwrap(), 19);
            let _ = file.into_raw_fd();
            let mut file = replace(number, tempfile::tempfile().unwrap().into());
            assert_eq!(file.write_vectored(&[IoSlice::new(b"into "), IoSlice::new(b"a file")]).unwrap(), 11);
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "into a file");
        }
    });
}
