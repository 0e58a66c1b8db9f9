//! How many puts or gets a second does a server answer, and how late is the last of a thousand?
//!
//! A closed loop over RESP: each client waits for its reply before it asks again, clients share connections, and the
//! requests that clients of one connection have ready leave in one write. It drives kvserver and redis-server alike, so
//! that a comparison differs in the server and in nothing else. Run it in a process of its own, alternate the servers,
//! five runs or more.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use fiber_runtime::net::TcpStream;
use fiber_runtime::{Runtime, time};
use moon_bench::conditions::Conditions;
use moon_bench::latency::{Latencies, Summary};
use moon_bench::nodes::{Sample, Work};
use moon_bench::random::Random;
use moon_bench::resp;
use serde::Serialize;

/// Drives a server that speaks RESP with a closed loop of puts or gets.
#[derive(Clone, Parser)]
#[command(version)]
struct Arguments {
    /// Servers; connections are spread over them.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:6379")]
    address: Vec<SocketAddr>,
    /// What the clients do.
    #[arg(long, value_enum, default_value_t = Operation::Put)]
    operation: Operation,
    /// Clients, each with one request under way.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    clients: u64,
    /// Connections the clients share.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    connections: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=64 << 20))]
    value_bytes: u64,
    /// Keys, each as likely as the other.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before, which are not.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Threads of this program.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// HTTP addresses of the nodes, to read their syncs from; kvserver only.
    #[arg(long, value_delimiter = ',')]
    http: Vec<SocketAddr>,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    /// SET
    Put,
    /// GET of keys that are there.
    Get,
}

#[derive(Serialize)]
struct Report {
    conditions: Conditions,
    address: Vec<SocketAddr>,
    operation: Operation,
    clients: u64,
    connections: u64,
    value_bytes: u64,
    keys: u64,
    seconds: f64,
    operations: u64,
    operations_per_second: f64,
    errors: u64,
    first_error: Option<String>,
    latency: Summary,
    work: Option<Work>,
}

/// What all connections share.
struct Run {
    arguments: Arguments,
    /// Replies before this moment are warm-up.
    measure_from: Instant,
    measure_until: Instant,
}

#[derive(Default)]
struct Tally {
    latencies: Latencies,
    errors: u64,
    first_error: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let runtime = Runtime::builder().workers(arguments.workers.max(1)).name("bench").build()?;
    let report = runtime.block_on(move || measure(arguments).map_err(|error| error.to_string()))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    if report.errors > 0 {
        std::process::exit(1);
    }
    Ok(())
}

fn measure(arguments: Arguments) -> Result<Report, Box<dyn Error>> {
    let conditions = Conditions::now();
    if arguments.operation == Operation::Get {
        fill(&arguments)?;
    }
    let start = time::now();
    let measure_from = start + Duration::from_secs_f64(arguments.warmup);
    let run = Arc::new(Run {
        measure_from,
        measure_until: measure_from + Duration::from_secs_f64(arguments.seconds),
        arguments,
    });
    let sampler = {
        let run = run.clone();
        fiber_runtime::spawn(move || sample(&run))
    };
    let connections = run.arguments.connections.min(run.arguments.clients);
    let fibers: Vec<_> = (0..connections)
        .map(|index| {
            let run = run.clone();
            // Clients that do not divide evenly go to the first connections.
            let clients =
                run.arguments.clients / connections + u64::from(index < run.arguments.clients % connections);
            fiber_runtime::spawn(move || {
                let mut tally = Tally::default();
                if let Err(error) = drive(&run, index, clients, &mut tally) {
                    tally.errors += 1;
                    tally.first_error.get_or_insert(error.to_string());
                }
                tally
            })
        })
        .collect();
    let mut total = Tally::default();
    for fiber in fibers {
        let tally = fiber.join()?;
        total.latencies.merge(&tally.latencies);
        total.errors += tally.errors;
        total.first_error = total.first_error.or(tally.first_error);
    }
    let work = sampler.join()?;
    let latency = total.latencies.summary();
    let Arguments { address, operation, clients, value_bytes, keys, seconds, .. } = run.arguments.clone();
    Ok(Report {
        conditions,
        address,
        operation,
        clients,
        connections,
        value_bytes,
        keys,
        seconds,
        operations: latency.count,
        operations_per_second: latency.count as f64 / seconds,
        errors: total.errors,
        first_error: total.first_error,
        latency,
        work,
    })
}

/// What the nodes did while it was measured.
fn sample(run: &Run) -> Option<Work> {
    time::sleep_until(run.measure_from);
    let before = Sample::take(&run.arguments.http);
    time::sleep_until(run.measure_until);
    (!before.is_empty()).then(|| before.work_until(&Sample::take(&run.arguments.http)))
}

fn key(index: u64) -> String {
    format!("key:{index:012}")
}

/// Puts every key once, so that gets find something.
fn fill(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    const AT_ONCE: u64 = 256;
    let stream = TcpStream::connect(arguments.address[0])?;
    let value = vec![b'x'; arguments.value_bytes as usize];
    let mut buffer = Vec::new();
    let mut first = 0;
    while first < arguments.keys {
        let last = (first + AT_ONCE).min(arguments.keys);
        let mut bytes = Vec::new();
        (first..last)
            .for_each(|index| resp::put_request(&mut bytes, &[b"SET", key(index).as_bytes(), &value]));
        (&stream).write_all(&bytes)?;
        for _ in first..last {
            take_reply(&stream, &mut buffer)?;
        }
        first = last;
    }
    Ok(())
}

/// Waits for one reply, which must not be an error.
fn take_reply(stream: &TcpStream, buffer: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match resp::reply(buffer) {
            Ok(Some(reply)) if reply.is_error => {
                return Err(String::from_utf8_lossy(&buffer[..reply.length]).trim().to_owned().into());
            }
            Ok(Some(reply)) => {
                buffer.drain(..reply.length);
                return Ok(());
            }
            Ok(None) => {}
            Err(byte) => return Err(format!("unexpected reply that starts with {byte}").into()),
        }
        match (&mut &*stream).read(&mut chunk)? {
            0 => return Err("the server closed the connection".into()),
            read => buffer.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Drives one connection for its clients: as many requests under way as there are clients, a new one for each reply.
fn drive(run: &Run, index: u64, clients: u64, tally: &mut Tally) -> Result<(), Box<dyn Error>> {
    let arguments = &run.arguments;
    let address = arguments.address[index as usize % arguments.address.len()];
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut random = Random::new(index + 1);
    let value = vec![b'x'; arguments.value_bytes as usize];
    let mut sent: VecDeque<Instant> = VecDeque::with_capacity(clients as usize);
    let mut output = Vec::new();
    let mut input = Vec::new();
    let mut taken = 0; // of input
    let mut chunk = vec![0; (clients as usize * (value.len() + 64)).clamp(4 * 1024, 256 * 1024)];
    let mut ready = clients;
    loop {
        let now = time::now();
        if now < run.measure_until {
            output.clear();
            for _ in 0..ready {
                let key = key(random.below(arguments.keys));
                match arguments.operation {
                    Operation::Put => resp::put_request(&mut output, &[b"SET", key.as_bytes(), &value]),
                    Operation::Get => resp::put_request(&mut output, &[b"GET", key.as_bytes()]),
                }
                sent.push_back(now);
            }
            (&stream).write_all(&output)?;
        } else if sent.is_empty() {
            return Ok(());
        }
        ready = 0;
        while ready == 0 {
            stream.set_read_deadline(Some(run.measure_until + Duration::from_secs(30)));
            let read = (&stream).read(&mut chunk)?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            input.extend_from_slice(&chunk[..read]);
            let now = time::now();
            while let Some(reply) =
                resp::reply(&input[taken..]).map_err(|byte| format!("bad reply: {byte}"))?
            {
                let began = sent.pop_front().ok_or("a reply that nobody asked for")?;
                if reply.is_error {
                    tally.errors += 1;
                    let text = String::from_utf8_lossy(&input[taken..taken + reply.length]).trim().to_owned();
                    tally.first_error.get_or_insert(text);
                } else if now >= run.measure_from && now < run.measure_until {
                    tally.latencies.record(now - began);
                }
                taken += reply.length;
                ready += 1;
            }
            input.drain(..taken);
            taken = 0;
        }
    }
}

fn print(report: &Report) {
    println!("{}", report.conditions);
    println!(
        "{:?} {} bytes, {} keys, {} clients on {} connections to {:?}, {} s",
        report.operation,
        report.value_bytes,
        report.keys,
        report.clients,
        report.connections,
        report.address,
        report.seconds
    );
    println!("throughput  {:.0} ops/s, {} errors", report.operations_per_second, report.errors);
    println!("latency     {}", report.latency);
    if let Some(error) = &report.first_error {
        println!("first error {error}");
    }
    if let Some(work) = report.work {
        let operations = report.operations.max(1) as f64;
        println!(
            "nodes       {} fsyncs ({:.4} per op), {} WAL bytes ({:.1} per op), {} elections",
            work.fsyncs,
            work.fsyncs as f64 / operations,
            work.wal_bytes,
            work.wal_bytes as f64 / operations,
            work.elections
        );
    }
}
