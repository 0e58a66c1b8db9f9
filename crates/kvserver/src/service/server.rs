//! The serving side of the key-value service.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use fiber_rpc::{CallContext, Dispatch, Status};
use fiber_runtime::time;

use super::proto;
use crate::command::{KvError, NodeStatus, Outcome, ReadOutcome, Response, decode_requests, encode_answers};
use crate::node::{Answer, Node};

/// Time for a call whose caller gave no deadline.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// Serves [`proto::Kv`] for a node.
#[derive(Clone, Debug)]
pub struct KvService {
    node: Arc<Node>,
}

impl KvService {
    /// The service of `node`, to be given to a server.
    pub fn new(node: Arc<Node>) -> proto::KvServer<KvService> {
        proto::KvServer::new(KvService { node })
    }
}

impl proto::Kv for KvService {
    fn execute(
        &self,
        cx: &CallContext,
        request: proto::ExecuteRequest,
    ) -> Result<proto::ExecuteResponse, Status> {
        let batch = decode_requests(request.batch)
            .map_err(|error| Status::invalid_argument(format!("the batch cannot be decoded: {error}")))?;
        let deadline = cx.deadline().unwrap_or_else(|| time::now() + DEFAULT_DEADLINE);
        let may_forward = self.node.forwards() && !request.no_forward;
        let mut answers = self.node.execute_batch(batch, deadline, may_forward);
        bound(&mut answers, self.node.reply_bytes());
        let leader = self.node.leader_address().map(|address| address.to_string()).unwrap_or_default();
        Ok(proto::ExecuteResponse { answers: encode_answers(&answers), leader })
    }

    fn status(
        &self,
        _cx: &CallContext,
        _request: proto::StatusRequest,
    ) -> Result<proto::StatusResponse, Status> {
        let status: NodeStatus = self.node.status_now();
        let json = serde_json::to_string(&status)
            .map_err(|error| Status::application(format!("the status cannot be written: {error}")))?;
        Ok(proto::StatusResponse { json })
    }

    fn dispatch(&self, method: &str) -> Dispatch {
        if method == "Status" { Dispatch::Inline } else { Dispatch::Fiber }
    }
}

/// Replaces reads whose values would make the reply longer than `most` bytes. A write's outcome always stays: its
/// client must learn that it was applied.
fn bound(answers: &mut [Answer], most: usize) {
    let mut bytes: usize = answers.iter().map(weight).sum();
    for answer in answers.iter_mut().rev() {
        if bytes <= most {
            return;
        }
        if let Ok(Response::Read(_)) = answer {
            bytes -= weight(answer);
            let message = "the reply exceeds max_frame_bytes: ask for less at a time".to_owned();
            *answer = Err(KvError::Invalid { message });
        }
    }
}

/// About how many bytes an answer takes in a frame.
fn weight(answer: &Answer) -> usize {
    let optional = |value: &Option<bytes::Bytes>| value.as_ref().map_or(0, bytes::Bytes::len) + 12;
    16 + match answer {
        Ok(Response::Read(ReadOutcome::Value(value))) => optional(value),
        Ok(Response::Read(ReadOutcome::Values(values))) => values.iter().map(optional).sum(),
        Ok(Response::Read(ReadOutcome::Page(page))) => {
            page.entries.iter().map(|(key, value)| key.len() + optional(value) + 12).sum()
        }
        Ok(Response::Written(
            Outcome::Swapped { current: value, .. } | Outcome::Stored { previous: value, .. },
        )) => optional(value),
        Ok(_) => 0,
        Err(_) => 128,
    }
}
