//! The way to the leader: forwarding over rpc, and what every failure on it means for the batch.

use std::time::Instant;

use fiber_rpc::{CallError, Code};
use fiber_runtime::time;
use raft_core::core::NodeId;
use raft_core::replica::{ProposeError, ReadError};

use super::{Answer, Node};
use crate::command::{KvError, Refusal, Request, decode_answers, encode_requests};
use crate::service::proto::{ExecuteRequest, KvClient};

/// Why a batch was not appended anywhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) reason: Refusal,
    pub(super) leader: Option<NodeId>,
}

/// What came of forwarding a batch.
#[derive(Debug)]
pub(super) enum Forwarded {
    /// One answer for each request, to be given to the client as they are.
    Answers(Vec<Answer>),
    /// Nothing of the batch was or will be appended: it may be sent again.
    NotAppended(Trouble),
}

impl Node {
    /// Sends a batch to the leader, once.
    pub(super) fn forward(&self, leader: NodeId, batch: &[Request], deadline: Instant) -> Forwarded {
        let not_appended = |reason| Forwarded::NotAppended(Trouble { reason, leader: Some(leader) });
        let Some(address) = self.address(leader) else {
            return not_appended(Refusal::LeaderUnreachable);
        };
        self.forwarded.increment();
        let client = KvClient::new(self.pool.channel(address));
        let request = ExecuteRequest { batch: encode_requests(batch), no_forward: true };
        let only_reads = batch.iter().all(|request| matches!(request, Request::Read(_)));
        // A read that gets no answer may go to the next leader; a write must wait for its own answer.
        let attempt = if only_reads { deadline.min(time::now() + self.leader_patience()) } else { deadline };
        let lost = match client.execute(&request, attempt) {
            Ok(response) => match decode_answers(response.answers) {
                Ok(answers) if answers.len() == batch.len() => {
                    return match common_refusal(&answers) {
                        Some(trouble) => Forwarded::NotAppended(trouble),
                        None => Forwarded::Answers(answers),
                    };
                }
                Ok(answers) => format!("{} answers to {} requests", answers.len(), batch.len()),
                Err(error) => format!("answers of node {leader} cannot be decoded: {error}"),
            },
            Err(CallError::NotSent { .. }) => return not_appended(Refusal::LeaderUnreachable),
            Err(CallError::Remote(status)) => match status.code() {
                // The call was not started.
                Code::Overloaded => return not_appended(Refusal::Overloaded),
                Code::Unavailable | Code::UnknownService | Code::UnknownMethod => {
                    return not_appended(Refusal::LeaderUnreachable);
                }
                Code::DeadlineExceeded => return not_appended(Refusal::DeadlineExceeded),
                Code::InvalidArgument => {
                    let message = status.to_string();
                    return Forwarded::Answers(vec![Err(KvError::Invalid { message }); batch.len()]);
                }
                _ => status.to_string(),
            },
            Err(error @ CallError::OutcomeUnknown { .. }) => error.to_string(),
        };
        if only_reads {
            return not_appended(Refusal::LeaderUnreachable);
        }
        let answers = batch.iter().map(|request| match request {
            Request::Write(_) => Err(KvError::OutcomeUnknown { reason: lost.clone() }),
            // Reading again is always safe.
            Request::Read(_) => {
                Err(KvError::NotAppended { reason: Refusal::LeaderUnreachable, leader: Some(leader) })
            }
        });
        Forwarded::Answers(answers.collect())
    }
}

/// The refusal, if the whole batch was refused because the node it was sent to does not lead.
fn common_refusal(answers: &[Answer]) -> Option<Trouble> {
    let mut common = None;
    for answer in answers {
        match answer {
            Err(KvError::NotAppended { reason: Refusal::Skipped, .. }) => {}
            Err(KvError::NotAppended {
                reason:
                    reason @ (Refusal::NotLeader
                    | Refusal::NoLeader
                    | Refusal::Transferring
                    | Refusal::Starting
                    | Refusal::Stopping),
                leader,
            }) => common = Some(Trouble { reason: *reason, leader: *leader }),
            _ => return None,
        }
    }
    common
}

/// What a failed proposal means for the client.
pub(super) fn from_propose(error: ProposeError) -> KvError {
    match error {
        ProposeError::NotLeader { leader } => KvError::NotAppended { reason: Refusal::NotLeader, leader },
        ProposeError::Overloaded => KvError::refused(Refusal::Overloaded),
        ProposeError::Transferring { to } => {
            KvError::NotAppended { reason: Refusal::Transferring, leader: Some(to) }
        }
        error @ ProposeError::TooLarge { .. } => KvError::Invalid { message: error.to_string() },
        ProposeError::Stopped => KvError::refused(Refusal::Stopping),
        error @ ProposeError::OutcomeUnknown { .. } => KvError::OutcomeUnknown { reason: error.to_string() },
    }
}

/// What a failed barrier means for the client. Reading has no effect: trying again is always safe.
pub(super) fn from_read(error: ReadError) -> KvError {
    match error {
        ReadError::NotLeader { leader } => KvError::NotAppended { reason: Refusal::NotLeader, leader },
        ReadError::Stopped => KvError::refused(Refusal::Stopping),
        ReadError::Overloaded => KvError::refused(Refusal::Overloaded),
        ReadError::TimedOut => KvError::refused(Refusal::DeadlineExceeded),
    }
}
