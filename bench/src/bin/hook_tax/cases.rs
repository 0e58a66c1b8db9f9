//! The operations, and the ways to do them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use fiber_runtime::{Runtime, net, pipe};

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A byte that is there is looked at: one `recv`.
    Peek,
    /// A byte is written to a pipe and read from it: a `write` and a `read`, both ready.
    Pipe,
    /// A byte goes to another fiber or thread and comes back: two sends, two receives that have to wait.
    RoundTrip,
    /// The same among a hundred pairs at once.
    RoundTrips,
}

/// How.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The system call, past libc, on a thread.
    Bare,
    /// `std` on plain threads: the hooks' way out.
    Threads,
    /// `std` in fibers: the hooks at work.
    Hooks,
    /// The runtime's types in fibers.
    Native,
}

const PAIRS: u64 = 100;

impl Operation {
    pub(crate) const ALL: [Operation; 4] =
        [Operation::Peek, Operation::Pipe, Operation::RoundTrip, Operation::RoundTrips];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Peek => "peek at a byte that is there (TCP)",
            Operation::Pipe => "write and read of a pipe",
            Operation::RoundTrip => "round trip, 1 pair (Unix sockets)",
            Operation::RoundTrips => "round trip, 100 pairs (Unix sockets)",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// Whether it can be done that way.
    pub(crate) fn is_done(self, way: Way) -> bool {
        matches!(self, Operation::Peek | Operation::Pipe) || way != Way::Bare
    }

    /// Waiting takes longer, so that fewer say as much.
    pub(crate) fn share(self, operations: u64) -> u64 {
        match self {
            Operation::Peek | Operation::Pipe => operations,
            Operation::RoundTrip | Operation::RoundTrips => (operations / 4).max(PAIRS),
        }
    }
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Bare, Way::Threads, Way::Hooks, Way::Native];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Bare => "bare system call",
            Way::Threads => "std, threads",
            Way::Hooks => "std, fibers",
            Way::Native => "native, fibers",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Way> {
        Way::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// Does `count` operations and gives the time they took.
pub(crate) fn run(operation: Operation, way: Way, count: u64) -> io::Result<Duration> {
    let runtime = Runtime::builder().workers(1).name("tax").build()?;
    match way {
        Way::Bare | Way::Threads => perform(operation, way, count),
        Way::Hooks | Way::Native => runtime.block_on(move || perform(operation, way, count)),
    }
}

fn perform(operation: Operation, way: Way, count: u64) -> io::Result<Duration> {
    match operation {
        Operation::Peek => peek(way, count),
        Operation::Pipe => through_a_pipe(way, count),
        Operation::RoundTrip => round_trips(way, 1, count),
        Operation::RoundTrips => round_trips(way, PAIRS, count / PAIRS),
    }
}

/// A tenth of the operations first, unmeasured.
fn timed(count: u64, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    for _ in 0..count / 10 {
        operation()?;
    }
    let start = Instant::now();
    for _ in 0..count {
        operation()?;
    }
    Ok(start.elapsed())
}

fn peek(way: Way, count: u64) -> io::Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.write_all(b"x")?;
    let mut byte = [0];
    server.peek(&mut byte)?;
    match way {
        Way::Bare => timed(count, || {
            rustix::net::recv(&server, &mut byte, rustix::net::RecvFlags::PEEK)?;
            Ok(())
        }),
        Way::Threads | Way::Hooks => timed(count, || server.peek(&mut byte).map(drop)),
        Way::Native => {
            let server = net::TcpStream::from_std(server);
            timed(count, || server.peek(&mut byte).map(drop))
        }
    }
}

fn through_a_pipe(way: Way, count: u64) -> io::Result<Duration> {
    let mut byte = [0];
    match way {
        Way::Bare => {
            let (reader, writer) = io::pipe()?;
            timed(count, || {
                rustix::io::write(&writer, b"x")?;
                rustix::io::read(&reader, &mut byte)?;
                Ok(())
            })
        }
        Way::Threads | Way::Hooks => {
            let (mut reader, mut writer) = io::pipe()?;
            timed(count, || {
                writer.write_all(b"x")?;
                reader.read_exact(&mut byte)
            })
        }
        Way::Native => {
            let (mut writer, mut reader) = pipe::pipe()?;
            timed(count, || {
                writer.write_all(b"x")?;
                reader.read_exact(&mut byte)
            })
        }
    }
}

/// `pairs` conversations of `rounds` each, all at once; the time is until the last one ends.
fn round_trips(way: Way, pairs: u64, rounds: u64) -> io::Result<Duration> {
    fn ask(mut stream: impl Read + Write, rounds: u64) -> io::Result<()> {
        let mut byte = [0];
        for _ in 0..rounds {
            stream.write_all(b"?")?;
            stream.read_exact(&mut byte)?;
        }
        Ok(())
    }

    fn answer(mut stream: impl Read + Write) -> io::Result<()> {
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(b"!")?;
        }
        Ok(())
    }

    let mut sockets = Vec::new();
    for _ in 0..pairs {
        sockets.push(UnixStream::pair()?);
    }
    let start = Instant::now();
    if way == Way::Threads {
        let threads: Vec<_> = sockets
            .into_iter()
            .flat_map(|(mine, its)| {
                [thread::spawn(move || ask(mine, rounds)), thread::spawn(move || answer(its))]
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))?;
    } else {
        let native = way == Way::Native;
        let fibers: Vec<_> = sockets
            .into_iter()
            .flat_map(|(mine, its)| {
                [
                    fiber_runtime::spawn(move || match native {
                        true => ask(net::UnixStream::from_std(mine), rounds),
                        false => ask(mine, rounds),
                    }),
                    fiber_runtime::spawn(move || match native {
                        true => answer(net::UnixStream::from_std(its)),
                        false => answer(its),
                    }),
                ]
            })
            .collect();
        fibers.into_iter().try_for_each(|fiber| fiber.join().unwrap_or_else(|failed| failed.resume()))?;
    }
    Ok(start.elapsed())
}
