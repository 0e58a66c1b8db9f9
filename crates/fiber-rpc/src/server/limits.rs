//! What a server takes from its peers before it says no, and what it does then.

use std::time::Duration;

use crate::frame::FrameLimits;

/// Limits of a [`Server`](super::Server). None of them is optional: a peer can never take more than they allow.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at once; one more is told so (a go-away frame with [`Code::Overloaded`](crate::Code::Overloaded)) and
    /// closed. Default 10,000.
    pub max_connections: usize,
    /// Calls of one connection that run in fibers at once; one more is answered with overloaded. Default 4,096.
    pub max_calls_per_connection: usize,
    /// Calls of all connections that run in fibers at once, as above. Default 65,536.
    pub max_calls: usize,
    /// Bytes of arguments held by the running calls of one connection, as above. Default 128 MiB.
    pub max_call_bytes_per_connection: usize,
    /// Bytes of arguments held by the running calls of all connections, as above. Default 1 GiB.
    pub max_call_bytes: usize,
    /// Frames that are accepted. Longer payloads are answered with invalid argument and skipped; longer headers end the
    /// connection. Replies longer than the payload limit become an internal error. Default 8 KiB and 64 MiB.
    pub frame: FrameLimits,
    /// Replies of one connection that wait to be sent: at the limit its requests are no longer read. Default 4,096.
    pub reply_queue_frames: usize,
    /// Bytes of replies that wait to be sent, as above. Default 4 MiB.
    pub reply_queue_bytes: usize,
    /// The first frame must be complete so long after the connection was accepted. Default 10 s.
    pub handshake_timeout: Duration,
    /// A connection on which nothing arrives and nothing runs for so long is closed. Channels ping more often. Default 120 s.
    pub idle_timeout: Duration,
    /// A frame must be complete so long after its first byte, plus its size at `min_bytes_per_second`; or the connection is
    /// closed. Default 30 s.
    pub frame_timeout: Duration,
    /// See `frame_timeout`. Default 256 KiB/s.
    pub min_bytes_per_second: u64,
    /// A peer that takes no byte of its replies for so long is disconnected. Default 30 s.
    pub write_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            max_connections: 10_000,
            max_calls_per_connection: 4_096,
            max_calls: 65_536,
            max_call_bytes_per_connection: 128 << 20,
            max_call_bytes: 1 << 30,
            frame: FrameLimits::default(),
            reply_queue_frames: 4_096,
            reply_queue_bytes: 4 << 20,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            frame_timeout: Duration::from_secs(30),
            min_bytes_per_second: 256 << 10,
            write_timeout: Duration::from_secs(30),
        }
    }
}
