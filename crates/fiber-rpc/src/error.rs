//! How a call ends when it does not end well.
//!
//! The three variants of [`CallError`] answer the one question a caller must ask before it retries: may the
//! server have executed the call? *Not sent*: no. *Remote*: the server answered, and its [`Status`] tells.
//! *Outcome unknown*: perhaps; only an operation that may be executed twice may be sent again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::status::Status;

/// A failed call. See the [module documentation](self) for what each variant allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No byte of the call left this process, so it was not executed: safe to retry.
    #[error("call to {peer} was not sent: {reason}")]
    NotSent {
        /// The peer that was to be called.
        peer: SocketAddr,
        /// What kept the call here.
        reason: NotSent,
    },
    /// The call may or may not have been executed.
    #[error("outcome of a call to {peer} is unknown: {reason}")]
    OutcomeUnknown {
        /// The peer that was called.
        peer: SocketAddr,
        /// What hid the answer.
        reason: Unknown,
    },
    /// The server answered with a failure.
    #[error("{0}")]
    Remote(#[from] Status),
}

impl CallError {
    /// Whether the call certainly never reached the server. Only these are safe to retry blindly.
    pub fn is_not_sent(&self) -> bool {
        matches!(self, CallError::NotSent { .. })
    }

    /// Whether the call was certainly not executed: it was not sent, or the server refused it before its service saw it
    /// ([`Status::is_not_started`]). It may be sent again, to this server or another, whatever it does.
    pub fn is_not_executed(&self) -> bool {
        match self {
            CallError::NotSent { .. } => true,
            CallError::OutcomeUnknown { .. } => false,
            CallError::Remote(status) => status.is_not_started(),
        }
    }

    /// The server's answer, when there was one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            CallError::Remote(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the caller's deadline ended the call, on whichever side it was noticed.
    pub fn is_deadline(&self) -> bool {
        match self {
            CallError::NotSent { reason, .. } => *reason == NotSent::DeadlineExceeded,
            CallError::OutcomeUnknown { reason, .. } => *reason == Unknown::DeadlineExceeded,
            CallError::Remote(status) => status.code() == crate::Code::DeadlineExceeded,
        }
    }
}

/// What kept a call in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection now, and the last attempt to make one failed so.
    #[error("disconnected: {cause}")]
    Disconnected {
        /// What ended the last connection or attempt.
        cause: Arc<str>,
    },
    /// The server announced that it is going away; the channel will reconnect when it has closed.
    #[error("the server is shutting down")]
    GoingAway,
    /// The deadline passed while the call waited for a connection or for room.
    #[error("deadline passed before the call could be sent")]
    DeadlineExceeded,
    /// The queue of frames to send is full. One-way sends meet it at once, calls after waiting for room.
    #[error("outbox is full: {queued} frames of {bytes} bytes wait")]
    OutboxFull {
        /// Frames that wait.
        queued: usize,
        /// Bytes that wait.
        bytes: usize,
    },
    /// The channel has as many calls open as it may.
    #[error("{limit} calls are in flight already")]
    TooManyCalls {
        /// The limit, [`ChannelConfig::max_calls`](crate::ChannelConfig::max_calls).
        limit: usize,
    },
    /// The payload or the names are larger than a frame may be.
    #[error("{size} bytes exceed the frame limit of {limit}")]
    TooLarge {
        /// Bytes asked for.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The channel was closed by its owner.
    #[error("the channel is closed")]
    Closed,
}

/// What hid the answer of a call that was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// The deadline passed first. A reply that arrives later is dropped.
    #[error("deadline passed before the reply arrived")]
    DeadlineExceeded,
    /// The connection ended first.
    #[error("connection lost: {cause}")]
    ConnectionLost {
        /// What ended it.
        cause: Arc<str>,
    },
    /// A reply came that is larger than this side accepts.
    #[error("reply of {size} bytes exceeds the limit of {limit}")]
    ReplyTooLarge {
        /// Announced size.
        size: u64,
        /// Accepted size.
        limit: usize,
    },
    /// A reply came that is not a message of the expected type.
    #[error("reply cannot be decoded: {cause}")]
    BadReply {
        /// The decoder's complaint.
        cause: Arc<str>,
    },
    /// The channel was closed by its owner.
    #[error("the channel was closed")]
    Closed,
}

/// Why a connection ended; part of [`NotSent`] and [`Unknown`] as text, and of the logs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Disconnect {
    #[error("connect failed: {0}")]
    Connect(std::io::Error),
    #[error("the peer closed the connection")]
    Eof,
    #[error("the peer closed the connection inside a frame")]
    EofInFrame,
    #[error("read failed: {0}")]
    Read(std::io::Error),
    #[error("write failed: {0}")]
    Write(std::io::Error),
    #[error("{0}")]
    Frame(#[from] crate::frame::FrameError),
    #[error("{0} pings in a row were not answered")]
    Unanswered(u32),
    #[error("a frame was not complete after {0:?}")]
    SlowFrame(Duration),
    #[error("nothing was received for {0:?}")]
    Idle(Duration),
    #[error("the peer went away: {0}")]
    WentAway(Status),
    #[error("closed by this side")]
    Closed,
    #[error("its fiber ended unexpectedly")]
    FiberEnded,
}
