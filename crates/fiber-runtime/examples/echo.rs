//! An echo server, and clients that drive it: round trips per second over loopback, with the sockets of
//! `fiber_runtime::net` or, through the hooks, with those of `std::net`.

mod common;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Flag, numbers};
use fiber_runtime::{Runtime, net, spawn, time};

fn main() -> ExitCode {
    let [port, connections, seconds, bytes, workers, std_sockets] = numbers(
        "An echo server on loopback, and clients that drive it.",
        [
            Flag { name: "--port", default: 0, help: "where to listen; 0 is any free port" },
            Flag { name: "--connections", default: 64, help: "clients of this program; 0 only serves" },
            Flag { name: "--seconds", default: 3, help: "how long to run; 0 is for ever" },
            Flag { name: "--bytes", default: 64, help: "length of a message" },
            Flag { name: "--workers", default: 2, help: "worker threads" },
            Flag { name: "--std", default: 0, help: "1: the clients use std::net through the hooks" },
        ],
    );
    let settings = Settings { connections, bytes: bytes.max(1) as usize, std_sockets: std_sockets != 0 };
    let limit = (seconds > 0).then(|| Duration::from_secs(seconds));
    let outcome = u16::try_from(port).map_err(io::Error::other).and_then(|port| {
        let runtime = Runtime::builder().workers(workers.max(1) as usize).name("echo").build()?;
        runtime.block_on(|| run(port, settings, limit))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy)]
struct Settings {
    connections: u64,
    bytes: usize,
    std_sockets: bool,
}

fn run(port: u16, settings: Settings, limit: Option<Duration>) -> io::Result<()> {
    let listener = Arc::new(net::TcpListener::bind(("127.0.0.1", port))?);
    let address = listener.local_addr()?;
    println!("listening on {address}");
    let server = {
        let listener = Arc::clone(&listener);
        spawn(move || serve(&listener))
    };

    let (stop, trips) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let clients: Vec<_> = (0..settings.connections)
        .map(|_| {
            let (stop, trips) = (Arc::clone(&stop), Arc::clone(&trips));
            spawn(move || drive(address, settings, &stop, &trips))
        })
        .collect();
    while limit.is_none_or(|limit| start.elapsed() < limit) {
        let tick = Duration::from_millis(100);
        time::sleep(limit.map_or(tick, |limit| limit.saturating_sub(start.elapsed()).min(tick)));
    }
    stop.store(true, Ordering::Relaxed);
    let mut failed = 0;
    for client in clients {
        if let Ok(Err(error)) | Err(error) = client.join().map_err(|_| io::Error::other("a client panicked"))
        {
            eprintln!("error: a client: {error}");
            failed += 1;
        }
    }
    let (trips, took) = (trips.load(Ordering::Relaxed), start.elapsed());
    if settings.connections > 0 {
        let rate = trips as f64 / took.as_secs_f64();
        println!(
            "{trips} round trips over {} connections in {took:.2?}: {rate:.0} per second",
            settings.connections
        );
    }
    listener.shutdown()?;
    server.join().map_err(|_| io::Error::other("the server panicked"))?;
    match failed == 0 && (trips > 0 || settings.connections == 0) {
        true => Ok(()),
        false => Err(io::Error::other(format!("{failed} clients failed"))),
    }
}

/// Accepts until the listener is shut down; each connection has a fiber of its own.
fn serve(listener: &net::TcpListener) {
    /// A shortage (of descriptors, say) passes; accepting again at once would only burn the processor.
    const PAUSE: Duration = Duration::from_millis(10);

    loop {
        match listener.accept() {
            Ok((stream, _)) => spawn(move || echo(stream)).detach(),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                eprintln!("error: accepting: {error}");
                time::sleep(PAUSE);
            }
        }
    }
}

fn echo(mut stream: net::TcpStream) {
    let mut buffer = [0; 8 * 1024];
    // A connection that fails concerns its client only, who sees it too.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn drive(address: SocketAddr, settings: Settings, stop: &AtomicBool, trips: &AtomicU64) -> io::Result<()> {
    if settings.std_sockets {
        converse(std::net::TcpStream::connect(address)?, settings.bytes, stop, trips)
    } else {
        converse(net::TcpStream::connect(address)?, settings.bytes, stop, trips)
    }
}

fn converse(
    mut stream: impl Read + Write,
    bytes: usize,
    stop: &AtomicBool,
    trips: &AtomicU64,
) -> io::Result<()> {
    let message: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    // Room to spare: a receive that does not fill its buffer shows that there is no more, and saves asking again.
    let mut back = vec![0; bytes + 1];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&message)?;
        let mut received = 0;
        while received < bytes {
            received += match stream.read(&mut back[received..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => count,
            };
        }
        if back[..received] != message[..] {
            return Err(io::Error::other("the echo is not what was sent"));
        }
        trips.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
