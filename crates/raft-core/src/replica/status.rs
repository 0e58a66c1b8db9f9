//! What a replica tells about itself.

use crate::core::{Index, NodeId, PeerStatus, Role, Term};
use crate::wal::WalStats;

/// A replica at one moment, for status pages and metrics.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// This node.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// The current term.
    pub term: Term,
    /// The known leader of that term.
    pub leader: Option<NodeId>,
    /// Highest index known to be committed.
    pub commit_index: Index,
    /// Highest index the state machine has applied.
    pub applied_index: Index,
    /// The last entry of the log.
    pub last_log_index: Index,
    /// Highest index that is durable on this node.
    pub persisted_index: Index,
    /// The last entry of the newest durable snapshot.
    pub snapshot_index: Index,
    /// As a leader: bytes appended and not yet committed, durable and applied.
    pub backlog_bytes: u64,
    /// As a leader: reads that wait for confirmation.
    pub waiting_reads: usize,
    /// Syncs of the log since the start.
    pub fsyncs: u64,
    /// Bytes written to the log since the start.
    pub wal_bytes: u64,
    /// All counters of the log.
    pub wal: WalStats,
    /// Counters of the replica since the start.
    pub counters: ReplicaCounters,
    /// Commands that wait for their result.
    pub pending_commands: usize,
    /// Why the replica stopped, if it did.
    pub stopped: Option<String>,
    /// As a leader: the other members.
    pub peers: Vec<PeerStatus>,
}

/// What a replica has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaCounters {
    /// Commands proposed here and appended.
    pub proposed: u64,
    /// Proposals given to the core; each gathers the commands of all clients that came together.
    pub proposals: u64,
    /// Reads confirmed here.
    pub reads: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that the transport dropped.
    pub dropped: u64,
    /// Messages received.
    pub received: u64,
    /// Messages refused because too many events were waiting.
    pub refused: u64,
    /// Times the role, the term or the known leader changed.
    pub role_changes: u64,
    /// Own snapshots saved.
    pub snapshots_saved: u64,
    /// Snapshots sent to others.
    pub snapshots_sent: u64,
    /// Snapshots received from a leader and installed.
    pub snapshots_installed: u64,
}
