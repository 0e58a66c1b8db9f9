//! A TCP proxy that misbehaves on demand: it delays, cuts, and goes silent while the connections stay open.
//!
//! ```text
//!   client ----> [proxy] ----> server       one pair of threads per connection, one for each direction
//! ```
//!
//! TCP loses no bytes in the middle of a stream, so neither does the proxy: "drop" means that a connection dies, and
//! a partition means that nothing passes and nothing is refused, as when a cable is pulled.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How often a waiting direction looks whether the proxy has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

/// What the proxy does to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Held back this long.
    pub delay: Duration,
    /// Held back until the fault is taken away: one direction of it is a half-open connection, both a partition.
    pub silent: bool,
}

struct Shared {
    target: SocketAddr,
    faults: Mutex<[Fault; 2]>,
    changed: Condvar,
    ended: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    passed: [AtomicU64; 2],
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, [Fault; 2]> {
        self.faults.lock().expect("no thread panics while it holds the faults")
    }

    fn connections(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().expect("no thread panics while it holds the connections")
    }

    /// Returns when bytes of this direction may pass; false when the proxy has ended.
    fn wait_for_passage(&self, direction: Direction) -> bool {
        let mut faults = self.faults();
        while faults[direction as usize].silent && !self.ended.load(Ordering::Relaxed) {
            faults = self
                .changed
                .wait_timeout(faults, LOOK)
                .expect("no thread panics while it holds the faults")
                .0;
        }
        let delay = faults[direction as usize].delay;
        drop(faults);
        thread::sleep(delay);
        !self.ended.load(Ordering::Relaxed)
    }

    /// Copies one direction until either side closes.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, direction: Direction) {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !self.wait_for_passage(direction) || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            self.passed[direction as usize].fetch_add(count as u64, Ordering::Relaxed);
        }
        // The end of the stream is a part of it: a silent link does not deliver that either.
        self.wait_for_passage(direction);
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// A running proxy. Dropping it ends it and all its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).field("target", &self.shared.target).finish()
    }
}

impl Proxy {
    /// Starts a proxy in front of `target`, on a free port.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(target: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            faults: Mutex::default(),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            connections: Mutex::default(),
            passed: [AtomicU64::new(0), AtomicU64::new(0)],
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("proxy".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client whose server cannot be reached sees its connection close.
                let _ = serve(&accepting, client);
            }
        })?;
        Ok(Proxy { address, shared })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens to one direction from now on.
    pub fn set(&self, direction: Direction, fault: Fault) {
        self.shared.faults()[direction as usize] = fault;
        self.shared.changed.notify_all();
    }

    /// Nothing passes either way, connections stay open.
    pub fn partition(&self) {
        for direction in [Direction::Request, Direction::Reply] {
            self.set(direction, Fault { silent: true, ..Fault::default() });
        }
    }

    /// Everything passes at once.
    pub fn heal(&self) {
        for direction in [Direction::Request, Direction::Reply] {
            self.set(direction, Fault::default());
        }
    }

    /// Closes every open connection.
    pub fn drop_connections(&self) {
        for connection in self.shared.connections().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Bytes that went through in one direction.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.passed[direction as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        self.drop_connections();
        let _ = TcpStream::connect(self.address); // Wakes the accepting thread, which then sees the end.
    }
}

fn serve(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&shared.target, Duration::from_secs(5))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        shared.connections().push(stream.try_clone()?);
    }
    let halves =
        [(client.try_clone()?, server.try_clone()?, Direction::Request), (server, client, Direction::Reply)];
    for (from, to, direction) in halves {
        let shared = Arc::clone(shared);
        thread::Builder::new().name("proxy".into()).spawn(move || shared.pump(from, to, direction))?;
    }
    Ok(())
}
