//! A non-blocking connect and its events, as with the original's IoManager, to a listener of this program's own.
//!
//! ```text
//! EINPROGRESS                    the connect has begun
//! add event success,fd = N       (read, then write)
//! write callback                 the connect has ended
//! connect success
//! read callback                  bytes, then the end of the stream
//! peer closed
//! ```

mod common;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Flag, numbers};
use fiber_runtime::io_manager::{Event, IoHandle};
use fiber_runtime::net::TcpListener;
use fiber_runtime::{IoManager, time};
use socket2::{Domain, Socket, Type};

fn main() -> ExitCode {
    let [threads, delay_ms, patience] = numbers(
        "A non-blocking connect and its read and write events, to a listener of this program's own.",
        [
            Flag { name: "--threads", default: 2, help: "worker threads" },
            Flag {
                name: "--delay-ms",
                default: 200,
                help: "how long the peer waits before it sends and closes",
            },
            Flag { name: "--seconds", default: 10, help: "when to give up" },
        ],
    );
    match run(threads as usize, Duration::from_millis(delay_ms), Duration::from_secs(patience)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(threads: usize, delay: Duration, patience: Duration) -> io::Result<()> {
    let manager = IoManager::new(threads.max(1), false, "test_iomanager")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    manager.schedule(move || {
        let served = listener.accept().and_then(|(mut peer, _)| {
            time::sleep(delay);
            peer.write_all(b"hello from the peer\n")
        });
        if let Err(error) = served {
            eprintln!("error: the peer: {error}");
        }
    });

    let done = Arc::new(AtomicBool::new(false));
    let client = Client { manager: manager.handle(), done: Arc::clone(&done) };
    manager.schedule(move || {
        if let Err(error) = client.connect(address) {
            eprintln!("error: the client: {error}");
        }
    });
    let report = manager.stop(patience);
    match done.load(Ordering::Acquire) && report.is_clean() {
        true => Ok(()),
        false => Err(io::Error::other(format!("the conversation did not end: {report}"))),
    }
}

struct Client {
    manager: IoHandle,
    done: Arc<AtomicBool>,
}

impl Client {
    fn connect(self, address: SocketAddr) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        match socket.connect(&address.into()) {
            Ok(()) => println!("connected at once"),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => println!("EINPROGRESS"),
            Err(error) => return Err(error),
        }
        let (socket, manager) = (Arc::new(socket), self.manager.clone());
        let fd = socket.as_raw_fd();

        let reading = Arc::clone(&socket);
        manager.add_event(fd, Event::Read, move || self.read(reading))?;
        println!("add event success,fd = {fd}");
        manager.add_event(fd, Event::Write, move || {
            println!("write callback");
            match socket.take_error() {
                Ok(None) => println!("connect success"),
                Ok(Some(error)) | Err(error) => eprintln!("error: the connect: {error}"),
            }
        })?;
        println!("add event success,fd = {fd}");
        Ok(())
    }

    /// The event is for once; as long as there is more to come, it is added again.
    fn read(self, socket: Arc<Socket>) {
        println!("read callback");
        let mut buffer = [0; 1024];
        match (&*socket).read(&mut buffer) {
            Ok(0) => {
                println!("peer closed");
                self.done.store(true, Ordering::Release);
            }
            Ok(count) => {
                print!("received: {}", String::from_utf8_lossy(&buffer[..count]));
                let (manager, fd) = (self.manager.clone(), socket.as_raw_fd());
                if let Err(error) = manager.add_event(fd, Event::Read, move || self.read(socket)) {
                    eprintln!("error: adding the event again: {error}");
                }
            }
            Err(error) => eprintln!("error: reading: {error}"),
        }
    }
}
