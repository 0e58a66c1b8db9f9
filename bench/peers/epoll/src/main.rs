//! A loop around epoll, written by hand: the bar for runtimes that serve connections.
//!
//! One thread, level-triggered; a readable connection costs one `recv` and one `send`, and one `epoll_wait` serves all that
//! are ready. There are no fibers, timers or fairness to pay for. The calls are rustix's, which are the bare system calls.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use bench_kit::{Arguments, fail, serve_until_told, unknown};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// What one read takes; as much in every contestant's server.
const BUFFER: usize = 1024;

fn main() {
    let arguments = Arguments::from_env();
    if arguments.question() != "echo" || arguments.number("hog_ms", 0) > 0 {
        unknown(&arguments);
    }
    let listener =
        TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| fail(&format!("cannot listen: {error}")));
    let address = listener.local_addr().unwrap_or_else(|error| fail(&format!("cannot listen: {error}")));
    thread::spawn(move || {
        let Err(error) = serve(&listener);
        fail(&format!("the server ended: {error}"));
    });
    serve_until_told(address);
}

fn serve(listener: &TcpListener) -> io::Result<std::convert::Infallible> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let key = |fd: i32| EventData::new_u64(fd as u64);
    epoll::add(&epoll, listener, key(listener.as_raw_fd()), EventFlags::IN)?;
    // By descriptor.
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    let mut buffer = [0; BUFFER];
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let at = event.data.u64() as usize;
            if at == listener.as_raw_fd() as usize {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let at = stream.as_raw_fd();
                    epoll::add(&epoll, &stream, key(at), EventFlags::IN)?;
                    if connections.len() <= at as usize {
                        connections.resize_with(at as usize + 1, || None);
                    }
                    connections[at as usize] = Some(stream);
                }
                continue;
            }
            let Some(stream) = &mut connections[at] else { continue };
            let echoed = match stream.read(&mut buffer) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                // A message is far smaller than the send buffer; one that does not fit ends its connection.
                Ok(count) => stream.write_all(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error),
            };
            if echoed.is_err() {
                connections[at] = None; // closing it takes it out of epoll
            }
        }
    }
}
