//! Pipes between fibers, threads and processes, with and without a name.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::time::Duration;

use common::{in_millis, on_fibers};
use fiber_runtime::pipe::{self, Receiver, Sender};
use fiber_runtime::{spawn, yield_now};

#[test]
fn more_than_a_pipe_holds_goes_through_between_workers() {
    on_fibers(2, || {
        let (mut sender, mut receiver) = pipe::pipe().unwrap();
        let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let sent = data.clone();
        let writer = spawn(move || sender.write_all(&sent).unwrap());
        let mut received = Vec::new();
        receiver.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert!(received == data);
    });
}

#[test]
fn plain_threads_use_both_ends() {
    let (mut sender, mut receiver) = pipe::pipe().unwrap();
    let writer = std::thread::spawn(move || (0..100).for_each(|_| sender.write_all(&[7; 5000]).unwrap()));
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert_eq!(received.len(), 500_000);
}

#[test]
fn vectored_calls_keep_the_order() {
    on_fibers(1, || {
        let (mut sender, mut receiver) = pipe::pipe().unwrap();
        let sent = sender.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")]);
        assert_eq!(sent.unwrap(), 5);
        let (mut one, mut two) = ([0; 3], [0; 8]);
        let received = receiver.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)]);
        assert_eq!(received.unwrap(), 5);
        assert_eq!((&one, &two[..2]), (b"abc", &b"de"[..]));
    });
}

#[test]
fn both_ends_have_deadlines() {
    fn check() {
        let (sender, receiver) = pipe::pipe().unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        assert_eq!((&receiver).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        sender.set_write_deadline(Some(in_millis(20)));
        let full = (0..1000).map(|_| (&sender).write_all(&[0; 4096])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::TimedOut);
    }
    check();
    on_fibers(1, check);
}

#[test]
fn writing_without_a_reader_is_an_error() {
    on_fibers(1, || {
        let (mut sender, receiver) = pipe::pipe().unwrap();
        drop(receiver);
        assert_eq!(sender.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_writer_that_waits_for_room_hears_of_the_readers_end() {
    on_fibers(1, || {
        let (mut sender, receiver) = pipe::pipe().unwrap();
        let writer = spawn(move || sender.write_all(&vec![0; 1 << 20]));
        yield_now();
        yield_now();
        drop(receiver);
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_named_pipe_waits_for_its_other_side_whoever_comes_first() {
    on_fibers(1, || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        pipe::make_fifo(&path, 0o600).unwrap();
        assert_eq!(pipe::make_fifo(&path, 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        // Nobody reads: the writer waits.
        let early = Sender::open_until(&path, Some(in_millis(5)));
        assert_eq!(early.map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
        let late = path.clone();
        let writer = spawn(move || Sender::open(&late).unwrap().write_all(b"first").unwrap());
        yield_now();
        // Nobody writes yet: the reader does not take that for the end.
        let mut text = String::new();
        Receiver::open(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "first");
        writer.join().unwrap();

        let mut receiver = Receiver::open(&path).unwrap();
        let reader = spawn(move || {
            let mut text = String::new();
            receiver.read_to_string(&mut text).unwrap();
            text
        });
        yield_now();
        assert!(!reader.is_finished());
        Sender::open(&path).unwrap().write_all(b"second").unwrap();
        assert_eq!(reader.join().unwrap(), "second");
    });
}

#[test]
fn a_file_is_not_taken_for_a_pipe() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(Receiver::open(file.path()).map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(Receiver::open("/nonexistent").map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_end_for_others_blocks_again() {
    let (sender, receiver) = pipe::pipe().unwrap();
    let mut blocking = std::fs::File::from(receiver.into_blocking_fd().unwrap());
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        (&sender).write_all(b"x").unwrap();
    });
    assert_eq!(blocking.read(&mut [0; 4]).unwrap(), 1, "a non-blocking end would say WouldBlock");
    writer.join().unwrap();
    let fiber = on_fibers(1, move || Receiver::from_fd(blocking).unwrap().read(&mut [0; 4]).unwrap());
    assert_eq!(fiber, 0);
}
