//! The nouns of the paper: node, term, index, entry, hard state, snapshot position.

use bytes::Bytes;

/// A term, Raft's logical clock (paper §5.1). 0 is before the first election.
pub type Term = u64;

/// A position in the log (paper §5.3). The first entry has index 1; 0 means "before the log".
pub type Index = u64;

/// Identifies a request of the driver to the core, echoed in the effect that answers it. The driver chooses it;
/// the core never sends it to another node.
pub type Tag = u64;

/// Identifies one write to stable storage. Tickets of a node increase by one with every [`Effect::Persist`], and
/// storage completes them in that order.
///
/// [`Effect::Persist`]: super::Effect::Persist
pub type Ticket = u64;

/// A member of the cluster. Conf files and paths show the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The role of a node (paper §5.1, and §9.6 of the thesis for the pre-candidate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers leaders and candidates.
    Follower,
    /// Asks whether it could win an election, without raising its term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Serves clients and replicates the log.
    Leader,
}

/// A log position together with the term that was written there: two logs that agree on one agree up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryId {
    /// Term of the entry.
    pub term: Term,
    /// Index of the entry.
    pub index: Index,
}

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command of the state machine.
    Command,
    /// Nothing: the entry a leader appends at the start of its term, so that earlier entries can commit (paper §8).
    Noop,
    /// A configuration change. Reserved; no leader of this version proposes one.
    ConfChange,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands, and in which term a leader made it.
    pub id: EntryId,
    /// What it carries.
    pub kind: EntryKind,
    /// The payload; empty for [`EntryKind::Noop`].
    pub data: Bytes,
}

impl Entry {
    /// What an entry costs beside its payload, in memory and roughly on the wire.
    const OVERHEAD: usize = 32;

    /// Bytes this entry counts for in every limit of the core: its payload and a fixed cost, so that empty entries are
    /// bounded as well.
    pub fn size(&self) -> usize {
        Entry::size_of(&self.data)
    }

    /// [`Entry::size`] of an entry with this payload.
    pub(super) fn size_of(data: &Bytes) -> usize {
        Entry::OVERHEAD + data.len()
    }
}

/// What a node must not forget across a restart (paper Figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term the node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
    /// Highest index it knew to be committed and durable here. Advisory: a restart may start from an older one.
    pub commit_index: Index,
}

/// The voting members. Sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Voters in ascending order.
    pub voters: Vec<NodeId>,
}

/// The position a snapshot stands for: the state after applying everything up to and including `last`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Last entry the snapshot includes.
    pub last: EntryId,
    /// Membership at that entry.
    pub conf: ConfState,
}
