//! The one list of keys: name, default, unit, and why one would change it.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{bytes, count, milliseconds, one_of, switch};
use crate::command::Limits;
use crate::command::write::{MAX_KEY_BYTES, MAX_KEYS_PER_COMMAND};

/// When the log is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before a write counts as durable. What every guarantee rests on.
    Full,
    /// Never: a power failure, or the crash of a majority of machines, loses acknowledged writes.
    None,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One key that is not about a single node.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key as written in conf files.
    pub name: &'static str,
    /// The default as written in conf files.
    pub default: &'static str,
    /// What the value is.
    pub unit: &'static str,
    /// What it does and why one would change it.
    pub why: &'static str,
}

macro_rules! settings {
    ($( $field:ident : $type:ty = $default:literal, $unit:literal, $parse:expr, $why:literal; )*) => {
        /// Everything in a configuration but the nodes' addresses. Fields are named as their keys.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $( #[doc = $why] pub $field: $type, )*
        }

        /// All keys but those of nodes, in the order of the reference.
        pub const KEYS: &[Key] = &[
            $( Key { name: stringify!($field), default: $default, unit: $unit, why: $why }, )*
        ];

        impl Default for Settings {
            fn default() -> Settings {
                Settings {
                    $( $field: $parse($default).expect("the default of a key fits it"), )*
                }
            }
        }

        impl Settings {
            /// Sets one key; nothing if there is no such key.
            pub(super) fn set(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
                match key {
                    $( stringify!($field) => Some($parse(value).map(|value| self.$field = value)), )*
                    _ => None,
                }
            }
        }
    };
}

settings! {
    data: PathBuf = "data", "directory", path,
        "Where nodes keep their logs and snapshots, each in a directory node-ID of its own, which is created if it is missing. Relative to the working directory. The flag --data sets it as well.";
    cluster: String = "moon", "text", text,
        "Name of the cluster, equal on all its nodes: messages of nodes with another name are refused. Give each cluster its own if their addresses may ever get mixed up.";
    sync: SyncMode = "full", "full or none", one_of(&[("full", SyncMode::Full), ("none", SyncMode::None)]),
        "Whether writes are synced to disk before they count as durable. With none a power failure loses acknowledged writes: for experiments only, and refused unless unsafe_no_sync is on.";
    unsafe_no_sync: bool = "off", "on or off", switch,
        "Confirms that sync=none is meant.";
    tick_ms: Duration = "10", "milliseconds, 1 to 1000", milliseconds(1, 1_000),
        "The clock of the Raft core: heartbeats and election timeouts are multiples of it. Smaller costs processor time while idle, larger makes timeouts coarser.";
    heartbeat_ms: Duration = "50", "milliseconds, 1 to 10000", milliseconds(1, 10_000),
        "How often a leader tells its followers that it is alive. Raise it together with election_ms on slow networks.";
    election_ms: Duration = "300", "milliseconds, 10 to 60000", milliseconds(10, 60_000),
        "Shortest time without a leader after which a follower campaigns; each timeout is drawn between this and twice this. Smaller means faster failover, larger means fewer needless elections when disks or networks stall. At least three heartbeats.";
    forward: bool = "on", "on or off", switch,
        "Whether followers forward requests to the leader. Off: they refuse them and name the leader, which only cluster-aware clients follow.";
    request_timeout_ms: Duration = "5000", "milliseconds, 10 to 600000", milliseconds(10, 600_000),
        "How long a request of a Redis or HTTP client may take before it is answered with an error.";
    idle_timeout_ms: Duration = "0", "milliseconds, 0 for never", milliseconds(0, 86_400_000),
        "Client connections without a request for this long are closed. Set it if clients vanish without closing.";
    stop_timeout_ms: Duration = "5000", "milliseconds, 0 to 600000", milliseconds(0, 600_000),
        "How long SIGTERM and SIGINT let running requests finish before the process ends without them.";
    snapshot_log_bytes: usize = "64MiB", "bytes, 64KiB to 64GiB", bytes(64 << 10, 64 << 30),
        "A snapshot is taken, and the log before it removed, when the log has grown by so much. Smaller saves disk space and makes restarts faster, larger writes fewer snapshots.";
    trailing_entries: usize = "10000", "entries, 0 to 10000000", count(0, 10_000_000),
        "Entries kept behind a snapshot, so that a follower that is a little behind gets entries and not a whole snapshot.";
    trailing_bytes: usize = "16MiB", "bytes, 0 to 16GiB", bytes(0, 16 << 30),
        "Bytes kept behind a snapshot at most; the smaller of both bounds holds.";
    workers: usize = "0", "threads, 0 for one per core", count(0, 1_024),
        "Threads that run fibers. Lower it to leave cores to other programs.";
    stack_bytes: usize = "256KiB", "bytes, 64KiB to 8MiB", bytes(64 << 10, 8 << 20),
        "Address space of a fiber's stack. Memory is used only for the part that was touched.";
    max_connections: usize = "10000", "connections, 1 to 1000000", count(1, 1_000_000),
        "Most client connections of each door; more are refused. The process's limit of open files must allow it.";
    max_pipeline: usize = "1024", "requests, 1 to 65536", count(1, 64 << 10),
        "Most requests of one connection that are executed as one batch.";
    max_inflight_bytes: usize = "256MiB", "bytes, 1MiB to 16GiB", bytes(1 << 20, 16 << 30),
        "Bytes of writes appended by a leader and not yet committed; beyond it writes are refused as overloaded.";
    max_frame_bytes: usize = "64MiB", "bytes, 1MiB to 1GiB", bytes(1 << 20, 1 << 30),
        "Largest frame between nodes and from clerks. Equal on all nodes, and larger than max_command_bytes.";
    max_key_bytes: usize = "64KiB", "bytes, 1 to 64KiB", bytes(1, MAX_KEY_BYTES),
        "Longest key that is accepted.";
    max_value_bytes: usize = "8MiB", "bytes, 1 to 48MiB", bytes(1, 48 << 20),
        "Longest value that is accepted. Large values delay the small ones behind them.";
    max_command_keys: usize = "65536", "keys, 1 to 65536", count(1, MAX_KEYS_PER_COMMAND),
        "Most keys in one command, such as MSET and DEL.";
    max_command_bytes: usize = "16MiB", "bytes, 1KiB to 48MiB", bytes(1 << 10, 48 << 20),
        "Largest sum of keys and values in one command. A command is one log entry and one message.";
    log_level: String = "info", "error, warn, info, debug, trace, or a tracing filter", text,
        "What is logged. A filter such as info,raft_core=debug looks closer at one part.";
    log_format: LogFormat = "text", "text or json", one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        "How log lines are written. JSON for machines that collect them.";
}

impl Settings {
    /// What clients may send.
    pub fn limits(&self) -> Limits {
        Limits {
            key_bytes: self.max_key_bytes,
            value_bytes: self.max_value_bytes,
            keys: self.max_command_keys,
            command_bytes: self.max_command_bytes,
        }
    }

    /// Heartbeat interval in ticks, at least 1.
    pub fn heartbeat_ticks(&self) -> u32 {
        ticks(self.heartbeat_ms, self.tick_ms)
    }

    /// Election timeout in ticks.
    pub fn election_ticks(&self) -> u32 {
        ticks(self.election_ms, self.tick_ms)
    }

    /// Checks the relations between keys; gives the key to blame and the problem.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.sync == SyncMode::None && !self.unsafe_no_sync {
            let problem =
                "none loses acknowledged writes in a power failure; set unsafe_no_sync=on if that is meant";
            return Err(("sync", problem.to_owned()));
        }
        if self.heartbeat_ms < self.tick_ms {
            let problem = format!("must not be shorter than tick_ms ({})", self.tick_ms.as_millis());
            return Err(("heartbeat_ms", problem));
        }
        if self.election_ms < 3 * self.heartbeat_ms {
            let problem =
                format!("must be at least three times heartbeat_ms ({})", self.heartbeat_ms.as_millis());
            return Err(("election_ms", problem));
        }
        if self.max_command_bytes < self.max_value_bytes {
            let problem = format!("must not be smaller than max_value_bytes ({})", self.max_value_bytes);
            return Err(("max_command_bytes", problem));
        }
        if self.max_frame_bytes < 2 * self.max_command_bytes {
            let problem = format!("must be at least twice max_command_bytes ({})", self.max_command_bytes);
            return Err(("max_frame_bytes", problem));
        }
        if self.max_inflight_bytes < self.max_command_bytes {
            let problem = format!("must not be smaller than max_command_bytes ({})", self.max_command_bytes);
            return Err(("max_inflight_bytes", problem));
        }
        Ok(())
    }
}

/// Whether a conf file may set this key.
pub(super) fn is_key(key: &str) -> bool {
    KEYS.iter().any(|known| known.name == key)
}

fn ticks(interval: Duration, tick: Duration) -> u32 {
    let ticks = interval.as_millis().div_ceil(tick.as_millis()).max(1);
    u32::try_from(ticks).expect("both are bounded by their keys")
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// The text of `conf/reference.conf`: every key with its default and what it is for.
pub fn reference() -> String {
    let mut out = String::from(
        "# Every key of a conf file, with its default. A file needs only the nodes; give other keys to change them.\n\
         # Made by `kvserver reference`. Lines are key=value; # begins a comment line. Sizes: 4096, 64KiB, 8MiB, 1GiB.\n\
         # A value comes from the highest of: a flag (--data, --set key=value), the environment (KVSERVER_TICK_MS=20),\n\
         # the file, the default.\n\
         \n\
         # The nodes: ids are 0, 1, 2, ... The same file serves all of them.\n\
         # nodeNip and nodeNport: where node N listens for its peers and for clerks.\n\
         # nodeNresp: for Redis clients; nodeNhttp: for status, health and metrics. A port on the same address or\n\
         # ip:port; without the key there is no such door.\n\
         node0ip=127.0.0.1\n\
         node0port=21920\n\
         node0resp=21930\n\
         node0http=21940\n",
    );
    for key in KEYS {
        out.push('\n');
        let mut line = String::from("#");
        for word in key.why.split(' ') {
            if line.len() + word.len() >= 118 {
                out.push_str(&line);
                out.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        out.push_str(&format!("{line}\n# Value: {}.\n{}={}\n", key.unit, key.name, key.default));
    }
    out
}
