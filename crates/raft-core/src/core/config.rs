//! What a core needs to know before it starts.

use super::types::NodeId;

/// Settings of one core. Bytes of entries are counted by [`Entry::size`](super::Entry::size). Ticks are units of logical time; the driver sends [`Event::Tick`](super::Event::Tick).
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// The voters of a cluster that has no snapshot yet. Must contain `id`. Sorted by [`Config::validate`]'s caller.
    pub voters: Vec<NodeId>,
    /// Ticks between two heartbeats of a leader. At least 1.
    pub heartbeat_ticks: u32,
    /// Shortest election timeout; each is drawn from `[election_ticks, 2 * election_ticks)` (paper §9.3). Also how
    /// long a leader lives without hearing from a majority (CheckQuorum). Must exceed `heartbeat_ticks`.
    pub election_ticks: u32,
    /// Ask before raising the term (thesis §9.6). On by default.
    pub pre_vote: bool,
    /// Leaders step down without a majority, followers keep to a leader they hear (thesis §6.2). On by default.
    pub check_quorum: bool,
    /// Largest sum of bytes in one AppendEntries; one entry may exceed it.
    pub max_append_bytes: usize,
    /// Most AppendEntries in flight to one peer.
    pub max_inflight_messages: usize,
    /// Most bytes in flight to one peer.
    pub max_inflight_bytes: usize,
    /// Most bytes in the leader's log that are not yet committed, durable and applied; proposals beyond are rejected
    /// as overloaded, unless there are none at all. A follower whose state machine is this far behind takes no more
    /// entries until it has caught up.
    pub max_uncommitted_bytes: usize,
    /// Most reads that wait for confirmation; reads beyond are rejected as overloaded.
    pub max_waiting_reads: usize,
    /// Largest sum of bytes in one `Effect::Apply`; one entry may exceed it.
    pub max_apply_bytes: usize,
    /// Entries kept in memory behind a snapshot, so that a follower that is a little behind needs no snapshot.
    pub trailing_entries: u64,
    /// Bytes kept behind a snapshot at most; the smaller of the two bounds holds.
    pub trailing_bytes: usize,
    /// Seeds the election timeouts. Nodes of one cluster need different seeds.
    pub seed: u64,
}

impl Config {
    /// A configuration with the defaults of this crate for node `id` of `voters`.
    pub fn new(id: NodeId, mut voters: Vec<NodeId>) -> Config {
        voters.sort_unstable();
        voters.dedup();
        Config {
            id,
            voters,
            heartbeat_ticks: 3,
            election_ticks: 15,
            pre_vote: true,
            check_quorum: true,
            max_append_bytes: 1 << 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 16 << 20,
            max_uncommitted_bytes: 256 << 20,
            max_waiting_reads: 1 << 17,
            max_apply_bytes: 4 << 20,
            trailing_entries: 10_000,
            trailing_bytes: 16 << 20,
            seed: id.0,
        }
    }

    /// Checks the relations between the fields.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError(message));
        if self.heartbeat_ticks == 0 {
            return fail("heartbeat_ticks must be at least 1".to_owned());
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return fail(format!(
                "election_ticks ({}) must exceed heartbeat_ticks ({})",
                self.election_ticks, self.heartbeat_ticks
            ));
        }
        if !self.voters.contains(&self.id) {
            return fail(format!("node {} is not among the voters {:?}", self.id, self.voters));
        }
        if !self.voters.is_sorted() {
            return fail(format!("voters {:?} are not in ascending order", self.voters));
        }
        if self.max_append_bytes == 0 || self.max_inflight_messages == 0 || self.max_inflight_bytes == 0 {
            return fail(
                "max_append_bytes, max_inflight_messages and max_inflight_bytes must be at least 1".into(),
            );
        }
        Ok(())
    }
}

/// A relation between configuration fields, or between the parts of a stored state, that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("raft cannot start: {0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// An error that says which relation does not hold.
    pub(super) fn new(message: String) -> ConfigError {
        ConfigError(message)
    }
}
