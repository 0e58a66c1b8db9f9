//! What nodes say to each other. Snapshot contents travel beside these messages, see [`Effect::SendSnapshot`].
//!
//! [`Effect::SendSnapshot`]: super::Effect::SendSnapshot

use super::types::{Entry, EntryId, Index, NodeId, Term};

/// One message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; for a PreVote request, and for a granted answer to one, the term it would campaign in.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Paper §5.2, thesis §9.6.
    RequestVote(RequestVote),
    /// Answer to [`Body::RequestVote`].
    VoteResponse(VoteResponse),
    /// Paper §5.3.
    AppendEntries(AppendEntries),
    /// Answer to [`Body::AppendEntries`], and to an installed snapshot.
    AppendResponse(AppendResponse),
    /// The leader is alive; carries the commit index and a read token (thesis §6.4).
    Heartbeat(Heartbeat),
    /// Answer to [`Body::Heartbeat`].
    HeartbeatResponse(HeartbeatResponse),
    /// The leader asks the receiver to campaign at once (thesis §3.10).
    TimeoutNow,
}

/// Asks for a vote, or with `pre_vote` whether one would be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestVote {
    /// Position of the candidate's last entry.
    pub last: EntryId,
    /// Whether this is only a question (thesis §9.6).
    pub pre_vote: bool,
    /// Set when the leader asked for this campaign: voters then ignore their lease on the old leader.
    pub leader_transfer: bool,
}

/// A vote, or the answer to a PreVote question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteResponse {
    /// Whether the vote is given.
    pub granted: bool,
    /// Echo of [`RequestVote::pre_vote`].
    pub pre_vote: bool,
}

/// Entries after `prev`, to be appended if the receiver's log matches there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntries {
    /// The entry just before the first of `entries`.
    pub prev: EntryId,
    /// Consecutive entries, possibly none.
    pub entries: Vec<Entry>,
    /// The leader's commit index.
    pub commit_index: Index,
}

/// Whether an append matched, and where the follower's log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResponse {
    /// The logs agree, durably, up to this index.
    Accepted {
        /// Highest index known to match the leader's log.
        match_index: Index,
    },
    /// The follower has no entry that matches `prev`.
    Rejected(AppendRejection),
}

/// Term and index of the conflict, so that the leader skips a whole term per round trip (paper §5.3, last part).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendRejection {
    /// The `prev.index` that was refused: tells a late rejection from a current one.
    pub rejected_index: Index,
    /// The largest index at which the follower's log might still match, and the term it holds there.
    pub hint: EntryId,
}

/// A read token of one leader: later heartbeats carry larger ones. Made by the leader, never by a client, so that
/// a late answer cannot confirm a newer read.
pub type ReadToken = u64;

/// Sent to every peer at each heartbeat interval and when a read waits for confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Commit index, never above what the receiver is known to have.
    pub commit_index: Index,
    /// Newest token of the leader; the echo confirms all reads up to it.
    pub read_token: ReadToken,
}

/// Echo of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// Echo of [`Heartbeat::read_token`].
    pub read_token: ReadToken,
}
