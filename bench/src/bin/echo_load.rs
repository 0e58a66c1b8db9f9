//! Drives an echo server: so many connections, each with one message under way, from one thread around epoll.
//!
//! It is a contestant in nothing: the same program drives every server, so that what differs is the server.
//!
//! ```text
//! echo_load drive address=127.0.0.1:40123 connections=100 millis=1000     requests per second, waits
//! echo_load count address=127.0.0.1:40123 connections=100 requests=5000   so many requests, then ends
//! echo_load hold address=127.0.0.1:40123 connections=10000                one message each, then nothing
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use bench_kit::{Arguments, fail, report, serve_until_told, unknown};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use moon_bench::latency::Latencies;
use socket2::{Domain, Socket, Type};

fn main() {
    let arguments = Arguments::from_env();
    let address: SocketAddr = match arguments.text("address").map(str::parse) {
        Some(Ok(address)) => address,
        _ => fail("address= needs the server's address"),
    };
    let done = match arguments.question() {
        "drive" => drive(address, &arguments),
        "count" => count(address, &arguments),
        "hold" => hold(address, &arguments),
        _ => unknown(&arguments),
    };
    if let Err(error) = done {
        fail(&format!("{}: {error}", arguments.question()));
    }
}

/// All connections ask as fast as they are answered, for some time after a warm-up.
fn drive(address: SocketAddr, arguments: &Arguments) -> io::Result<()> {
    let mut load = Load::connect(address, arguments)?;
    let length = Duration::from_millis(arguments.number("millis", 1000));
    load.run(Limit::Time(length / 5))?;
    load.latencies = Latencies::new();
    let start = Instant::now();
    let requests = load.run(Limit::Time(length))?;
    let took = start.elapsed();
    let summary = load.latencies.summary();
    report("requests", requests as f64, "");
    report("rate", requests as f64 / took.as_secs_f64(), "/s");
    report("p50", summary.p50_us, "us");
    report("p99", summary.p99_us, "us");
    report("p999", summary.p999_us, "us");
    report("max", summary.max_us, "us");
    Ok(())
}

/// All connections together ask this often.
fn count(address: SocketAddr, arguments: &Arguments) -> io::Result<()> {
    let mut load = Load::connect(address, arguments)?;
    let requests = load.run(Limit::Requests(arguments.number("requests", 1000)))?;
    report("requests", requests as f64, "");
    Ok(())
}

/// Connections that have said one thing each and are silent from then on, until told to end.
fn hold(address: SocketAddr, arguments: &Arguments) -> io::Result<()> {
    let mut load = Load::connect(address, arguments)?;
    let all = load.connections.len() as u64;
    load.run(Limit::Requests(all))?;
    serve_until_told(address);
    Ok(())
}

#[derive(Clone, Copy)]
enum Limit {
    Time(Duration),
    Requests(u64),
}

struct Connection {
    stream: TcpStream,
    /// When the message under way was sent.
    sent: Instant,
    /// Bytes of it that are back.
    back: usize,
}

struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    message: Vec<u8>,
    latencies: Latencies,
}

impl Load {
    fn connect(address: SocketAddr, arguments: &Arguments) -> io::Result<Self> {
        /// Fewer than wait for `accept` in any server's queue: what finds it full tries again only after a second.
        const AHEAD: u64 = 64;
        let poll = Poll::new()?;
        let message: Vec<u8> = (0..arguments.number("bytes", 64)).map(|at| at as u8).collect();
        let mut connections = Vec::new();
        for number in 0..arguments.number("connections", 1) {
            let mut stream = connect(address, number, arguments.number("group", 0))?;
            if number % AHEAD == AHEAD - 1 {
                // A server that answers this one has accepted those before it.
                stream.write_all(&message)?;
                stream.read_exact(&mut vec![0; message.len()])?;
            }
            stream.set_nonblocking(true)?;
            let token = Token(connections.len());
            poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), token, Interest::READABLE)?;
            connections.push(Connection { stream, sent: Instant::now(), back: 0 });
        }
        Ok(Load { poll, connections, message, latencies: Latencies::new() })
    }

    /// Sends on every connection, and again on each whose answer is there, until the limit; then waits for the answers
    /// that are still to come. Gives the number of answers before the limit.
    fn run(&mut self, limit: Limit) -> io::Result<u64> {
        let Load { poll, connections, message, latencies } = self;
        let mut events = Events::with_capacity(1024);
        let mut back = vec![0; message.len()];
        let start = Instant::now();
        let (mut sent, mut received, mut counted) = (0_u64, 0_u64, 0_u64);
        let may_send = |sent: u64, now: Instant| match limit {
            Limit::Time(length) => now - start < length,
            Limit::Requests(requests) => sent < requests,
        };
        for connection in connections.iter_mut() {
            if may_send(sent, start) {
                connection.send(message)?;
                sent += 1;
            }
        }
        while received < sent {
            poll.poll(&mut events, Some(Duration::from_secs(20)))?;
            if events.is_empty() {
                return Err(io::Error::new(ErrorKind::TimedOut, "no answer in 20 s"));
            }
            for event in &events {
                let connection = &mut connections[event.token().0];
                if !connection.receive(&mut back)? {
                    continue;
                }
                if back != *message {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the echo is not what was sent"));
                }
                let now = Instant::now();
                latencies.record(now - connection.sent);
                received += 1;
                if may_send(sent, now) {
                    counted += 1;
                    connection.sent = now;
                    connection.write(message)?;
                    sent += 1;
                }
            }
        }
        Ok(if matches!(limit, Limit::Requests(_)) { received } else { counted })
    }
}

impl Connection {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.sent = Instant::now();
        self.write(message)
    }

    /// One message is far smaller than the send buffer, and there is never a second one in it.
    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        self.back = 0;
        self.stream.write_all(message)
    }

    /// Whether the answer is complete. Events come on edges: what has been seen is read until the answer is complete (no
    /// more than that is under way) or nothing is left.
    fn receive(&mut self, back: &mut [u8]) -> io::Result<bool> {
        while self.back < back.len() {
            match self.stream.read(&mut back[self.back..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.back += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// A connection from one of several loopback addresses, because one has ports for 28,000 only. Programs that hold many at once
/// are told apart by their `group`, so that no two of them look for ports at the same address.
fn connect(address: SocketAddr, number: u64, group: u64) -> io::Result<TcpStream> {
    const PER_SOURCE: u64 = 10_000;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if group > 0 || number >= PER_SOURCE {
        let source = Ipv4Addr::new(127, 0, 1 + group as u8, 1 + (number / PER_SOURCE) as u8);
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    }
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}
