//! The Redis door: RESP2 and RESP3 on fibers.
//!
//! A connection is one fiber. It reads, decodes every complete request of the read, hands them to the node as one batch,
//! and sends all replies at once:
//!
//! ```text
//!   socket ──► decode ──► command table ──► Backend::execute (one batch) ──► encode ──► socket
//! ```

pub mod decode;
pub mod encode;

pub use decode::{Limits, ProtocolError};
pub use encode::Version;
