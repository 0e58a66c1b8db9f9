//! An echo server: a coroutine accepts, every connection has one of its own.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use bench_kit::{Arguments, fail, serve_until_told};
use may::coroutine;
use may::go;
use may::net::{TcpListener, TcpStream};

/// What one read takes; as much in every contestant's server.
const BUFFER: usize = 1024;

/// Serves until told to end.
pub(crate) fn echo(arguments: &Arguments) {
    start_hog(arguments);
    let listener =
        TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| fail(&format!("cannot listen: {error}")));
    let address = listener.local_addr().unwrap_or_else(|error| fail(&format!("cannot listen: {error}")));
    go!(move || {
        while let Ok((stream, _)) = listener.accept() {
            go!(move || stream.set_nodelay(true).and_then(|()| converse(stream)));
        }
    });
    serve_until_told(address);
    std::process::exit(0);
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn start_hog(arguments: &Arguments) {
    let busy = Duration::from_millis(arguments.number("hog_ms", 0));
    let rest = Duration::from_millis(arguments.number("hog_period_ms", 100)).saturating_sub(busy);
    if !busy.is_zero() {
        go!(move || {
            loop {
                let start = Instant::now();
                while start.elapsed() < busy {
                    std::hint::spin_loop();
                }
                coroutine::sleep(rest);
            }
        });
    }
}
