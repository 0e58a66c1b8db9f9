//! Closed and foreign descriptors, and too few of them: clear errors, no hang, no hot loop, and recovery.
//!
//! The limit on descriptors is the process's, so those tests run again in a child of their own, under a lower one.

// Descriptors of std's are closed here, of which the runtime hears through the hook of `close`.
#![cfg(feature = "hook")]
#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, in_millis, on_fibers, runtime};
use fiber_runtime::fd::{AsyncFd, EventFd, Interest};
use fiber_runtime::net::{self, Acceptor};
use fiber_runtime::{Handle, Runtime, pipe, process, signal, spawn, time};

/// `EBADF`, `EMFILE` and `ENOTSOCK` on Linux.
const BAD: Option<i32> = Some(9);
const TOO_MANY: Option<i32> = Some(24);
const NOT_A_SOCKET: Option<i32> = Some(88);

/// A number that nobody has open.
struct Closed;

impl AsFd for Closed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: nobody's descriptor is used by mistake: the number is beyond every limit of the process.
        unsafe { BorrowedFd::borrow_raw(999_999) }
    }
}

#[test]
fn a_closed_descriptor_is_refused() {
    on_fibers(1, || {
        assert_eq!(AsyncFd::new(Closed).map(drop).unwrap_err().raw_os_error(), BAD);
    });
}

#[test]
fn a_descriptor_closed_by_a_stranger_ends_the_waits_for_it() {
    if run_alone("a_descriptor_closed_by_a_stranger_ends_the_waits_for_it") {
        return;
    }
    on_fibers(1, || {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let number: RawFd = one.into_raw_fd();
        // SAFETY: the descriptor is open and owned by nobody else; it is leaked below, not closed twice.
        let fd = Arc::new(AsyncFd::new(unsafe { OwnedFd::from_raw_fd(number) }).unwrap());
        let waiting = fd.clone();
        let waiter = spawn(move || waiting.ready(Interest::Read, Some(in_millis(30_000))));
        time::sleep(Duration::from_millis(5));
        // SAFETY: what the test is about: somebody closes what is not his. Nothing else runs in this process.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        let error = waiter.join().unwrap().unwrap_err();
        // By the number's new state, or by the close itself.
        assert!(matches!(error.raw_os_error(), BAD | Some(125)), "{error}");
        assert_eq!(fd.readable().unwrap_err().raw_os_error(), BAD);
        drop(Arc::try_unwrap(fd).map(|fd| fd.into_inner().into_raw_fd()));
    });
}

#[test]
fn what_is_not_a_socket_is_an_error_for_sockets() {
    fn check() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let mut stream = net::TcpStream::from(file());
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().raw_os_error(), NOT_A_SOCKET);
        assert_eq!(stream.write(b"x").unwrap_err().raw_os_error(), NOT_A_SOCKET);
        assert_eq!(stream.peer_addr().unwrap_err().raw_os_error(), NOT_A_SOCKET);
        let listener = net::TcpListener::from_std(std::net::TcpListener::from(file())).unwrap();
        assert_eq!(listener.accept().map(drop).unwrap_err().raw_os_error(), NOT_A_SOCKET);
        let acceptor = Acceptor::new(listener);
        if fiber_runtime::in_fiber() {
            assert_eq!(acceptor.serve(drop).unwrap_err().raw_os_error(), NOT_A_SOCKET);
        }
        let socket = net::UdpSocket::from_std(std::net::UdpSocket::from(file()));
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().raw_os_error(), NOT_A_SOCKET);
        // A pipe's ends are of no use to each other.
        let (sender, receiver) = pipe::pipe().unwrap();
        let mut wrong = pipe::Receiver::from_fd(sender.into_blocking_fd().unwrap()).unwrap();
        assert_eq!(wrong.read(&mut [0; 8]).unwrap_err().raw_os_error(), BAD);
        drop(receiver);
    }
    check();
    on_fibers(1, check);
}

#[test]
fn hooked_calls_on_closed_and_foreign_descriptors_fail_as_the_kernel_says() {
    if run_alone("hooked_calls_on_closed_and_foreign_descriptors_fail_as_the_kernel_says") {
        return;
    }
    on_fibers(1, || {
        // A stream of std on a file, and on what has been closed behind its back.
        let mut foreign = TcpStream::from(OwnedFd::from(tempfile::tempfile().unwrap()));
        assert_eq!(foreign.read(&mut [0; 8]).unwrap_err().raw_os_error(), NOT_A_SOCKET);
        let file = tempfile::tempfile().unwrap();
        let number = file.into_raw_fd();
        // SAFETY: owned by nobody else; the second owner is leaked.
        let (mut stale, owner) =
            unsafe { (std::fs::File::from_raw_fd(number), OwnedFd::from_raw_fd(number)) };
        drop(owner);
        assert_eq!(stale.read(&mut [0; 8]).unwrap_err().raw_os_error(), BAD);
        assert_eq!(stale.write(b"x").unwrap_err().raw_os_error(), BAD);
        let _ = stale.into_raw_fd();
    });
}

/// The environment variable that tells a child its part.
const ROLE: &str = "MOON_DESCRIPTOR_ABUSE_ROLE";

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// This program again, as `role` in the test `test`, with at most `descriptors` descriptors.
fn child(test: &str, role: &str, descriptors: u32) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs `test` in a child, where numbers that are closed wrongly are nobody else's. False: this is the child.
fn run_alone(test: &str) -> bool {
    if role().is_some() {
        return false;
    }
    let mut child = child(test, "alone", 64);
    drop(child.stdin.take());
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    true
}

/// A server in a child with few descriptors, and what is said to it.
struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(role: &str) -> (Self, String) {
        let mut child = child("a_server_without_descriptors_waits_and_recovers", role, 64);
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut server = Self { child, input, output: BufReader::new(output) };
        let address = server.line("listening ");
        (server, address)
    }

    /// The rest of the next line that begins so.
    fn line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server ended");
            // The test harness writes its own words before ours.
            if let Some(at) = line.find(start) {
                return line[at + start.len()..].trim().to_owned();
            }
        }
    }

    /// Attempts to accept so far, and how often the other fiber ran.
    fn report(&mut self) -> (u64, u64) {
        self.input.write_all(b"report\n").unwrap();
        let line = self.line("report ");
        let (attempts, ticks) = line.split_once(' ').unwrap();
        (attempts.parse().unwrap(), ticks.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's part: echoes on every connection, and answers questions on standard input.
fn serve(role: &str) {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    static TICKS: AtomicU64 = AtomicU64::new(0);

    fn echo(mut stream: impl Read + Write) {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    }

    let runtime = runtime(1);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening {}", listener.local_addr().unwrap());
    drop(runtime.spawn(|| {
        loop {
            time::sleep(Duration::from_millis(5));
            TICKS.fetch_add(1, Ordering::Relaxed);
        }
    }));
    match role {
        "acceptor" => {
            let listener = net::TcpListener::from_std(listener).unwrap();
            drop(runtime.spawn(move || Acceptor::new(listener).serve(|(stream, _)| echo(stream))));
        }
        // Servers that go on whatever accept says.
        "native" => {
            let listener = net::TcpListener::from_std(listener).unwrap();
            drop(runtime.spawn(move || {
                loop {
                    ATTEMPTS.fetch_add(1, Ordering::Relaxed);
                    if let Ok((stream, _)) = listener.accept() {
                        drop(spawn(move || echo(stream)));
                    }
                }
            }));
        }
        _ => drop(runtime.spawn(move || {
            loop {
                ATTEMPTS.fetch_add(1, Ordering::Relaxed);
                if let Ok((stream, _)) = listener.accept() {
                    drop(spawn(move || echo(stream)));
                }
            }
        })),
    }
    for line in std::io::stdin().lines() {
        if line.is_err() {
            break;
        }
        let attempts = match role {
            // It does not count; each attempt and each pause resumes its fiber.
            "acceptor" => runtime.metrics().workers[0].switches - TICKS.load(Ordering::Relaxed),
            _ => ATTEMPTS.load(Ordering::Relaxed),
        };
        println!("report {attempts} {}", TICKS.load(Ordering::Relaxed));
    }
    std::process::exit(0);
}

#[test]
fn a_server_without_descriptors_waits_and_recovers() {
    if let Some(role) = role() {
        return serve(&role);
    }
    // Attempts in half a second: pauses grow from 5 ms to 500 in an acceptor, and are a millisecond where accept itself is
    // called again and again. Without a pause there are a hundred thousand.
    for (role, most) in [("acceptor", 100), ("native", 1000), ("hooked", 1000)] {
        let (mut server, address) = Server::start(role);
        let mut clients: Vec<_> = (0..100)
            .map(|_| {
                let mut client = TcpStream::connect(&address).unwrap();
                client.write_all(b"?").unwrap();
                client.set_nonblocking(true).unwrap();
                client
            })
            .collect();
        // Wait until no more are served.
        let is_served = |client: &TcpStream| matches!(client.peek(&mut [0]), Ok(1));
        let (mut count, mut since) = (0, Instant::now());
        while count == 0 || since.elapsed() < Duration::from_millis(300) {
            let now = clients.iter().filter(|client| is_served(client)).count();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!((20..64).contains(&count), "{role}: {count} of 100 connections with 64 descriptors");
        let before = server.report();
        std::thread::sleep(Duration::from_millis(500));
        let after = server.report();
        assert!(after.0 - before.0 <= most, "{role}: {} attempts in half a second", after.0 - before.0);
        assert!(after.1 > before.1, "{role}: the other fiber does not run");
        // Those that are served go, a few at a time, and the others take their places.
        let patience = Instant::now() + PATIENCE;
        while !clients.is_empty() {
            clients.retain(|client| !is_served(client));
            assert!(Instant::now() < patience, "{role}: {} connections are never served", clients.len());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Something that needs a descriptor, and may need an address.
type Attempt = fn(std::net::SocketAddr) -> std::io::Result<()>;

#[test]
fn everything_that_needs_a_descriptor_says_so_and_works_again_later() {
    if run_alone("everything_that_needs_a_descriptor_says_so_and_works_again_later") {
        return;
    }
    let runtime = runtime(1);
    runtime.block_on(|| {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut hoard = Vec::new();
        let full = loop {
            match std::fs::File::open("/dev/null") {
                Ok(file) => hoard.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!(full.raw_os_error(), TOO_MANY);
        let attempts: [(&str, Attempt); 9] = [
            ("connect", |address| net::TcpStream::connect(address).map(drop)),
            ("connect to one of two", |address| net::TcpStream::connect(&[address, address][..]).map(drop)),
            ("listen", |_| net::TcpListener::bind("127.0.0.1:0").map(drop)),
            ("udp", |_| net::UdpSocket::bind("127.0.0.1:0").map(drop)),
            ("pipe", |_| pipe::pipe().map(drop)),
            ("eventfd", |_| EventFd::new().map(drop)),
            ("signals", |_| signal::Signals::new([signal::Signal::USER2]).map(drop)),
            ("process", |_| process::Command::new("true").output().map(drop)),
            ("runtime", |_| Runtime::builder().workers(2).build().map(drop)),
        ];
        for (what, attempt) in attempts {
            let error = attempt(address).expect_err(what);
            assert!(
                error.raw_os_error() == TOO_MANY || error.to_string().contains("os error 24"),
                "{what}: {error}"
            );
        }
        drop(hoard);
        for (what, attempt) in attempts {
            if let Err(error) = attempt(address) {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{what}: {error}");
            }
        }
        assert_eq!(Handle::current().workers(), 1);
    });
    assert!(runtime.stop(PATIENCE).is_clean());
}
