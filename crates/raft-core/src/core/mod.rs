//! The Raft protocol as a pure state machine: events in, effects out.
//!
//! Nothing in this module does I/O, reads a clock, starts a thread, draws global randomness or iterates a hash map;
//! it imports nothing from the rest of the workspace. The same seed and the same events give the same effects.
//! References are to the extended Raft paper (Ongaro, Ousterhout 2014) by section, and to Ongaro's thesis by "thesis §".
//!
//! # What Raft promises
//!
//! A group of nodes agrees on one sequence of commands, the log, and every node applies it to its state machine. As
//! long as a majority of the disks keeps what it was told to keep (paper Figure 3):
//!
//! - *Election Safety*: a term has at most one leader.
//! - *Leader Append-Only*: a leader never takes an entry of its log back.
//! - *Log Matching*: logs that agree on the term of one index agree on everything up to it.
//! - *Leader Completeness*: what was committed in a term is in the log of every later leader.
//! - *State Machine Safety*: nobody ever applies two different commands at one index.
//!
//! The simulation in `tests/core_sim.rs` checks these after every step.
//!
//! # One way in, one way out
//!
//! ```text
//!                      ┌──────────────────────── Core ────────────────────────┐
//!  Tick                │ node/mod       compares terms                        │   Persist  ──► storage
//!  Message        step │ node/follower  node/candidate  node/leader           │   Send     ──► transport
//!  Propose, Read ────► │   │                                                  │ ► Apply, Restore ──► state machine
//!  Persisted           │   ▼                                                  │   Appended, Rejected,
//!  Applied             │ log   progress   read   quorum   gate (durability)   │   ReadReady ──► clients
//!  Snapshot*           └──────────────────────────────────────────────────────┘   SendSnapshot, RoleChanged, Fatal
//! ```
//!
//! [`Core::step`] takes an [`Event`]; [`Core::take_effects`] gives the [`Effect`]s of everything stepped since. A
//! driver that steps everything it has before it takes effects gets batching for nothing: one write, one append per
//! peer, one acknowledgement and one round of heartbeats for the whole batch.
//!
//! # Elections (paper §5.2, §5.4.1)
//!
//! Time is counted in ticks. A follower that hears no leader for a random number of ticks asks the others whether they
//! would vote for it (PreVote, thesis §9.6), and only if a majority would, raises its term, votes for itself, and, *when
//! that vote is durable*, asks for votes. A node votes once a term, for a log at least as long as its own, and not at
//! all while it hears a leader (thesis §6.2), unless that leader itself asked for the election (thesis §3.10). A leader
//! that hears no majority for an election timeout steps down (CheckQuorum).
//!
//! # The log (paper §5.3, §5.4.2)
//!
//! A leader appends commands to its log and streams them to each peer within a window of messages and bytes
//! (`progress`). Each append names the entry before it; a follower that lacks that entry says where the logs might
//! agree, by term and index, so that a whole term of conflicts costs one round trip. An entry of the leader's own term
//! that a majority holds durably is committed, and everything before it with it. The leader's own disk is one of the
//! voters (thesis §10.2.1). Every term starts with an empty entry, so that there is one to commit (paper §8).
//!
//! # Durability (`gate`)
//!
//! Asynchronous storage is the only mode. A write gets a ticket; votes and acknowledgements that depend on it are held
//! until the driver reports it. What a report covers is cut when the log is, so a write that was overwritten while it was
//! under way never counts. A follower acknowledges "my durable log agrees with this term's leader up to here", once
//! for all appends before it. The state machine gets what is committed *and* durable on this node.
//!
//! # Reads (`read`, thesis §6.4)
//!
//! A read waits until a majority has answered a heartbeat that was sent after the read began; then the commit index of
//! that moment is safe to read at. Rounds are told apart by tokens the leader makes.
//!
//! # Snapshots (paper §7)
//!
//! The driver snapshots the state machine and says so; the log before it, but for a tail, is let go. A peer that needs
//! entries that are gone is sent the newest snapshot beside the messages; the receiver's core hears of it when it lies
//! verified in a spool, and decides whether it is news.
//!
//! # Bad input
//!
//! What a peer sends is checked before it is believed: malformed, late, doubled or misdirected messages are ignored or
//! answered, never a panic. What cannot happen unless the protocol's promises are already broken (two leaders in a
//! term, a leader that contradicts a committed entry) becomes [`Effect::Fatal`], with what was found.
//!
//! # What is left out
//!
//! - Membership changes (paper §6, thesis §4) and members that do not vote: entries of kind
//!   [`EntryKind::ConfChange`] are handed to the driver like commands and change nothing. [`Joint`] is ready for them.
//! - Leader leases (thesis §6.4.1): every read costs its share of a round of heartbeats.
//! - Forwarding of proposals and reads by followers: the driver is told who leads.
//! - A node that lost its disk and returns under its old number is not detected. Storage must know its own damage.
//! - Applying before the own disk has an entry, and reading entries back from disk; see `log`.

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
