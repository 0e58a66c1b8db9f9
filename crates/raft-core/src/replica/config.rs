//! Settings of a replica.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Observer;
use crate::core::{Config, NodeId};
use crate::snapshot::SnapshotStoreConfig;

/// Settings of one replica. What happens at a limit is said beside it.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Settings of the protocol.
    pub core: Config,
    /// The directory of this node: `wal/` and `snapshots/` live in it.
    pub dir: PathBuf,
    /// Length of a tick of the core.
    pub tick: Duration,
    /// Size of a log segment; see [`WalConfig`](crate::wal::WalConfig).
    pub segment_bytes: u64,
    /// How far a segment is filled ahead; see [`WalConfig`](crate::wal::WalConfig).
    pub fill_bytes: u64,
    /// Alignment of log batches; see [`WalConfig`](crate::wal::WalConfig).
    pub block_bytes: u32,
    /// A snapshot is taken after this many entries since the last one.
    pub snapshot_entries: u64,
    /// ... or after this many bytes of commands,
    pub snapshot_log_bytes: u64,
    /// ... or after this many bytes of log, which is more: each batch takes whole blocks. Bounds the size of the log on
    /// disk, and with it the time of a restart.
    pub snapshot_wal_bytes: u64,
    /// How many snapshots are kept and how large they may be.
    pub snapshots: SnapshotStoreConfig,
    /// Bytes of a snapshot sent at once.
    pub chunk_bytes: usize,
    /// How long a chunk may take before its transfer is given up.
    pub chunk_timeout: Duration,
    /// Events that wait for the replica. Messages beyond are dropped, proposals and reads wait.
    pub max_queued_events: usize,
    /// Bytes of messages that wait for the replica. Messages beyond are dropped.
    pub max_queued_bytes: usize,
    /// Commands that wait for their result. Proposals beyond are refused as overloaded.
    pub max_pending_commands: usize,
    /// Bytes of those commands; likewise.
    pub max_pending_bytes: usize,
    /// The largest command. Larger ones are refused.
    pub max_command_bytes: usize,
    /// Bytes of commands that are given to the core as one proposal.
    pub max_merged_bytes: usize,
    /// Sees every step of the core. None but in the simulator.
    pub observer: Option<Arc<dyn Observer>>,
}

impl ReplicaConfig {
    /// Defaults for node `id` of `voters` with its data in `dir`: ticks of 10 ms, so elections after 150 to 300 ms.
    pub fn new(id: NodeId, voters: Vec<NodeId>, dir: impl Into<PathBuf>) -> ReplicaConfig {
        ReplicaConfig {
            core: Config::new(id, voters),
            dir: dir.into(),
            tick: Duration::from_millis(10),
            segment_bytes: 64 << 20,
            fill_bytes: 4 << 20,
            block_bytes: 4096,
            snapshot_entries: 1_000_000,
            snapshot_log_bytes: 256 << 20,
            snapshot_wal_bytes: 512 << 20,
            snapshots: SnapshotStoreConfig::default(),
            chunk_bytes: 1 << 20,
            chunk_timeout: Duration::from_secs(10),
            max_queued_events: 4096,
            max_queued_bytes: 128 << 20,
            max_pending_commands: 1 << 16,
            max_pending_bytes: 256 << 20,
            max_command_bytes: 16 << 20,
            max_merged_bytes: 4 << 20,
            observer: None,
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self) -> Result<(), String> {
        self.core.validate().map_err(|error| error.to_string())?;
        let positive = [
            ("tick", self.tick.as_nanos() as u64),
            ("snapshot_entries", self.snapshot_entries),
            ("snapshot_log_bytes", self.snapshot_log_bytes),
            ("snapshot_wal_bytes", self.snapshot_wal_bytes),
            ("chunk_bytes", self.chunk_bytes as u64),
            ("chunk_timeout", self.chunk_timeout.as_nanos() as u64),
            ("max_queued_events", self.max_queued_events as u64),
            ("max_queued_bytes", self.max_queued_bytes as u64),
            ("max_pending_commands", self.max_pending_commands as u64),
            ("max_pending_bytes", self.max_pending_bytes as u64),
            ("max_command_bytes", self.max_command_bytes as u64),
            ("max_merged_bytes", self.max_merged_bytes as u64),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must not be zero"));
        }
        if self.max_command_bytes > MAX_COMMAND_BYTES {
            return Err(format!(
                "max_command_bytes ({}) exceeds {MAX_COMMAND_BYTES}",
                self.max_command_bytes
            ));
        }
        Ok(())
    }
}

/// What fits into one batch of the log with room to spare.
const MAX_COMMAND_BYTES: usize = 64 << 20;
