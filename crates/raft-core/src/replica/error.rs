//! What can go wrong with a replica. Whether a command may have been appended is part of every answer.

use std::io;

use crate::core::{ConfigError, Invariant, NodeId, SnapshotMeta};
use crate::snapshot::SnapshotError;
use crate::wal::WalError;

/// Why a replica did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The settings make no sense.
    #[error("invalid replica configuration: {0}")]
    Config(String),
    /// What the log holds does not suit the settings or contradicts itself.
    #[error(transparent)]
    Core(#[from] ConfigError),
    /// The log could not be opened or written.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A snapshot that is needed could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The state machine did not take a snapshot.
    #[error("the state machine refused the snapshot of entry {} (term {}): {source}", meta.last.index, meta.last.term)]
    Restore {
        /// The snapshot.
        meta: SnapshotMeta,
        /// What it said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start the thread of the log: {0}")]
    Thread(io::Error),
    /// An invariant of the protocol does not hold. Going on could lose data.
    #[error("an invariant is broken: {}", .0.message)]
    Invariant(Invariant),
    /// A fiber of the replica panicked.
    #[error("the {0} fiber panicked")]
    Panicked(&'static str),
}

/// Why a proposal has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not appended: this node does not lead, or a new leader replaced what it appended.
    #[error("not the leader; {}", leader.map_or("no leader is known".to_owned(), |id| format!("node {id} is")))]
    NotLeader {
        /// Who does, as far as the node knows.
        leader: Option<NodeId>,
    },
    /// Not appended: too much is under way.
    #[error("too many commands are under way")]
    Overloaded,
    /// Not appended: the leadership is being handed over.
    #[error("the leadership is being handed to node {to}")]
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// Not appended: a command is too large.
    #[error("a command of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not appended: the replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
    /// The commands may or may not be applied, now or later, some of them or all.
    #[error("the outcome is unknown: {reason}")]
    OutcomeUnknown {
        /// What happened.
        reason: &'static str,
    },
}

impl ProposeError {
    /// Whether it is certain that no command of the batch will ever be applied, so that it may be tried again.
    pub fn is_not_appended(&self) -> bool {
        !matches!(self, ProposeError::OutcomeUnknown { .. })
    }
}

/// Why a read was not confirmed. It may always be tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead.
    #[error("not the leader; {}", leader.map_or("no leader is known".to_owned(), |id| format!("node {id} is")))]
    NotLeader {
        /// Who does, as far as the node knows.
        leader: Option<NodeId>,
    },
    /// Too many reads wait.
    #[error("too many reads are waiting")]
    Overloaded,
    /// No majority answered in time, or the state machine is behind.
    #[error("the read was not confirmed in time")]
    TimedOut,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}
