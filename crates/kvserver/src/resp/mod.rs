//! The Redis door: RESP2 and RESP3 on fibers.
//!
//! A connection is one fiber. It reads, decodes every complete request of the read, hands them to the node as one batch,
//! and sends all replies at once:
//!
//! ```text
//!   socket ──► decode ──► command table ──► Backend::execute (one batch) ──► encode ──► socket
//!                              └── local commands are answered in their place ──┘
//! ```
//!
//! What is not here: TTL, transactions, types other than strings, pub/sub. Each of them is answered with an error that
//! says so. `-MOVED` is never sent: a follower forwards, so every node takes every command.

pub mod server;

mod connection;

pub mod decode;

mod table;

mod data;

mod local;

mod reply;

pub mod encode;

mod cursor;

mod glob;

pub use decode::{Limits, ProtocolError};
pub use encode::Version;
pub use server::{Config, Server, ServerHandle};
