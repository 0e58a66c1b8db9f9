//! How many calls a second go over one connection, and how long each takes?
//!
//! Server and callers are fibers of this program, in a runtime each, on loopback. Conditions and percentiles are printed with the
//! result; a figure without them says nothing.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use fiber_rpc::{
    Bytes, CallContext, Channel, ChannelConfig, Dispatch, Server, ServerLimits, Service, Status,
};
use fiber_runtime::{Runtime, spawn, time};

const HELP: &str = "\
echo_rpc: round trips over loopback, server and callers in this program

Usage: echo_rpc [--callers N] [--channels N] [--payload BYTES] [--seconds N] [--workers N] [--local | --fiber]

  --callers N      fibers that call, one call at a time each   [default: 100]
  --channels N     connections the callers share               [default: 1]
  --payload BYTES  size of request and reply                   [default: 64]
  --seconds N      duration after one tenth of warm-up         [default: 2]
  --workers N      threads of the server's and of the callers' runtime [default: 1]
  --local          run each call in a fiber of its own on the connection's worker
  --fiber          run each call in a fiber of its own on any worker; without either it runs on the reader
  --help           this text
";

struct Echo(Dispatch);

impl Service for Echo {
    fn name(&self) -> &str {
        "moon.Echo"
    }

    fn dispatch(&self, _method: &str) -> Dispatch {
        self.0
    }

    fn call(&self, _cx: &CallContext, _method: &str, payload: Bytes) -> Result<Bytes, Status> {
        Ok(payload)
    }
}

#[derive(Clone, Copy)]
struct Options {
    callers: usize,
    channels: usize,
    payload: usize,
    seconds: u64,
    workers: usize,
    dispatch: Dispatch,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("echo_rpc: {message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match measure(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("echo_rpc: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: Options) -> Result<(), String> {
    let runtime = |name| {
        let built = Runtime::builder().workers(options.workers).name(name).build();
        built.map_err(|error| format!("the runtime does not start: {error}"))
    };
    let (serving, calling) = (runtime("server")?, runtime("callers")?);
    let server = serving
        .block_on(move || {
            let server = Server::builder().service(Echo(options.dispatch)).limits(ServerLimits::default());
            Ok(server.bind(([127, 0, 0, 1], 0).into())?.spawn())
        })
        .map_err(|error: std::io::Error| format!("listening failed: {error}"))?;
    let address = server.local_addr();
    let outcome = calling.block_on(move || call(options, address));
    serving.block_on(move || server.shutdown(time::now() + Duration::from_secs(1)));
    outcome
}

fn call(options: Options, address: SocketAddr) -> Result<(), String> {
    let channels: Vec<_> =
        (0..options.channels).map(|_| Channel::new(address, ChannelConfig::default())).collect();
    let payload = Bytes::from(vec![7; options.payload]);

    let start = time::now();
    let measure_from = start + Duration::from_millis(options.seconds * 100);
    let end = measure_from + Duration::from_secs(options.seconds);
    let callers: Vec<_> = (0..options.callers)
        .map(|index| {
            let (channel, payload) = (channels[index % channels.len()].clone(), payload.clone());
            spawn(move || {
                let mut latencies_ns = Vec::new();
                let mut now = time::now();
                while now < end {
                    let begin = now;
                    channel
                        .call("moon.Echo", "Echo", payload.clone(), begin + Duration::from_secs(10))
                        .map_err(|error| error.to_string())?;
                    now = time::now();
                    if begin >= measure_from {
                        latencies_ns.push(u32::try_from((now - begin).as_nanos()).unwrap_or(u32::MAX));
                    }
                }
                Ok::<_, String>(latencies_ns)
            })
        })
        .collect();
    let mut latencies_ns = Vec::new();
    for caller in callers {
        latencies_ns.append(&mut caller.join().map_err(|error| error.to_string())??);
    }
    for channel in &channels {
        channel.close();
    }

    latencies_ns.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies_ns.len() as f64 * share) as usize).min(latencies_ns.len().saturating_sub(1));
        f64::from(latencies_ns.get(index).copied().unwrap_or(0)) / 1000.0
    };
    println!(
        "{} callers, {} connections, {} B, {:?} dispatch, {} worker(s) a side, {} s, loopback, {} build",
        options.callers,
        options.channels,
        options.payload,
        options.dispatch,
        options.workers,
        options.seconds,
        if cfg!(debug_assertions) { "debug" } else { "release" },
    );
    println!(
        "{:.0} calls/s   p50 {:.1} us   p99 {:.1} us   p99.9 {:.1} us   max {:.1} us",
        latencies_ns.len() as f64 / options.seconds as f64,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    Ok(())
}

/// `None` asks for the help text.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        callers: 100,
        channels: 1,
        payload: 64,
        seconds: 2,
        workers: 1,
        dispatch: Dispatch::Inline,
    };
    while let Some(flag) = args.next() {
        let mut number = |least: usize| -> Result<usize, String> {
            let value = args.next().ok_or(format!("{flag} needs a number"))?;
            let value = value.parse().map_err(|error| format!("{flag} {value}: {error}"))?;
            if value < least { Err(format!("{flag} is at least {least}")) } else { Ok(value) }
        };
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--callers" => options.callers = number(1)?,
            "--channels" => options.channels = number(1)?,
            "--payload" => options.payload = number(0)?,
            "--seconds" => options.seconds = number(1)? as u64,
            "--workers" => options.workers = number(1)?,
            "--local" => options.dispatch = Dispatch::Local,
            "--fiber" => options.dispatch = Dispatch::Fiber,
            _ => return Err(format!("unknown argument {flag}")),
        }
    }
    Ok(Some(options))
}
