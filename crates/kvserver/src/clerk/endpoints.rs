//! Which node to ask: the leader while it is known and answers, else one after the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fiber_rpc::{CallError, ChannelConfig, Pool, PoolConfig};
use fiber_runtime::sync::Spin;

use super::{ClerkError, classify, is_refusal};
use crate::command::{KvError, NodeStatus, Refusal, Request, Response, decode_answers, encode_requests};
use crate::service::proto::{ExecuteRequest, KvClient, StatusRequest};

/// How one attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// A node answered.
    Answered(Result<Response, KvError>),
    /// The request was certainly not executed.
    NotSent(String),
    /// The request may have been executed.
    Lost(String),
}

/// The nodes of a cluster, as far as a clerk knows them.
#[derive(Debug)]
pub(super) struct Endpoints {
    pool: Pool,
    nodes: Vec<SocketAddr>,
    leader: Spin<Option<SocketAddr>>,
    next: AtomicUsize,
}

impl Endpoints {
    pub(super) fn new(nodes: Vec<SocketAddr>) -> Endpoints {
        assert!(!nodes.is_empty(), "a clerk needs an endpoint");
        Endpoints {
            pool: Pool::new(PoolConfig { channel: ChannelConfig::lan(), ..PoolConfig::default() }),
            nodes,
            leader: Spin::new(None),
            next: AtomicUsize::new(0),
        }
    }

    /// Sends a batch of one request to the node that seems best and notes what the answer says about the leader.
    pub(super) fn execute(&self, batch: &[Request], deadline: Instant) -> Attempt {
        assert_eq!(batch.len(), 1, "a clerk sends one request at a time");
        let node = self.choose();
        let request = ExecuteRequest { batch: encode_requests(batch), no_forward: false };
        let attempt = match self.client(node).execute(&request, deadline) {
            Ok(response) => {
                let leader = response.leader.parse().ok();
                match decode_answers(response.answers) {
                    Ok(mut answers) if answers.len() == 1 => {
                        let answer = answers.remove(0);
                        let stale = is_refusal(&answer, Refusal::LeaderUnreachable)
                            || is_refusal(&answer, Refusal::NoLeader);
                        self.leader.lock(|known| *known = leader.filter(|_| !stale));
                        return Attempt::Answered(answer);
                    }
                    Ok(answers) => Attempt::Lost(format!("{} answers to one request", answers.len())),
                    Err(error) => Attempt::Lost(format!("the answer cannot be decoded: {error}")),
                }
            }
            Err(error) => classify(error),
        };
        // Whoever did not answer is not the leader to ask next.
        self.leader.lock(|known| {
            if *known == Some(node) {
                *known = None;
            }
        });
        self.next.fetch_add(1, Ordering::Relaxed);
        attempt
    }

    pub(super) fn status(&self, node: SocketAddr, deadline: Instant) -> Result<NodeStatus, ClerkError> {
        let lost = |error: CallError| ClerkError::NotAppended { reason: error.to_string() };
        let response = self.client(node).status(&StatusRequest {}, deadline).map_err(lost)?;
        serde_json::from_str(&response.json)
            .map_err(|error| ClerkError::Invalid { message: format!("status cannot be decoded: {error}") })
    }

    fn choose(&self) -> SocketAddr {
        let leader = self.leader.lock(|leader| *leader);
        leader.unwrap_or_else(|| self.nodes[self.next.load(Ordering::Relaxed) % self.nodes.len()])
    }

    fn client(&self, node: SocketAddr) -> KvClient {
        KvClient::new(self.pool.channel(node))
    }
}
