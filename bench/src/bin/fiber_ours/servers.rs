//! Echo servers: on the native sockets, and on those of `std::net` through the hooks, which is the same code.
//!
//! With `hog_ms` one more fiber keeps its worker busy that long in every `hog_period_ms`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bench_kit::{Arguments, fail, serve_until_told};
use fiber_runtime::{Runtime, net, time};

/// What one read takes; as much in every contestant's server.
const BUFFER: usize = 1024;

/// Serves with `fiber_runtime::net`.
pub(crate) fn echo(runtime: &Runtime, arguments: &Arguments) {
    start_hog(runtime, arguments);
    serve(listen(runtime, || {
        let listener = net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        fiber_runtime::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                fiber_runtime::spawn(move || stream.set_nodelay(true).and_then(|()| converse(stream)))
                    .detach();
            }
        })
        .detach();
        Ok(address)
    }));
}

/// Serves with `std::net`.
pub(crate) fn echo_std(runtime: &Runtime, arguments: &Arguments) {
    start_hog(runtime, arguments);
    serve(listen(runtime, || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        fiber_runtime::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                fiber_runtime::spawn(move || stream.set_nodelay(true).and_then(|()| converse(stream)))
                    .detach();
            }
        })
        .detach();
        Ok(address)
    }));
}

fn listen(
    runtime: &Runtime,
    start: impl FnOnce() -> io::Result<SocketAddr> + Send + 'static,
) -> io::Result<SocketAddr> {
    runtime.block_on(start)
}

fn serve(address: io::Result<SocketAddr>) {
    match address {
        Ok(address) => serve_until_told(address),
        Err(error) => fail(&format!("cannot listen: {error}")),
    }
    // The connections end with the process, not one by one.
    std::process::exit(0);
}

/// Sends back what comes, until nothing comes any more.
fn converse(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn start_hog(runtime: &Runtime, arguments: &Arguments) {
    let busy = Duration::from_millis(arguments.number("hog_ms", 0));
    let rest = Duration::from_millis(arguments.number("hog_period_ms", 100)).saturating_sub(busy);
    if !busy.is_zero() {
        let hog = runtime.spawn(move || {
            loop {
                let start = Instant::now();
                while start.elapsed() < busy {
                    std::hint::spin_loop();
                }
                time::sleep(rest);
            }
        });
        hog.detach();
    }
}
