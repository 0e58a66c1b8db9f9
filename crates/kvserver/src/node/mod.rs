//! One node: the replica, the store it applies to, the doors clients come in through, and the order in which all of
//! them start and stop.
//!
//! ```text
//!   start:  data directory, listeners ──► HTTP (answers "starting") ──► replica recovers ──► rpc, then Redis clients
//!   stop:   Redis and HTTP clients ──► hand over leadership ──► rpc ──► replica ──► runtime
//! ```
//!
//! The listeners are opened before anything else, so that a port that is taken is one clear line and nothing has
//! happened yet.

mod disk;

mod execute;

mod process;

mod routes;

mod status;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fiber_rpc::Pool;
use fiber_runtime::time;
use raft_core::core::NodeId;
use raft_core::replica::Replica;

pub use process::{NodeError, run};

use crate::command::{Backend, KvError, Member, NodeStatus, Request, Response};
use crate::config::{Config, NodeAddresses};
use crate::metrics::Registry;
use crate::store::{KvMachine, Store};

/// What a frame carries beside the answers, at most.
const REPLY_OVERHEAD: usize = 64 << 10;

/// The answer to one request.
pub(crate) type Answer = Result<Response, KvError>;

/// One node of a cluster, shared by its doors.
pub struct Node {
    id: NodeId,
    config: Config,
    store: Store,
    /// Set once the replica has recovered.
    replica: OnceLock<Replica<KvMachine>>,
    stopping: AtomicBool,
    /// Connections to the other nodes, for forwarding.
    pool: Pool,
    members: Vec<Member>,
    started: Instant,
    metrics: Registry,
    forwarded: std::sync::Arc<crate::metrics::Counter>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.id).field("stopping", &self.is_stopping()).finish()
    }
}

impl Node {
    /// A node that has not recovered yet: it refuses every request.
    pub(crate) fn new(id: NodeId, config: Config, store: Store, pool: Pool) -> Node {
        let metrics = Registry::new();
        let forwarded =
            metrics.counter("kv_forwarded_total", "Batches of requests forwarded to the leader.", &[]);
        Node {
            id,
            members: members(&config.nodes),
            config,
            store,
            replica: OnceLock::new(),
            stopping: AtomicBool::new(false),
            pool,
            started: time::now(),
            metrics,
            forwarded,
        }
    }

    /// The doors put their own metrics beside the node's.
    pub(crate) fn registry(&self) -> &Registry {
        &self.metrics
    }

    /// From now on requests are executed.
    pub(crate) fn recovered(&self, replica: Replica<KvMachine>) {
        assert!(self.replica.set(replica).is_ok(), "a node recovers once");
    }

    /// From now on requests are refused.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn address(&self, id: NodeId) -> Option<SocketAddr> {
        self.config.nodes.get(&id.0).map(|node| node.rpc)
    }

    /// Where the known leader listens for clerks.
    pub(crate) fn leader_address(&self) -> Option<SocketAddr> {
        self.address(self.replica.get()?.status().leader?)
    }

    /// Bytes that the answers to one call may take.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.config.settings.max_frame_bytes - REPLY_OVERHEAD
    }

    /// Whether this node sends requests on to the leader.
    pub(crate) fn forwards(&self) -> bool {
        self.config.settings.forward
    }

    /// How long a request may wait for a leader to appear: time for two elections in a row, the second after a
    /// split vote.
    fn leader_patience(&self) -> Duration {
        self.config.settings.election_ms * 4
    }
}

impl Backend for Node {
    fn execute(&self, batch: Vec<Request>, deadline: Instant) -> Vec<Answer> {
        self.execute_batch(batch, deadline, self.forwards())
    }

    fn status(&self) -> NodeStatus {
        self.status_now()
    }

    fn metrics(&self, out: &mut String) {
        self.write_metrics(out);
    }

    fn ready(&self) -> Result<(), String> {
        self.readiness()
    }
}

fn members(nodes: &BTreeMap<u64, NodeAddresses>) -> Vec<Member> {
    let door = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    nodes
        .iter()
        .map(|(id, node)| Member {
            id: *id,
            rpc: node.rpc.to_string(),
            resp: door(node.resp),
            http: door(node.http),
        })
        .collect()
}
