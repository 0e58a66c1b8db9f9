//! The Raft protocol as a pure state machine: events in, effects out.
//!
//! Nothing in this module does I/O, reads a clock, starts a thread, draws global randomness or iterates a hash map;
//! it imports nothing from the rest of the workspace. The same seed and the same events give the same effects.

mod config;
mod effect;
mod event;
mod gate;
mod log;
mod message;
mod node;
mod progress;
mod quorum;
mod random;
mod read;
mod status;
mod types;

pub use config::{Config, ConfigError};
pub use effect::{Effect, Invariant};
pub use event::{Event, RejectReason};
pub use message::{
    AppendEntries, AppendRejection, AppendResponse, Body, Heartbeat, HeartbeatResponse, Message, ReadToken,
    RequestVote, VoteResponse,
};
pub use node::{Core, Restored};
pub use progress::ReplicationState;
pub use quorum::{Joint, Majority, VoteResult};
pub use status::{PeerStatus, Status};
pub use types::{
    ConfState, Entry, EntryId, EntryKind, HardState, Index, NodeId, Role, SnapshotMeta, Tag, Term, Ticket,
};
