//! Clients that keep a cluster busy while something happens to it, and remember what they were told.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::history::{End, History, Recorder};
use crate::models::{KvAction, KvInput, KvOutput};
use crate::resp::{Client, Failure, Reply};

/// How long a client waits for a reply before it calls the outcome unknown.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// A client's pause after a refusal, so that a cluster without a leader is not flooded.
const PAUSE: Duration = Duration::from_millis(10);

/// What the writers of a [`Load`] were told.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Keys whose write was acknowledged, with the value.
    pub acknowledged: BTreeMap<String, String>,
    /// When each was, in order.
    pub moments: Vec<Instant>,
    /// Writes that may or may not have happened.
    pub unknown: u64,
    /// Writes that were certainly refused, and sent again.
    pub refused: u64,
}

impl Report {
    /// The longest time without an acknowledgement that began or ended after `since`.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let gaps = self.moments.windows(2).filter(|pair| pair[1] > since).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { acknowledged, unknown, refused, .. } = self;
        write!(
            f,
            "{} writes acknowledged, {unknown} unknown, {refused} refused and sent again",
            acknowledged.len()
        )
    }
}

/// Writers that run until they are stopped. Each writes new keys, one after the other, and goes to the next node
/// when one does not answer.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `writers` writers of values of `value_bytes` bytes; their keys begin with `prefix`.
    pub fn start(
        cluster: &Cluster,
        nodes: &[usize],
        writers: usize,
        prefix: &str,
        value_bytes: usize,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let addresses: Vec<SocketAddr> = nodes.iter().map(|node| cluster.addresses(*node).resp).collect();
        let writers = (0..writers).map(|writer| {
            let (stop, report, addresses) = (Arc::clone(&stop), Arc::clone(&report), addresses.clone());
            let prefix = format!("{prefix}:{writer}");
            thread::spawn(move || write_until(&stop, &report, &addresses, writer, &prefix, value_bytes))
        });
        let writers = writers.collect();
        Load { stop, report, writers }
    }

    /// How many writes were acknowledged so far.
    ///
    /// # Panics
    /// If a writer has.
    pub fn acknowledged(&self) -> usize {
        self.report.lock().expect("no writer panics while it holds the report").moments.len()
    }

    /// Ends the writers and says what they were told.
    ///
    /// # Panics
    /// If one of them has.
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.join().expect("a writer does not panic");
        }
        let mut report = self.report.lock().expect("no writer panics while it holds the report").clone();
        report.moments.sort_unstable();
        report
    }
}

fn write_until(
    stop: &AtomicBool,
    report: &Mutex<Report>,
    addresses: &[SocketAddr],
    writer: usize,
    prefix: &str,
    bytes: usize,
) {
    let mut clients: Vec<Client> = addresses.iter().map(|at| Client::new(*at, REPLY_TIMEOUT)).collect();
    let mut at = writer % clients.len();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{prefix}:{number}");
        let value = format!("{key:.<bytes$}");
        let reply = clients[at].call(&["SET", &key, &value]);
        let mut report = report.lock().expect("no writer panics while it holds the report");
        match reply {
            Ok(reply) if reply.is_ok() => {
                report.acknowledged.insert(key, value);
                report.moments.push(Instant::now());
                number += 1;
                continue;
            }
            Err(Failure::NotSent(_)) => report.refused += 1,
            Ok(reply) if reply.is_not_appended() => report.refused += 1,
            Ok(_) | Err(Failure::NoReply(_)) => {
                report.unknown += 1;
                number += 1; // A new key: what became of this one is never asked again.
            }
        }
        drop(report);
        at = (at + 1) % clients.len();
        thread::sleep(PAUSE);
    }
}

/// Checks that `node` answers every key of `expected` with its value.
///
/// # Panics
/// When one is missing or differs, or does not come.
#[track_caller]
pub fn assert_all_present(cluster: &Cluster, node: usize, expected: &BTreeMap<String, String>) {
    const AT_ONCE: usize = 200;
    let mut client = cluster.client(node);
    let expected: Vec<(&String, &String)> = expected.iter().collect();
    for chunk in expected.chunks(AT_ONCE) {
        let commands: Vec<[&[u8]; 2]> =
            chunk.iter().map(|(key, _)| [b"GET".as_slice(), key.as_bytes()]).collect();
        let commands: Vec<&[&[u8]]> = commands.iter().map(|words| words.as_slice()).collect();
        let replies = client.pipeline(&commands).unwrap_or_else(|failure| panic!("node {node}: {failure}"));
        for ((key, value), reply) in chunk.iter().zip(replies) {
            assert_eq!(
                reply,
                Reply::Bulk(Some(value.as_bytes().to_vec())),
                "acknowledged key {key} on node {node}, {} keys in all",
                expected.len()
            );
        }
    }
}

/// Clients whose operations are recorded for the checker.
#[derive(Debug)]
pub struct Recorded {
    stop: Arc<AtomicBool>,
    recorder: Recorder<KvInput, KvOutput>,
    clients: Vec<JoinHandle<()>>,
}

impl Recorded {
    /// Starts `clients` clients that read and write `keys` keys through all nodes.
    pub fn start(cluster: &Cluster, clients: usize, keys: u64, seed: u64) -> Recorded {
        let stop = Arc::new(AtomicBool::new(false));
        let recorder = Recorder::new();
        let addresses: Vec<SocketAddr> =
            (0..cluster.len()).map(|node| cluster.addresses(node).resp).collect();
        let clients = (0..clients as u64).map(|client| {
            let (stop, recorder, addresses) = (Arc::clone(&stop), recorder.clone(), addresses.clone());
            thread::spawn(move || operate_until(&stop, &recorder, &addresses, client, keys, seed))
        });
        let clients = clients.collect();
        Recorded { stop, recorder, clients }
    }

    /// How many operations were recorded so far.
    pub fn len(&self) -> usize {
        self.recorder.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the clients and gives their history.
    ///
    /// # Panics
    /// If one of them has.
    pub fn stop(self) -> History<KvInput, KvOutput> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        self.recorder.snapshot()
    }
}

fn operate_until(
    stop: &AtomicBool,
    recorder: &Recorder<KvInput, KvOutput>,
    addresses: &[SocketAddr],
    client: u64,
    keys: u64,
    seed: u64,
) {
    let mut connections: Vec<Client> = addresses.iter().map(|at| Client::new(*at, REPLY_TIMEOUT)).collect();
    let mut random = seed.wrapping_add(client) | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) % below
    };
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("r{}", draw(keys));
        let value = format!("{client}.{number};");
        let action = match draw(10) {
            0..4 => KvAction::Get,
            4..6 => KvAction::Put(value),
            6..8 => KvAction::Append(value),
            8 => KvAction::CompareAndSwap { expected: None, value },
            _ => KvAction::Delete,
        };
        let connection = &mut connections[draw(addresses.len() as u64) as usize];
        recorder.run(client, KvInput { key: key.clone(), action: action.clone() }, || {
            let reply = match &action {
                KvAction::Get => connection.call(&["GET", &key]),
                KvAction::Put(value) => connection.call(&["SET", &key, value]),
                KvAction::Append(value) => connection.call(&["APPEND", &key, value]),
                KvAction::Delete => connection.call(&["DEL", &key]),
                KvAction::CompareAndSwap { value, .. } => connection.call(&["SET", &key, value, "NX"]),
            };
            let end = understand(&action, reply);
            if !matches!(end, End::Returned(_)) {
                thread::sleep(PAUSE);
            }
            end
        });
    }
}

/// What a reply means in the words of the model.
fn understand(action: &KvAction, reply: Result<Reply, Failure>) -> End<KvOutput> {
    let reply = match reply {
        Err(Failure::NotSent(_)) => return End::Failed,
        Err(Failure::NoReply(_)) => return End::Unknown,
        Ok(reply) if reply.is_not_appended() => return End::Failed,
        Ok(reply) => reply,
    };
    End::Returned(match (action, &reply) {
        (KvAction::Get, Reply::Bulk(_)) => KvOutput::Value(reply.text()),
        (KvAction::Put(_), _) if reply.is_ok() => KvOutput::Done,
        (KvAction::Append(_), Reply::Integer(length)) => KvOutput::Length(*length as usize),
        (KvAction::Delete, Reply::Integer(count)) => KvOutput::Removed(*count == 1),
        (KvAction::CompareAndSwap { .. }, _) if reply.is_ok() => KvOutput::Swapped(true),
        (KvAction::CompareAndSwap { .. }, Reply::Bulk(None)) => KvOutput::Swapped(false),
        (_, Reply::Error(text)) if text.starts_with("UNKNOWN") => return End::Unknown,
        _ => panic!("{action:?} was answered {reply:?}"),
    })
}
