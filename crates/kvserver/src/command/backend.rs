//! The door between the client protocols and the node: a batch of requests in, an answer for each of them out.

use std::time::Instant;

use bytes::Bytes;
use raft_core::core::NodeId;
use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Reader, VERSION, put_varint};
use super::read::{Read, ReadOutcome};
use super::write::{Command, Outcome};

/// Most requests in one encoded batch.
pub const MAX_BATCH_REQUESTS: usize = 64 << 10;

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A change, through the log.
    Write(Command),
    /// A question, linearizable.
    Read(Read),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Write`].
    Written(Outcome),
    /// To [`Request::Read`].
    Read(ReadOutcome),
}

/// Why a request has no answer. The two kinds must never be mixed up: clients send a refused command again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The command was not appended to the log and never will be: sending it again is safe.
    #[error("not appended: {reason}")]
    NotAppended {
        /// Why.
        reason: Refusal,
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The command may have been appended, or may still be: it can have taken effect, now or later. Only a client
    /// with a session may send it again.
    #[error("outcome unknown: {reason}")]
    OutcomeUnknown {
        /// What happened, for people.
        reason: String,
    },
    /// The request is not one this node takes; sending it again does not help. Nothing was appended.
    #[error("{message}")]
    Invalid {
        /// What is wrong with it, for people.
        message: String,
    },
}

impl KvError {
    /// A refusal without a known leader.
    pub fn refused(reason: Refusal) -> KvError {
        KvError::NotAppended { reason, leader: None }
    }
}

/// Why a command was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No leader is known, and none appeared in time.
    #[error("no leader")]
    NoLeader,
    /// Another node leads, and this one does not forward.
    #[error("not the leader")]
    NotLeader,
    /// The leader is known but cannot be reached from here.
    #[error("leader unreachable")]
    LeaderUnreachable,
    /// Too much is queued: slow down and try again.
    #[error("overloaded")]
    Overloaded,
    /// The leadership is being handed over.
    #[error("leadership transfer in progress")]
    Transferring,
    /// The node has not recovered its state yet.
    #[error("node is starting")]
    Starting,
    /// The node is shutting down.
    #[error("node is stopping")]
    Stopping,
    /// The deadline passed before the command was handed over.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// An earlier request of the same batch failed, so this one was not started.
    #[error("an earlier request of the batch failed")]
    Skipped,
}

/// What the front doors talk to: a node, or in tests something simpler.
pub trait Backend: Send + Sync + 'static {
    /// Executes a batch in order: a request sees the effect of every earlier write of the batch. Answers come in the
    /// order of the requests, one each. Called on a fiber, which waits; other fibers' batches run at the same time.
    fn execute(&self, batch: Vec<Request>, deadline: Instant) -> Vec<Result<Response, KvError>>;

    /// Where the node stands, without waiting for anything.
    fn status(&self) -> NodeStatus;

    /// Appends metrics in the Prometheus text format.
    fn metrics(&self, out: &mut String);

    /// Whether the node can serve clients now; if not, why.
    ///
    /// # Errors
    /// The reason, for people.
    fn ready(&self) -> Result<(), String>;
}

/// The role of a node, as `/status` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Has not recovered its state yet.
    #[default]
    Starting,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl Role {
    /// The word that `/status` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Starting => "starting",
            Role::Follower => "follower",
            Role::PreCandidate => "pre_candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

/// Where a node stands: the JSON of `/status` and of `kvctl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// This node.
    pub id: u64,
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Milliseconds since the process started to serve.
    pub uptime_ms: u64,
    /// Role.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// The known leader of that term.
    pub leader_id: Option<u64>,
    /// Highest index known to be committed.
    pub commit_index: u64,
    /// Highest applied index.
    pub applied_index: u64,
    /// Index of the last entry in the log.
    pub last_log_index: u64,
    /// Last index the newest snapshot includes; 0 without one.
    pub snapshot_index: u64,
    /// Changes of the store since its beginning.
    pub revision: u64,
    /// Keys in the store.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub live_bytes: u64,
    /// Client sessions in the table.
    pub sessions: u64,
    /// Syncs of the write-ahead log since the process started.
    pub fsyncs: u64,
    /// Bytes written to the write-ahead log since the process started.
    pub wal_bytes: u64,
    /// Hash of the state at `applied_index`, 16 hexadecimal digits: equal on all nodes at equal applied index.
    pub state_hash: String,
    /// The cluster's nodes and where they listen.
    pub members: Vec<Member>,
}

/// One node of the cluster and where it listens (`ip:port` each).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub id: u64,
    /// Between nodes, and for clerks.
    pub rpc: String,
    /// For Redis clients.
    pub resp: String,
    /// For metrics, health and status.
    pub http: String,
}

/// The binary form of a batch, for forwarding: version byte, count, requests.
pub fn encode_requests(batch: &[Request]) -> Bytes {
    let payload: usize = batch.iter().map(Request::payload_bytes).sum();
    let mut out = Vec::with_capacity(payload + 32 * batch.len() + 16);
    out.push(VERSION);
    put_varint(&mut out, batch.len() as u64);
    for request in batch {
        request.put(&mut out);
    }
    Bytes::from(out)
}

/// Reads what [`encode_requests`] wrote.
///
/// # Errors
/// The first thing that is not as it would have been written.
pub fn decode_requests(bytes: Bytes) -> Result<Vec<Request>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.version()?;
    let batch = reader.list(MAX_BATCH_REQUESTS, Request::take)?;
    reader.finish()?;
    Ok(batch)
}

/// The binary form of a batch's answers: version byte, count, answers.
pub fn encode_answers(answers: &[Result<Response, KvError>]) -> Bytes {
    let mut out = Vec::with_capacity(16 * answers.len() + 16);
    out.push(VERSION);
    put_varint(&mut out, answers.len() as u64);
    for answer in answers {
        super::encoding::put_answer(&mut out, answer);
    }
    Bytes::from(out)
}

/// Reads what [`encode_answers`] wrote.
///
/// # Errors
/// The first thing that is not as it would have been written.
pub fn decode_answers(bytes: Bytes) -> Result<Vec<Result<Response, KvError>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.version()?;
    let answers = reader.list(MAX_BATCH_REQUESTS, super::encoding::take_answer)?;
    reader.finish()?;
    Ok(answers)
}
