//! Everything that can happen to the owner fiber: a closed list, so that there is one way in.

use std::time::Instant;

use bytes::Bytes;
use fiber_runtime::sync::oneshot;

use crate::core::{Index, Message, NodeId, SnapshotMeta, Term};

use super::error::{ProposeError, ReadError};
use super::pending::Admission;

/// An input of the owner fiber.
pub(super) enum ReplicaEvent<O> {
    /// Something outside the queue has changed: writes are durable, entries are applied, or it is time to stop.
    Nudge,
    /// Messages of peers.
    Deliver(Delivery),
    /// Commands of a client.
    Propose(Proposal<O>),
    /// A client wants to read.
    Read(ReadRequest),
    /// An own snapshot is durable.
    SnapshotSaved(SnapshotMeta),
    /// A snapshot from the leader is whole and durable.
    SnapshotReceived { from: NodeId, term: Term, meta: SnapshotMeta },
    /// A transfer has ended, well or not.
    SnapshotSent { to: NodeId, meta: Option<SnapshotMeta> },
    /// Take a snapshot now.
    TriggerSnapshot,
    /// Hand the leadership over.
    Transfer(NodeId),
    /// Start an election now.
    Campaign,
}

/// Messages and the bytes of their entries, which are counted while they wait.
pub(super) struct Delivery {
    pub(super) messages: Vec<Message>,
    pub(super) bytes: usize,
}

/// Commands that want to be appended together.
pub(super) struct Proposal<O> {
    pub(super) commands: Vec<Bytes>,
    pub(super) deadline: Instant,
    pub(super) reply: ProposalReply<O>,
    pub(super) admission: Admission,
}

/// Wakes the client of a proposal.
pub(super) type ProposalReply<O> = oneshot::Sender<Result<Vec<O>, ProposeError>>;

/// A client that waits for the index its read must see.
pub(super) struct ReadRequest {
    pub(super) deadline: Instant,
    pub(super) reply: ReadReply,
}

/// Wakes a reader.
pub(super) type ReadReply = oneshot::Sender<Result<Index, ReadError>>;
