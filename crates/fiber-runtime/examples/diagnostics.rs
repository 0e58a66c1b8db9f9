//! A program to look into: clients and servers that wait for each other, a lock that is held too long, and now and then a
//! fiber that holds its worker.
//!
//! ```text
//! cargo run --release -p fiber-runtime --example diagnostics
//! kill -USR1 <the number that it prints>
//! ```
//! prints what every fiber does and where. Hogs are warned of as they happen. At the end come the metrics and how deep
//! each kind of fiber has used its stack.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Flag, numbers};
use fiber_runtime::sync::Mutex;
use fiber_runtime::trace::FiberSubscriber;
use fiber_runtime::{FiberBuilder, Runtime, time};
use tracing::{info, info_span};

fn main() -> ExitCode {
    let [seconds, clients] = numbers(
        "Fibers to look into: send SIGUSR1 for a dump.",
        [
            Flag { name: "--seconds", default: 30, help: "how long to run" },
            Flag { name: "--clients", default: 20, help: "how many connections" },
        ],
    );
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).finish();
    if tracing::subscriber::set_global_default(FiberSubscriber::new(subscriber)).is_err() {
        eprintln!("somebody has set a subscriber");
    }
    match run(Duration::from_secs(seconds), clients) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(duration: Duration, clients: u64) -> std::io::Result<()> {
    let runtime =
        Runtime::builder().workers(2).name("demo").dump_on_signal(true).stack_probe(true).build()?;
    println!("kill -USR1 {}", std::process::id());
    let handle = runtime.handle();
    let end = Instant::now() + duration;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // The standard library's own sockets: the hooks make them wait without their thread.
    let serve = handle.clone();
    handle
        .spawn_with(FiberBuilder::new().name("acceptor"), move || {
            // Ends with the error that a cancelled fiber's calls give.
            while let Ok((stream, _)) = listener.accept() {
                serve.spawn_with(FiberBuilder::new().name("echo"), move || echo(stream)).detach();
            }
        })
        .detach();
    let shared = Arc::new(Mutex::new(0_u64));
    for client in 0..clients {
        let shared = shared.clone();
        handle
            .spawn_with(FiberBuilder::new().name("client"), move || {
                // One line of the log in a hundred turns; the span is open across every wait in between.
                let _span = info_span!("client", number = client).entered();
                if let Err(error) = ask(address, &shared, end) {
                    info!(%error, "gives up");
                }
            })
            .detach();
    }
    let hog = FiberBuilder::new().name("hog");
    let hog = handle.spawn_with(hog, move || {
        while Instant::now() < end {
            time::sleep(Duration::from_secs(2));
            computes_for(Duration::from_millis(50));
        }
    });
    // A plain thread waits for the fiber.
    let _ = hog.join();
    println!("\n{}", runtime.metrics());
    println!("{}", runtime.stack_usage());
    // The acceptor waits for ever; stopping cancels it.
    println!("{}", runtime.stop(Duration::from_millis(100)));
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 512];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}

fn ask(address: std::net::SocketAddr, shared: &Mutex<u64>, end: Instant) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut turns = 0_u64;
    while Instant::now() < end {
        stream.write_all(b"are you there?")?;
        stream.read_exact(&mut [0; 14])?;
        turns += 1;
        let mut total = shared.lock();
        *total += 1;
        if turns.is_multiple_of(100) {
            info!(turns, total = *total, "still there");
            // With the lock held: the dump shows who waits for it.
            time::sleep(Duration::from_millis(100));
        }
        drop(total);
        time::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Does not give way: the monitor names it.
#[inline(never)]
fn computes_for(duration: Duration) {
    let began = Instant::now();
    while began.elapsed() < duration {
        std::hint::spin_loop();
    }
}
