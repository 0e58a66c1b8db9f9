//! What a core tells about itself: for metrics, status pages, tests and the driver's decisions.

use super::progress::ReplicationState;
use super::types::{ConfState, EntryId, Index, NodeId, Role, Term};

/// A core's state at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// The current term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
    /// The known leader of that term.
    pub leader: Option<NodeId>,
    /// Highest index known to be committed.
    pub commit_index: Index,
    /// Highest index the state machine has applied.
    pub applied_index: Index,
    /// The last entry of the log.
    pub last: EntryId,
    /// Highest index up to which the log is durable on this node.
    pub persisted_index: Index,
    /// The entry before the first one in memory: earlier ones live in the snapshot only.
    pub compacted: EntryId,
    /// The members.
    pub conf: ConfState,
    /// As a leader: bytes appended and not yet committed, durable and applied.
    pub backlog_bytes: u64,
    /// As a leader: reads that wait for confirmation.
    pub waiting_reads: usize,
    /// As a leader: to whom the leadership is being handed.
    pub transferring: Option<NodeId>,
    /// As a leader: the other members, in ascending order.
    pub peers: Vec<PeerStatus>,
}

/// What a leader knows about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Highest index at which its durable log agrees with the leader's.
    pub match_index: Index,
    /// The next entry it will be sent.
    pub next_index: Index,
    /// How it is being fed.
    pub state: ReplicationState,
    /// Appends in flight to it.
    pub inflight: usize,
    /// Whether it was heard since the last CheckQuorum.
    pub recent_active: bool,
}
