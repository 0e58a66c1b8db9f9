//! `select!` over descriptors and channels at once, in fibers and in plain threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::thread;
use std::time::Duration;

use common::{in_millis, on_fibers};
use fiber_runtime::net::{TcpListener, TcpStream, UnixStream};
use fiber_runtime::sync::channel::bounded;
use fiber_runtime::{Elapsed, select, sim, spawn, spawn_local, time, with_timeout, yield_now};

/// What woke a select that waits for a socket, a channel and a long time.
fn wait_for_either(kind: usize) -> &'static str {
    let (mine, mut theirs) = StdStream::pair().unwrap();
    let (sender, receiver) = bounded::<()>(1);
    let acts = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        match kind {
            0 => theirs.write_all(b"x").unwrap(),
            1 => sender.send(()).unwrap(),
            _ => {}
        }
        (theirs, sender)
    });
    let deadline = in_millis(if kind == 2 { 20 } else { 20_000 });
    let woken = select! {
        ready = readable(mine) => {
            ready.unwrap();
            "socket"
        }
        _ = recv(receiver) => "channel",
        at(deadline) => "time",
    };
    drop(acts.join().unwrap());
    woken
}

#[test]
fn a_fiber_waits_for_a_socket_and_a_channel_at_once() {
    on_fibers(1, || assert_eq!([0, 1, 2].map(wait_for_either), ["socket", "channel", "time"]));
}

#[test]
fn a_plain_thread_waits_for_a_socket_and_a_channel_at_once() {
    assert_eq!([0, 1, 2].map(wait_for_either), ["socket", "channel", "time"]);
}

#[test]
fn a_connection_serves_requests_and_stop_signals() {
    on_fibers(2, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = bounded::<()>(1);
        let (replies, outgoing) = bounded::<u8>(4);
        let server = spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut served = 0;
            loop {
                select! {
                    ready = readable(socket) => {
                        ready.unwrap();
                        let mut byte = [0];
                        if socket.read(&mut byte).unwrap() == 1 {
                            served += 1;
                            replies.send(byte[0] + 1).unwrap();
                        }
                    }
                    reply = recv(outgoing) => socket.write_all(&[reply.unwrap()]).unwrap(),
                    _ = recv(stopped) => break served,
                }
            }
        });
        let mut client = TcpStream::connect(address).unwrap();
        for value in 0..200 {
            client.write_all(&[value]).unwrap();
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], value + 1);
        }
        stop.send(()).unwrap();
        assert_eq!(server.join().unwrap(), 200);
    });
}

#[test]
fn an_edge_that_a_select_did_not_use_does_not_get_lost() {
    on_fibers(1, || {
        let (mut mine, theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = bounded(1);
        let writes = spawn(move || {
            let mut theirs = theirs;
            // Both at once, so that the select is told of the socket and may take the channel.
            sender.send(()).unwrap();
            theirs.write_all(b"x").unwrap();
            theirs
        });
        select! {
            biased;
            _ = recv(receiver) => {}
            _ = readable(mine) => {}
        }
        let theirs = writes.join().unwrap();
        mine.set_read_deadline(Some(in_millis(20_000)));
        let mut byte = [0];
        mine.read_exact(&mut byte).unwrap();
        // The registration of the socket outlives the select: no edge is missed later either.
        for _ in 0..3 {
            let mut theirs = theirs.try_clone().unwrap();
            let writes = spawn(move || {
                yield_now();
                theirs.write_all(b"y").unwrap();
            });
            select! {
                ready = readable(mine) => ready.unwrap(),
                after(Duration::from_secs(20)) => panic!("the edge was missed"),
            }
            writes.join().unwrap();
            mine.read_exact(&mut byte).unwrap();
        }
    });
}

#[test]
fn room_to_write_and_the_end_of_a_stream_are_ready() {
    on_fibers(1, || {
        let (mut mine, mut theirs) = UnixStream::pair().unwrap();
        select! {
            ready = writable(mine) => ready.unwrap(),
            after(Duration::from_secs(20)) => panic!("an empty buffer has room"),
        }
        // Fill it, and wait for room.
        mine.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        while mine.write(&[0; 4096]).is_ok() {}
        let reads = spawn(move || {
            time::sleep(Duration::from_millis(2));
            let mut buffer = vec![0; 1 << 20];
            let _ = theirs.read(&mut buffer).unwrap();
            theirs
        });
        select! {
            ready = writable(mine) => ready.unwrap(),
            after(Duration::from_secs(20)) => panic!("room was made"),
        }
        drop(reads.join().unwrap());
        select! {
            ready = readable(mine) => ready.unwrap(),
            after(Duration::from_secs(20)) => panic!("the end of the stream is readable"),
        }
    });
}

#[test]
fn a_deadline_around_a_select_ends_it_in_fibers_and_threads() {
    fn wait_in_vain() {
        let (mine, _theirs) = StdStream::pair().unwrap();
        let (sender, receiver) = bounded::<()>(1);
        let ended = with_timeout(Duration::from_millis(2), || {
            select! {
                _ = readable(mine) => {}
                _ = recv(receiver) => {}
            }
        });
        assert_eq!(ended, Err(Elapsed));
        sender.send(()).unwrap();
        assert_eq!(receiver.try_recv(), Ok(()), "nobody is left in line");
    }
    wait_in_vain();
    on_fibers(1, wait_in_vain);
}

#[test]
fn a_cancelled_select_lets_go_of_its_descriptor() {
    on_fibers(1, || {
        let (mine, mut theirs) = UnixStream::pair().unwrap();
        let mut second = mine.try_clone().unwrap();
        let doomed = spawn_local(move || select! { _ = readable(mine) => {} });
        yield_now();
        doomed.cancel();
        assert!(doomed.join().is_err());
        theirs.write_all(b"x").unwrap();
        second.set_read_deadline(Some(in_millis(20_000)));
        second.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn a_simulation_refuses_to_wait_for_descriptors() {
    let (mine, _theirs) = StdStream::pair().unwrap();
    let refused = sim::Sim::new(1).run(move || {
        select! {
            ready = readable(mine) => ready.map_err(|error| error.kind()),
            after(Duration::from_secs(1)) => Ok(()),
        }
    });
    assert_eq!(refused, Err(ErrorKind::Unsupported));
}
