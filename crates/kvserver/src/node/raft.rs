//! Raft messages over fiber-rpc.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fiber_rpc::{CallContext, Channel, ChannelConfig, Dispatch, Service, Status};
use raft_core::core::{Message, NodeId};
use raft_core::replica::codec::{
    decode_ack, decode_chunk, decode_messages, encode_ack, encode_chunk, encode_messages,
};
use raft_core::replica::{Dropped, Replica, Transport, TransportError};
use raft_core::snapshot::{SnapshotAck, SnapshotChunk};

use crate::config::NodeAddresses;
use crate::store::KvMachine;

pub(super) struct Peers {
    channels: BTreeMap<NodeId, Channel>,
}

pub(super) fn peers(
    id: NodeId,
    nodes: &BTreeMap<u64, NodeAddresses>,
    config: ChannelConfig,
) -> Arc<dyn Transport> {
    let channels = nodes
        .iter()
        .filter(|(node, _)| **node != id.0)
        .map(|(node, at)| (NodeId(*node), Channel::new(at.rpc, config.clone())))
        .collect();
    Arc::new(Peers { channels })
}

impl Transport for Peers {
    fn send(&self, message: Message) -> Result<(), Dropped> {
        self.send_all(message.to, vec![message])
    }

    fn send_all(&self, to: NodeId, messages: Vec<Message>) -> Result<(), Dropped> {
        let channel = self.channels.get(&to).ok_or(Dropped)?;
        channel.send("moon.Raft", "Messages", encode_messages(1, &messages)).map_err(|_| Dropped)
    }

    fn snapshot_chunk(&self, chunk: SnapshotChunk, deadline: Instant) -> Result<SnapshotAck, TransportError> {
        let to = chunk.to;
        let failed = |reason: String| TransportError { to, reason };
        let channel = self.channels.get(&to).ok_or_else(|| failed("unknown".into()))?;
        let reply = channel
            .call("moon.Raft", "Chunk", encode_chunk(1, &chunk), deadline)
            .map_err(|error| failed(error.to_string()))?;
        decode_ack(1, reply).map_err(|error| failed(error.to_string()))
    }
}

pub(super) struct RaftService {
    replica: Replica<KvMachine>,
}

impl RaftService {
    pub(super) fn new(replica: Replica<KvMachine>) -> RaftService {
        RaftService { replica }
    }
}

impl Service for RaftService {
    fn name(&self) -> &str {
        "moon.Raft"
    }

    fn dispatch(&self, method: &str) -> Dispatch {
        if method == "Messages" { Dispatch::Inline } else { Dispatch::Fiber }
    }

    fn call(&self, _cx: &CallContext, method: &str, payload: Bytes) -> Result<Bytes, Status> {
        let bad = |error: raft_core::replica::codec::CodecError| Status::invalid_argument(error.to_string());
        match method {
            "Messages" => {
                self.replica.deliver_all(decode_messages(1, payload).map_err(bad)?);
                Ok(Bytes::new())
            }
            _ => {
                let chunk = decode_chunk(1, payload).map_err(bad)?;
                let (from, to) = (chunk.to, chunk.from);
                let ack = self.replica.deliver_chunk(chunk);
                Ok(encode_ack(1, from, to, &ack))
            }
        }
    }
}
