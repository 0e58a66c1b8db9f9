//! What the core wants done. The driver carries effects out in the order they are given.

use super::event::RejectReason;
use super::message::Message;
use super::types::{Entry, EntryId, HardState, Index, NodeId, Role, SnapshotMeta, Tag, Term, Ticket};

/// An output of the core.
///
/// The contract of the driver:
/// 1. [`Effect::Persist`] effects reach stable storage in the order they were given, and each is reported by
///    [`Event::Persisted`](super::Event::Persisted) after it is durable, never before.
/// 2. [`Effect::Send`] may be carried out at once: a message that promises durability is given only after the
///    ticket it depends on was reported. Messages may be lost, doubled or reordered.
/// 3. [`Effect::Apply`] and [`Effect::Restore`] reach the state machine in the order they were given.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make this durable, all of it or (after a crash in the middle) a prefix in the order hard state, snapshot,
    /// entries.
    Persist {
        /// Reported back when it is.
        ticket: Ticket,
        /// The new hard state, if it changed.
        hard_state: Option<HardState>,
        /// Entries to append. If the first one's index is not past the end of the stored log, the log is cut there
        /// first.
        entries: Vec<Entry>,
        /// A snapshot that replaces the log: everything up to it is dropped, and unless the stored log holds the
        /// entry `last` itself, everything after it as well. Comes before `entries`.
        snapshot: Option<SnapshotMeta>,
        /// Whether the write must be synced for its ticket to count. False when only the commit index moved: such
        /// a write may ride with a later one, but is reported all the same.
        must_sync: bool,
    },
    /// Give this message to the transport.
    Send(Message),
    /// Apply these committed entries, in order. Every kind of entry is given, so that indices stay contiguous.
    Apply {
        /// Consecutive entries.
        entries: Vec<Entry>,
    },
    /// Replace the state machine's state by the received snapshot in the spool; it is committed.
    Restore {
        /// What it stands for.
        meta: SnapshotMeta,
    },
    /// This peer needs a snapshot: stream the newest one, then report
    /// [`Event::SnapshotSent`](super::Event::SnapshotSent). The receiver should acknowledge the last piece only after
    /// [`Event::SnapshotReceived`](super::Event::SnapshotReceived) is on its way to its core, so that the appends that
    /// follow find the snapshot installed.
    SendSnapshot {
        /// The receiver.
        to: NodeId,
        /// The term of the leader that sends it.
        term: Term,
    },
    /// The commands of this tag were appended at `first.index`, `first.index + 1`, ... in term `first.term`.
    /// They are not committed yet.
    Appended {
        /// From the proposal.
        tag: Tag,
        /// Position of the first command.
        first: EntryId,
        /// How many.
        count: u64,
    },
    /// The proposal or read of this tag was not taken, or a read was dropped when leadership ended. For a proposal
    /// this means that nothing was appended.
    Rejected {
        /// From the proposal or read.
        tag: Tag,
        /// Why.
        reason: RejectReason,
    },
    /// The read of this tag is linearizable once everything up to `index` is applied.
    ReadReady {
        /// From the read.
        tag: Tag,
        /// What must be applied first.
        index: Index,
    },
    /// The role, the term or the known leader changed.
    RoleChanged {
        /// The new role.
        role: Role,
        /// The current term.
        term: Term,
        /// The known leader of that term.
        leader: Option<NodeId>,
    },
    /// An invariant of the protocol does not hold. The driver must stop this group: continuing could lose data.
    Fatal(Invariant),
}

/// A broken invariant, with what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// The statement that does not hold, with its operands.
    pub message: String,
}
