//! How often a receive asks the kernel, and that what it does not ask for is not lost.

use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use socket2::{MsgHdr, SockRef};

use super::*;
use crate::reactor::Interest;
use crate::{Runtime, spawn_local, yield_now};

fn in_fiber<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    Runtime::builder().workers(1).build().unwrap().block_on(body)
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().unwrap().0)
}

/// How often the kernel was asked, and how many calls had to wait.
#[derive(Default)]
struct Count {
    attempts: Cell<u32>,
    waits: Cell<u32>,
}

impl Count {
    fn take(&self) -> (u32, u32) {
        (self.attempts.take(), self.waits.take())
    }
}

/// Receives and counts. A receive that nothing wakes goes on when its time is up: that it waited tells.
fn receive(fd: RawFd, buffer: &mut [u8], count: &Count) -> Result<usize, Stop> {
    let (start, length) = (buffer.as_mut_ptr(), buffer.len());
    let patience = || {
        count.waits.set(count.waits.get() + 1);
        Ok(Some(time::now() + Duration::from_secs(5)))
    };
    super::receive(
        fd,
        0,
        || length,
        patience,
        |waiting| {
            count.attempts.set(count.attempts.get() + 1);
            // SAFETY: the buffer is borrowed through the call; no address is asked for.
            unsafe { sys::recvfrom_raw(fd, start.cast(), length, waiting, ptr::null_mut(), ptr::null_mut()) }
        },
    )
}

/// Waits until the worker has taken what events there are, with `fd` registered for reading before.
fn let_events_arrive(fd: RawFd) {
    let _ = wait(fd, Interest::Read, Some(time::now() + Duration::from_millis(1)));
    time::sleep(Duration::from_millis(5));
}

#[test]
fn a_message_costs_one_receive() {
    in_fiber(|| {
        let (mut client, server) = pair();
        let count = Rc::new(Count::default());
        let counted = count.clone();
        let reader = spawn_local(move || {
            let mut buffer = [0; 64];
            let mut received = 0;
            loop {
                match receive(server.as_raw_fd(), &mut buffer, &counted).unwrap() {
                    0 => return received,
                    count => received += count,
                }
            }
        });
        for _ in 0..100 {
            yield_now();
            client.write_all(b"hello").unwrap();
            let before = count.attempts.get();
            while count.attempts.get() == before {
                yield_now();
            }
        }
        yield_now();
        drop(client);
        assert_eq!(reader.join().unwrap(), 500);
        // One in vain, which registers the descriptor; one a message; one for the end of the stream.
        assert_eq!(count.take().0, 102);
    });
}

#[test]
fn a_full_buffer_may_have_left_something() {
    in_fiber(|| {
        let (mut client, server) = pair();
        let fd = server.as_raw_fd();
        let count = Count::default();
        client.write_all(b"abcdefg").unwrap();
        let_events_arrive(fd);
        let mut buffer = [0; 4];
        assert_eq!(receive(fd, &mut buffer, &count), Ok(4));
        assert_eq!(receive(fd, &mut buffer, &count), Ok(3));
        assert_eq!(count.take(), (2, 0));
    });
}

#[test]
fn the_end_that_came_with_the_last_bytes_is_seen() {
    in_fiber(|| {
        for abort in [false, true] {
            let (mut client, server) = pair();
            let fd = server.as_raw_fd();
            let count = Count::default();
            let_events_arrive(fd);
            client.write_all(b"last words").unwrap();
            if abort {
                // Closing with a reset, once the bytes are there.
                while !is_ready(fd, libc::POLLIN).unwrap() {}
                SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            // One event for bytes and end together, taken before the receive.
            let_events_arrive(fd);
            let mut buffer = [0; 64];
            match receive(fd, &mut buffer, &count) {
                Ok(received) => assert_eq!(received, 10),
                // The reset may throw the bytes away.
                Err(stop) => assert_eq!((abort, stop), (true, Stop::Errno(libc::ECONNRESET))),
            }
            let end = receive(fd, &mut buffer, &count);
            assert!(matches!(end, Ok(0) | Err(Stop::Errno(libc::ECONNRESET))), "{end:?}");
            assert_eq!(count.take(), (2, 0));
        }
    });
}

// Descriptors of std's are closed here, of which the runtime hears through the hook of `close`.
#[cfg(feature = "hook")]
#[test]
fn the_end_that_comes_after_a_short_receive_wakes() {
    in_fiber(|| {
        for own in [false, true] {
            let (mut client, server) = pair();
            let (fd, second) = (server.as_raw_fd(), server.try_clone().unwrap());
            let count = Count::default();
            let_events_arrive(fd);
            client.write_all(b"x").unwrap();
            let mut buffer = [0; 64];
            assert_eq!(receive(fd, &mut buffer, &count), Ok(1));
            count.take();
            let ender = spawn_local(move || {
                if own {
                    second.shutdown(std::net::Shutdown::Read).unwrap();
                } else {
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                }
                client
            });
            assert_eq!(receive(fd, &mut buffer, &count), Ok(0));
            assert_eq!(count.take(), (1, 1));
            drop(ender.join());
        }
    });
}

#[test]
fn what_follows_urgent_data_is_received() {
    in_fiber(|| {
        let (mut client, mut server) = pair();
        let fd = server.as_raw_fd();
        let count = Count::default();
        let_events_arrive(fd);
        client.write_all(b"ab").unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        client.write_all(b"cd").unwrap();
        let_events_arrive(fd);
        let mut buffer = [0; 64];
        // The kernel stops at the mark, although there is more.
        assert_eq!(receive(fd, &mut buffer, &count), Ok(2));
        assert_eq!(receive(fd, &mut buffer, &count), Ok(2));
        assert_eq!(&buffer[..2], b"cd");
        assert_eq!(count.take(), (2, 0));
        client.write_all(b"ef").unwrap();
        assert_eq!(server.read(&mut buffer).unwrap(), 2);
    });
}

#[test]
fn what_another_fiber_left_is_received() {
    in_fiber(|| {
        let (mut client, server) = pair();
        let fd = server.as_raw_fd();
        let count = Count::default();
        let_events_arrive(fd);
        client.write_all(b"x").unwrap();
        assert_eq!(receive(fd, &mut [0; 64], &count), Ok(1));
        // Drained. Another fiber waits, is woken, and leaves most of it.
        let other = spawn_local(move || receive(fd, &mut [0; 2], &Count::default()));
        yield_now();
        client.write_all(b"abcdef").unwrap();
        assert_eq!(other.join().unwrap(), Ok(2));
        count.take();
        assert_eq!(receive(fd, &mut [0; 64], &count), Ok(4));
        assert_eq!(count.take(), (1, 0));
    });
}

#[test]
fn bytes_whose_event_is_on_its_way_are_received_after_the_deadline() {
    in_fiber(|| {
        let (mut client, server) = pair();
        let server = crate::net::TcpStream::from_std(server);
        let_events_arrive(server.as_raw_fd());
        client.write_all(b"x").unwrap();
        assert_eq!((&server).read(&mut [0; 64]).unwrap(), 1);
        server.set_read_deadline(Some(time::now()));
        client.write_all(b"y").unwrap();
        while !is_ready(server.as_raw_fd(), libc::POLLIN).unwrap() {}
        assert_eq!((&server).read(&mut [0; 64]).unwrap(), 1);
    });
}

#[test]
fn a_unix_stream_that_stops_at_attached_descriptors_is_asked_again() {
    in_fiber(|| {
        let (client, server) = UnixStream::pair().unwrap();
        let fd = server.as_raw_fd();
        let count = Count::default();
        let_events_arrive(fd);
        // SCM_RIGHTS with one descriptor: header (length, level, type), descriptor, padding.
        let mut control = Vec::new();
        control.extend_from_slice(&20_usize.to_le_bytes());
        control.extend_from_slice(&libc::SOL_SOCKET.to_le_bytes());
        control.extend_from_slice(&libc::SCM_RIGHTS.to_le_bytes());
        control.extend_from_slice(&client.as_raw_fd().to_le_bytes());
        control.extend_from_slice(&[0; 4]);
        let bytes = [IoSlice::new(b"ab")];
        let message = MsgHdr::new().with_buffers(&bytes).with_control(&control);
        SockRef::from(&client).sendmsg(&message, 0).unwrap();
        (&client).write_all(b"cd").unwrap();
        let_events_arrive(fd);
        assert_eq!(receive(fd, &mut [0; 64], &count), Ok(2));
        assert_eq!(receive(fd, &mut [0; 64], &count), Ok(2));
        assert_eq!(count.take(), (2, 0));
    });
}

#[cfg(feature = "hook")]
#[test]
fn a_descriptor_replaced_by_dup2_is_not_taken_for_its_predecessor() {
    in_fiber(|| {
        let (mut client, server) = pair();
        let (mut other, replacement) = pair();
        let fd = server.as_raw_fd();
        let_events_arrive(fd);
        client.write_all(b"x").unwrap();
        assert_eq!(receive(fd, &mut [0; 64], &Count::default()), Ok(1));
        // SAFETY: `server` owns the descriptor and goes on owning it; its file becomes the other socket.
        assert_eq!(unsafe { libc::dup2(replacement.as_raw_fd(), fd) }, fd);
        other.write_all(b"yz").unwrap();
        let count = Count::default();
        assert_eq!(receive(fd, &mut [0; 64], &count), Ok(2));
        assert_eq!(count.take(), (1, 0));
    });
}
