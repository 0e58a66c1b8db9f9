//! An echo server: a task accepts, every connection has one of its own.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bench_kit::{Arguments, fail, serve_until_told};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What one read takes; as much in every contestant's server.
const BUFFER: usize = 1024;

/// Serves until told to end. The current-thread runtime runs on a thread of its own meanwhile.
pub(crate) fn echo(runtime: &Runtime, arguments: &Arguments) {
    start_hog(runtime, arguments);
    let (send, address) = std::sync::mpsc::channel();
    let serving = runtime.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let _ = send.send(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(converse(stream));
        }
    });
    std::thread::spawn(move || {
        let address: SocketAddr = address.recv().unwrap_or_else(|_| fail("cannot listen"));
        serve_until_told(address);
        std::process::exit(0);
    });
    let end: Result<io::Result<()>, _> = runtime.block_on(serving);
    fail(&format!("the server ended: {end:?}"));
}

async fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

fn start_hog(runtime: &Runtime, arguments: &Arguments) {
    let busy = Duration::from_millis(arguments.number("hog_ms", 0));
    let rest = Duration::from_millis(arguments.number("hog_period_ms", 100)).saturating_sub(busy);
    if !busy.is_zero() {
        runtime.spawn(async move {
            loop {
                let start = Instant::now();
                while start.elapsed() < busy {
                    std::hint::spin_loop();
                }
                tokio::time::sleep(rest).await;
            }
        });
    }
}
