//! The transport between real nodes: one fiber-rpc channel per peer, and the service that receives.
//!
//! Messages go one way, as many to a frame as came together; the channel's writer fiber gathers frames into one write.
//! A message that finds no connection or a full outbox is dropped, and the core told: it falls back to probing.
//! Chunks of snapshots are calls with a deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use fiber_rpc::{CallContext, Channel, ChannelConfig, Dispatch, Service, Status};

use crate::core::{Message, NodeId};
use crate::snapshot::{SnapshotAck, SnapshotChunk};

use super::codec;
use super::handle::Replica;
use super::state_machine::StateMachine;
use super::transport::{Dropped, Transport, TransportError};

/// Name of the service.
const SERVICE: &str = "moon.Raft";
const MESSAGES: &str = "Messages";
const CHUNK: &str = "Chunk";

/// Frames up to this size are copied out of the connection's read buffer: an entry lives as long as the log in memory,
/// and a small one must not keep a whole buffer with it.
const COPIED_FRAME_BYTES: usize = 8 << 10;

/// Sends to peers by their address.
pub struct RpcTransport {
    cluster: u64,
    peers: BTreeMap<NodeId, Channel>,
}

impl RpcTransport {
    /// A transport of a member of `cluster` to its peers. Connects at once, in the background. Must be called in a
    /// fiber.
    pub fn new(cluster: u64, peers: &BTreeMap<NodeId, SocketAddr>, config: &ChannelConfig) -> RpcTransport {
        let channel = |(&id, &address): (&NodeId, &SocketAddr)| {
            let channel = Channel::new(address, config.clone());
            channel.connect();
            (id, channel)
        };
        RpcTransport { cluster, peers: peers.iter().map(channel).collect() }
    }

    /// The channel to a peer.
    pub fn channel(&self, id: NodeId) -> Option<&Channel> {
        self.peers.get(&id)
    }

    /// Closes all channels.
    pub fn close(&self) {
        self.peers.values().for_each(Channel::close);
    }
}

impl Transport for RpcTransport {
    fn send(&self, message: Message) -> Result<(), Dropped> {
        self.send_all(message.to, vec![message])
    }

    fn send_all(&self, to: NodeId, messages: Vec<Message>) -> Result<(), Dropped> {
        let channel = self.peers.get(&to).ok_or(Dropped)?;
        for part in messages.chunks(codec::MAX_MESSAGES) {
            let frame = codec::encode_messages(self.cluster, part);
            channel.send(SERVICE, MESSAGES, frame).map_err(|_| Dropped)?;
        }
        Ok(())
    }

    fn snapshot_chunk(&self, chunk: SnapshotChunk, deadline: Instant) -> Result<SnapshotAck, TransportError> {
        let to = chunk.to;
        let failed = |reason: String| TransportError { to, reason };
        let channel = self.peers.get(&to).ok_or_else(|| failed("its address is not known".to_owned()))?;
        let frame = codec::encode_chunk(self.cluster, &chunk);
        let answer =
            channel.call(SERVICE, CHUNK, frame, deadline).map_err(|error| failed(error.to_string()))?;
        codec::decode_ack(self.cluster, answer).map_err(|error| failed(error.to_string()))
    }
}

/// Receives for a replica. Register it with the node's RPC server.
pub struct RaftService<S: StateMachine> {
    replica: Replica<S>,
    cluster: u64,
    refused: AtomicU64,
}

impl<S: StateMachine> RaftService<S> {
    /// Receives what members of `cluster` send to `replica`.
    pub fn new(replica: Replica<S>, cluster: u64) -> RaftService<S> {
        RaftService { replica, cluster, refused: AtomicU64::new(0) }
    }

    /// A peer is not trusted: what does not decode or is not meant for this node is refused.
    fn refuse(&self, cx: &CallContext, reason: &dyn std::fmt::Display) -> Status {
        // The first one and then every 1024th: a broken peer must not fill the disk with log lines.
        if self.refused.fetch_add(1, Ordering::Relaxed).is_multiple_of(1024) {
            tracing::warn!(peer = %cx.peer(), %reason, "refused a raft frame");
        }
        Status::invalid_argument(reason.to_string())
    }

    /// Whether the frame comes from another member and is meant for this one.
    fn check(&self, cx: &CallContext, from: NodeId, to: NodeId) -> Result<(), Status> {
        let id = self.replica.id();
        if to != id {
            return Err(self.refuse(cx, &format_args!("it is for node {to}, this is node {id}")));
        }
        if from == id || !self.replica.config().core.voters.contains(&from) {
            return Err(self.refuse(cx, &format_args!("node {from} is no peer of node {id}")));
        }
        Ok(())
    }
}

impl<S: StateMachine> Service for RaftService<S> {
    fn name(&self) -> &str {
        SERVICE
    }

    fn dispatch(&self, method: &str) -> Dispatch {
        // Delivering messages never blocks; storing a chunk does.
        if method == MESSAGES { Dispatch::Inline } else { Dispatch::Fiber }
    }

    fn call(&self, cx: &CallContext, method: &str, payload: Bytes) -> Result<Bytes, Status> {
        match method {
            MESSAGES => {
                let payload = match payload.len() {
                    0..=COPIED_FRAME_BYTES => Bytes::copy_from_slice(&payload),
                    _ => payload,
                };
                let messages =
                    codec::decode_messages(self.cluster, payload).map_err(|error| self.refuse(cx, &error))?;
                if let Some(first) = messages.first() {
                    self.check(cx, first.from, first.to)?;
                }
                self.replica.deliver_all(messages);
                Ok(Bytes::new())
            }
            CHUNK => {
                let chunk =
                    codec::decode_chunk(self.cluster, payload).map_err(|error| self.refuse(cx, &error))?;
                self.check(cx, chunk.from, chunk.to)?;
                let (from, to) = (chunk.from, chunk.to);
                let ack = self.replica.deliver_chunk(chunk);
                Ok(codec::encode_ack(self.cluster, to, from, &ack))
            }
            _ => Err(Status::unknown_method(SERVICE, method)),
        }
    }
}
