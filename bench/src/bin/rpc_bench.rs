//! How many calls a second does fiber-rpc carry, by concurrent calls and connections?
//!
//! A closed loop: each caller sends its payload to an echo service and waits before it calls again; callers share the
//! connections evenly. Server and client are two processes with one worker each, unless `--one-process`.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use fiber_rpc::{CallContext, Channel, ChannelConfig, Server, Service, Status};
use fiber_runtime::{Runtime, time};
use moon_bench::conditions::Conditions;
use moon_bench::latency::{Latencies, Summary};
use serde::Serialize;

const SERVICE: &str = "bench.Echo";

/// Measures calls over fiber-rpc in a closed loop.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// `calls x connections` to measure, such as 100x1.
    #[arg(value_parser = load, default_values = ["1x1", "100x1", "100x100", "1000x10", "1000x1000"])]
    loads: Vec<Load>,
    /// Bytes of a request and of its reply.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Seconds of each measurement; half a second of warm-up comes before.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Workers of client and server each.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// A server that runs already (`rpc_bench serve`), instead of one that is started.
    #[arg(long)]
    connect: Option<SocketAddr>,
    /// Client and server in this process, on the same workers.
    #[arg(long)]
    one_process: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Role {
    /// Runs only the server, prints its address and serves until it is killed or its standard input ends.
    Serve {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Workers.
        #[arg(long, default_value_t = 1)]
        workers: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Load {
    calls: usize,
    connections: usize,
}

fn load(text: &str) -> Result<Load, String> {
    let (calls, connections) = text.split_once('x').ok_or("must be CALLSxCONNECTIONS")?;
    let number =
        |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or(format!("'{text}' is no count"));
    Ok(Load { calls: number(calls)?, connections: number(connections)? })
}

#[derive(Serialize)]
struct Row {
    calls: usize,
    connections: usize,
    calls_per_second: f64,
    errors: u64,
    latency: Summary,
}

#[derive(Serialize)]
struct Report {
    conditions: Conditions,
    payload: usize,
    workers: usize,
    processes: u8,
    rows: Vec<Row>,
}

struct Echo;

impl Service for Echo {
    fn name(&self) -> &str {
        SERVICE
    }

    fn dispatch(&self, _: &str) -> fiber_rpc::service::Dispatch {
        fiber_rpc::service::Dispatch::Inline
    }

    fn call(&self, _: &CallContext, _: &str, payload: Bytes) -> Result<Bytes, Status> {
        Ok(payload)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(Role::Serve { listen, workers }) = arguments.role {
        return serve(listen, workers);
    }
    let conditions = Conditions::now();
    let runtime = Runtime::builder().workers(arguments.workers.max(1)).name("client").build()?;
    let mut child = None;
    let address = match arguments.connect {
        Some(address) => address,
        None if arguments.one_process => {
            runtime.block_on(|| listen_on(([127, 0, 0, 1], 0).into()).map(|server| server.local_addr()))?
        }
        None => {
            let (process, address) = start_server(arguments.workers)?;
            child = Some(process);
            address
        }
    };
    let mut rows = Vec::new();
    for load in &arguments.loads {
        let (load, payload) = (*load, Bytes::from(vec![7; arguments.payload]));
        let seconds = Duration::from_secs_f64(arguments.seconds);
        rows.push(runtime.block_on(move || measure(address, load, payload, seconds))?);
    }
    drop(child);
    let report = Report {
        conditions,
        payload: arguments.payload,
        workers: arguments.workers,
        processes: if arguments.one_process { 1 } else { 2 },
        rows,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{}; {} bytes, {} process(es) with {} worker(s) each",
            report.conditions, report.payload, report.processes, report.workers
        );
        for Row { calls, connections, calls_per_second, errors, latency } in &report.rows {
            println!(
                "{calls:>5} x {connections:<5} {calls_per_second:>9.0} calls/s  {errors} errors  {latency}"
            );
        }
    }
    if report.rows.iter().any(|row| row.errors > 0) {
        std::process::exit(1);
    }
    Ok(())
}

fn listen_on(address: SocketAddr) -> Result<fiber_rpc::server::ServerHandle, std::io::Error> {
    Ok(Server::builder().service(Echo).bind(address)?.spawn())
}

fn serve(listen: SocketAddr, workers: usize) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::builder().workers(workers.max(1)).name("server").build()?;
    let server = runtime.block_on(move || listen_on(listen))?;
    println!("{}", server.local_addr());
    // The end of the input is the end of whoever started this.
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}

/// The server process; it ends when this is dropped.
struct ServerProcess(Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_server(workers: usize) -> Result<(ServerProcess, SocketAddr), Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", "--workers", &workers.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the server has no output")?;
    let process = ServerProcess(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((process, line.trim().parse()?))
}

fn measure(address: SocketAddr, load: Load, payload: Bytes, seconds: Duration) -> Result<Row, String> {
    let connections = load.connections.min(load.calls);
    let channels: Arc<Vec<Channel>> =
        Arc::new((0..connections).map(|_| Channel::new(address, ChannelConfig::default())).collect());
    let from = time::now() + Duration::from_millis(500);
    let until = from + seconds;
    let callers: Vec<_> = (0..load.calls)
        .map(|caller| {
            let (channels, payload) = (channels.clone(), payload.clone());
            fiber_runtime::spawn(move || call(&channels[caller % channels.len()], &payload, from, until))
        })
        .collect();
    let mut latencies = Latencies::new();
    let mut errors = 0;
    for caller in callers {
        let (own, failed) = caller.join().map_err(|error| error.to_string())?;
        latencies.merge(&own);
        errors += failed;
    }
    channels.iter().for_each(Channel::close);
    Ok(Row {
        calls: load.calls,
        connections,
        calls_per_second: latencies.count() as f64 / seconds.as_secs_f64(),
        errors,
        latency: latencies.summary(),
    })
}

/// One caller: its latencies within the measured time, and its errors.
fn call(channel: &Channel, payload: &Bytes, from: Instant, until: Instant) -> (Latencies, u64) {
    let mut latencies = Latencies::new();
    let mut errors = 0;
    let mut start = time::now();
    while start < until {
        let reply = channel.call(SERVICE, "Echo", payload.clone(), start + Duration::from_secs(30));
        let end = time::now();
        match reply {
            Ok(reply) if reply.len() == payload.len() => {
                if start >= from {
                    latencies.record(end - start);
                }
            }
            _ => errors += 1,
        }
        start = end;
    }
    (latencies, errors)
}
