//! Everything that can happen to a core: a closed list, so that there is one way in.

use bytes::Bytes;

use super::message::Message;
use super::types::{Index, NodeId, SnapshotMeta, Tag, Ticket};

/// An input of the core.
#[derive(Clone, Debug)]
pub enum Event {
    /// One tick of logical time has passed. The driver decides how long a tick is.
    Tick,
    /// A message arrived from another node.
    Message(Message),
    /// A client wants these commands appended, in this order and without others between them.
    /// Answered by [`Effect::Appended`] or [`Effect::Rejected`].
    ///
    /// [`Effect::Appended`]: super::Effect::Appended
    /// [`Effect::Rejected`]: super::Effect::Rejected
    Propose {
        /// Echoed in the answer.
        tag: Tag,
        /// Commands, one entry each.
        commands: Vec<Bytes>,
    },
    /// A client wants to read. Answered by [`Effect::ReadReady`] or [`Effect::Rejected`].
    ///
    /// [`Effect::ReadReady`]: super::Effect::ReadReady
    /// [`Effect::Rejected`]: super::Effect::Rejected
    Read {
        /// Echoed in the answer.
        tag: Tag,
    },
    /// Storage has made this ticket, and all before it, durable.
    Persisted {
        /// The ticket of [`Effect::Persist`](super::Effect::Persist).
        ticket: Ticket,
    },
    /// The state machine has applied everything up to this index.
    Applied {
        /// Last applied index.
        index: Index,
    },
    /// A snapshot of the own state machine is durable: the log before it may go.
    SnapshotSaved {
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// A snapshot from the leader has arrived whole and verified, and lies in the spool.
    SnapshotReceived {
        /// The leader that sent it.
        from: NodeId,
        /// The term it was sent in.
        term: super::types::Term,
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// The transfer that [`Effect::SendSnapshot`](super::Effect::SendSnapshot) asked for has ended.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// What was sent, if all of it arrived.
        meta: Option<SnapshotMeta>,
    },
    /// A message to this peer was dropped: fall back to probing it.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// Hand the leadership to this peer (thesis §3.10).
    TransferLeadership {
        /// The peer that should lead.
        to: NodeId,
    },
    /// Start an election now. For tests and operators.
    Campaign,
}

/// Why the core did not take a proposal or a read. Nothing was appended: the client may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// This node does not lead.
    NotLeader {
        /// Who does, as far as the node knows.
        leader: Option<NodeId>,
    },
    /// Too many bytes are appended but not committed, durable and applied, or too many reads wait.
    Overloaded,
    /// The leadership is being handed over.
    Transferring {
        /// To whom.
        to: NodeId,
    },
}
