//! The command-line client: single operations through the clerk, exactly once, and the state of the nodes.
#![forbid(unsafe_code)]

mod output;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use kvserver::clerk::{BlockingClerk, ClerkConfig, ClerkError};
use kvserver::command::NodeStatus;
use kvserver::config::Config;

use output::Output;

/// Exit status: done.
const OK: u8 = 0;
/// Exit status: an error; nothing was changed. Also a missing key and a comparison that did not hold.
const FAILED: u8 = 1;
/// Exit status: whether the write took effect is not known.
const UNKNOWN: u8 = 3;

#[derive(Parser)]
#[command(
    name = "kvctl",
    version,
    about = "Reads and writes keys of a cluster and shows the state of its nodes",
    after_help = "Exit status: 0 done; 1 error, missing key, or comparison that did not hold: nothing was changed; \
        2 wrong usage; 3 outcome unknown: the write may have taken effect.\n\n\
        Examples:\n  \
        kvctl -f conf/test.conf put greeting hello\n  \
        kvctl -f conf/test.conf --json get greeting\n  \
        kvctl --endpoints 127.0.1.1:21920,127.0.1.1:21921 status"
)]
struct Arguments {
    #[command(flatten)]
    cluster: Cluster,
    /// Print one JSON object instead of text; values that are not UTF-8 are given as "value_hex"
    #[arg(long, global = true)]
    json: bool,
    /// Time for the whole operation, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, global = true,
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Cluster {
    /// Conf file of the cluster
    #[arg(short = 'f', long = "file", value_name = "CONF")]
    file: Option<PathBuf>,
    /// Addresses of nodes (the rpc ports), separated by commas
    #[arg(short = 'e', long, value_name = "IP:PORT,...", value_delimiter = ',', env = "KVCTL_ENDPOINTS")]
    endpoints: Option<Vec<SocketAddr>>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the value of a key
    Get {
        /// The key
        key: String,
    },
    /// Set a key
    Put {
        /// The key
        key: String,
        /// Its new value
        value: String,
    },
    /// Add to the end of a key's value
    Append {
        /// The key
        key: String,
        /// What is added
        value: String,
    },
    /// Remove keys and print how many there were
    #[command(visible_alias = "del")]
    Delete {
        /// The keys
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Compare and swap: set a key if its value is the expected one
    Cas {
        /// The key
        key: String,
        /// The value it must have; leave it out with --absent
        #[arg(required_unless_present = "absent")]
        expected: Option<String>,
        /// Its new value
        #[arg(required_unless_present = "absent")]
        value: Option<String>,
        /// Expect that the key does not exist: cas KEY --absent=VALUE
        #[arg(long, value_name = "VALUE", conflicts_with_all = ["expected", "value"])]
        absent: Option<String>,
    },
    /// Add to an integer and print the sum
    Incr {
        /// The key
        key: String,
        /// What is added
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        delta: i64,
    },
    /// List keys that begin with a prefix, with their values
    Scan {
        /// The prefix; all keys without it
        #[arg(default_value = "")]
        prefix: String,
        /// Most keys
        #[arg(long, default_value_t = 1000)]
        limit: u32,
        /// Leave the values out
        #[arg(long)]
        keys_only: bool,
    },
    /// Show role, term, leader and indices of each node
    Status,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let code = match run(&arguments, &output) {
        Ok(code) => code,
        Err(Failure::Usage(message)) => {
            output.error("usage", &message);
            2
        }
        Err(Failure::Clerk(error @ ClerkError::OutcomeUnknown { .. })) => {
            output.error("outcome_unknown", &error.to_string());
            UNKNOWN
        }
        Err(Failure::Clerk(error)) => {
            let kind = match &error {
                ClerkError::NotAppended { .. } => "not_appended",
                ClerkError::Rejected(_) => "rejected",
                _ => "invalid",
            };
            output.error(kind, &error.to_string());
            FAILED
        }
        Err(Failure::Start(message)) => {
            output.error("start", &message);
            FAILED
        }
    };
    ExitCode::from(code)
}

enum Failure {
    Usage(String),
    Start(String),
    Clerk(ClerkError),
}

impl From<ClerkError> for Failure {
    fn from(error: ClerkError) -> Failure {
        Failure::Clerk(error)
    }
}

impl Cluster {
    fn endpoints(&self) -> Result<Vec<SocketAddr>, Failure> {
        match (&self.file, &self.endpoints) {
            (Some(file), _) => {
                // The nodes' settings are not this program's concern, so neither is the environment.
                let (config, _) =
                    Config::load(file, [], []).map_err(|error| Failure::Usage(error.to_string()))?;
                Ok(config.nodes.values().map(|node| node.rpc).collect())
            }
            (None, Some(endpoints)) => Ok(endpoints.clone()),
            (None, None) => Err(Failure::Usage("give -f or --endpoints".to_owned())),
        }
    }
}

fn run(arguments: &Arguments, output: &Output) -> Result<u8, Failure> {
    let endpoints = arguments.cluster.endpoints()?;
    let timeout = Duration::from_millis(arguments.timeout_ms);
    let config = ClerkConfig { timeout, ..ClerkConfig::default() };
    let clerk = BlockingClerk::new(endpoints.clone(), config)
        .map_err(|error| Failure::Start(format!("cannot start the client: {error}")))?;
    let bytes = |text: &String| Bytes::copy_from_slice(text.as_bytes());
    match &arguments.command {
        Command::Get { key } => {
            let value = clerk.get(bytes(key))?;
            output.value(key, value.as_ref());
            Ok(if value.is_some() { OK } else { FAILED })
        }
        Command::Put { key, value } => {
            let revision = clerk.put(bytes(key), bytes(value))?;
            output.done(key, "revision", revision);
            Ok(OK)
        }
        Command::Append { key, value } => {
            let length = clerk.append(bytes(key), bytes(value))?;
            output.number(key, "length", length);
            Ok(OK)
        }
        Command::Delete { keys } => {
            let count = clerk.delete(keys.iter().map(bytes).collect())?;
            output.count("deleted", count);
            Ok(OK)
        }
        Command::Cas { key, expected, value, absent } => {
            let (expected, value) = match absent {
                Some(value) => (None, value),
                None => (expected.as_ref(), value.as_ref().expect("clap demands the value")),
            };
            let (swapped, current) = clerk.compare_and_swap(bytes(key), expected.map(bytes), bytes(value))?;
            output.swapped(key, swapped, current.as_ref());
            Ok(if swapped { OK } else { FAILED })
        }
        Command::Incr { key, delta } => {
            let value = clerk.increment(bytes(key), *delta)?;
            output.number(key, "value", value);
            Ok(OK)
        }
        Command::Scan { prefix, limit, keys_only } => {
            scan(&clerk, output, bytes(prefix), *limit, !keys_only)?;
            Ok(OK)
        }
        Command::Status => Ok(status(&clerk, output, &endpoints)),
    }
}

fn scan(
    clerk: &BlockingClerk,
    output: &Output,
    prefix: Bytes,
    limit: u32,
    values: bool,
) -> Result<(), ClerkError> {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let left = limit - entries.len() as u32;
        let page = clerk.scan(prefix.clone(), after, left, values)?;
        after = page.entries.last().map(|(key, _)| key.clone());
        entries.extend(page.entries);
        if !page.more || after.is_none() || entries.len() >= limit as usize {
            output.entries(&entries, page.more);
            return Ok(());
        }
    }
}

/// Shows every node, also those that do not answer. Fails unless all answer and agree on a leader.
fn status(clerk: &BlockingClerk, output: &Output, endpoints: &[SocketAddr]) -> u8 {
    let nodes: Vec<(SocketAddr, Result<NodeStatus, String>)> = endpoints
        .iter()
        .map(|node| (*node, clerk.status(*node).map_err(|error| error.to_string())))
        .collect();
    output.nodes(&nodes);
    let leaders: Vec<Option<u64>> =
        nodes.iter().map(|(_, node)| node.as_ref().ok().and_then(|node| node.leader_id)).collect();
    let agreed = leaders.iter().all(|leader| leader.is_some() && *leader == leaders[0]);
    if agreed { OK } else { FAILED }
}
