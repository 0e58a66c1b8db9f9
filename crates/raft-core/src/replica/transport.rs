//! How replicas reach each other, as the replica sees it.

use std::time::Instant;

use crate::core::{Message, NodeId};
use crate::snapshot::{SnapshotAck, SnapshotChunk};

/// Carries messages and snapshot chunks to other nodes. The receiving side hands them to
/// `Replica::deliver` and `Replica::deliver_chunk`.
pub trait Transport: Send + Sync + 'static {
    /// Sends a message. Never blocks; what is queued is bounded. It may be lost, doubled or reordered on its way.
    ///
    /// # Errors
    /// [`Dropped`] if the message was not even queued.
    fn send(&self, message: Message) -> Result<(), Dropped>;

    /// Sends several messages to the same node. A transport may put them into one frame.
    ///
    /// # Errors
    /// [`Dropped`] if not all of them were queued.
    fn send_all(&self, to: NodeId, messages: Vec<Message>) -> Result<(), Dropped> {
        debug_assert!(messages.iter().all(|message| message.to == to));
        let mut result = Ok(());
        for message in messages {
            result = result.and(self.send(message));
        }
        result
    }

    /// Sends a piece of a snapshot to `chunk.to` and waits for the answer. Blocks the calling fiber only.
    ///
    /// # Errors
    /// If there is no answer until `deadline`.
    fn snapshot_chunk(&self, chunk: SnapshotChunk, deadline: Instant) -> Result<SnapshotAck, TransportError>;
}

/// A message was dropped before it was sent: no connection, or its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped;

/// A chunk got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer from node {to}: {reason}")]
pub struct TransportError {
    /// The peer.
    pub to: NodeId,
    /// What went wrong.
    pub reason: String,
}
