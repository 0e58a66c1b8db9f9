//! What clients ask of the store and what it answers, in the form every front door and the log share.
//!
//! [`mod@write`] is what goes through the log, [`read`] is what does not, [`backend`] is the door the front doors knock
//! at, and [`codec`] is the binary form of all of it: in log entries, in snapshots' session tables and in the frames
//! that followers forward to the leader.

pub mod write;

pub mod read;

pub mod backend;

pub mod codec;

mod encoding;

#[cfg(test)]
mod tests;

pub use backend::{
    Backend, KvError, Member, NodeStatus, Refusal, Request, Response, Role, decode_answers, decode_requests,
    encode_answers, encode_requests,
};
pub use codec::DecodeError;
pub use read::{Read, ReadOutcome, ScanPage};
pub use write::{Command, CommandError, Condition, Limits, Outcome, Session, Write};
