//! Executing batches: here if this node leads, else on the leader, else after a short wait for one.
//!
//! What makes this correct is the line between "nothing was appended", after which the batch may take another way,
//! and everything else, after which it may not: a batch is never sent twice if it may have been executed once.

use std::time::{Duration, Instant};

use fiber_runtime::time;
use raft_core::core::{NodeId, Role};

use super::routes::{Forwarded, Trouble};
use super::{Answer, Node};
use crate::command::{KvError, Refusal, Request, Response};

/// Pause between two looks for a leader.
const LEADER_POLL: Duration = Duration::from_millis(5);

/// An attempt that took longer than this waited for an answer.
const LONG_ATTEMPT: Duration = Duration::from_millis(100);

/// Who is to execute a batch.
enum Route {
    Here,
    There(NodeId),
    Nowhere,
}

impl Node {
    /// Executes a batch in order; see [`Backend::execute`](crate::command::Backend::execute). With `may_forward`
    /// unset the batch is executed here or refused.
    pub(crate) fn execute_batch(
        &self,
        batch: Vec<Request>,
        deadline: Instant,
        may_forward: bool,
    ) -> Vec<Answer> {
        let problems: Vec<Option<KvError>> = batch.iter().map(|request| self.problem(request)).collect();
        if problems.iter().all(Option::is_none) {
            return self.execute_valid(&batch, deadline, may_forward);
        }
        let mut valid = Vec::with_capacity(batch.len());
        for (request, problem) in batch.into_iter().zip(&problems) {
            if problem.is_none() {
                valid.push(request);
            }
        }
        let mut answers = self.execute_valid(&valid, deadline, may_forward).into_iter();
        problems
            .into_iter()
            .map(|problem| match problem {
                Some(problem) => Err(problem),
                None => answers.next().expect("every valid request has an answer"),
            })
            .collect()
    }

    /// What is wrong with a request, whatever the state.
    fn problem(&self, request: &Request) -> Option<KvError> {
        let result = match request {
            Request::Write(command) => command.write.check(&self.config.settings.limits()),
            Request::Read(read) => read.check(&self.config.settings.limits()),
        };
        result.err().map(|error| KvError::Invalid { message: error.to_string() })
    }

    /// Cuts a batch into parts that fit one frame and executes them in order; what comes after a part that failed is
    /// not started.
    fn execute_valid(&self, batch: &[Request], deadline: Instant, may_forward: bool) -> Vec<Answer> {
        let most = self.config.settings.max_frame_bytes / 2;
        let mut answers = Vec::with_capacity(batch.len());
        while answers.len() < batch.len() {
            let rest = &batch[answers.len()..];
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|request| {
                bytes += request.payload_bytes() + 64;
                bytes <= most
            });
            let part = &rest[..fitting.count().max(1)];
            answers.extend(self.execute_part(part, deadline, may_forward));
            let failed = matches!(
                answers.last(),
                Some(Err(KvError::NotAppended { .. } | KvError::OutcomeUnknown { .. }))
            );
            if failed {
                answers.resize(batch.len(), Err(KvError::refused(Refusal::Skipped)));
            }
        }
        answers
    }

    fn execute_part(&self, batch: &[Request], deadline: Instant, may_forward: bool) -> Vec<Answer> {
        if batch.is_empty() {
            return Vec::new();
        }
        let mut patience = deadline.min(time::now() + self.leader_patience());
        loop {
            let began = time::now();
            let trouble = if self.is_stopping() {
                return refuse(batch, Refusal::Stopping, None);
            } else {
                match self.route() {
                    None => return refuse(batch, Refusal::Starting, None),
                    Some(Route::Here) => match self.execute_here(batch, deadline) {
                        Ok(answers) => return answers,
                        Err(trouble) => trouble,
                    },
                    Some(Route::There(leader)) if may_forward => {
                        match self.forward(leader, batch, deadline) {
                            Forwarded::Answers(answers) => return answers,
                            Forwarded::NotAppended(trouble) => trouble,
                        }
                    }
                    Some(Route::There(leader)) => return refuse(batch, Refusal::NotLeader, Some(leader)),
                    Some(Route::Nowhere) => Trouble { reason: Refusal::NoLeader, leader: None },
                }
            };
            // Nothing was appended; leadership may be on its way to somewhere.
            let now = time::now();
            if now.saturating_duration_since(began) > LONG_ATTEMPT {
                // Time spent on a leader that did not answer was not time without one.
                patience = deadline.min(now + self.leader_patience());
            }
            if !may_forward || now + LEADER_POLL >= patience {
                return refuse(batch, trouble.reason, trouble.leader);
            }
            time::sleep(LEADER_POLL);
        }
    }

    fn route(&self) -> Option<Route> {
        let status = self.replica.get()?.status();
        Some(match (status.role, status.leader) {
            (Role::Leader, _) => Route::Here,
            (_, Some(leader)) if leader != self.id => Route::There(leader),
            _ => Route::Nowhere,
        })
    }

    /// Executes a batch on this node: runs of writes as one proposal each, runs of reads behind one barrier.
    ///
    /// # Errors
    /// Nothing was appended or read, because this node does not lead any more.
    fn execute_here(&self, batch: &[Request], deadline: Instant) -> Result<Vec<Answer>, Trouble> {
        let replica = self.replica.get().expect("a batch is routed here after recovery");
        let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
        // Whether the local state is at least as new as the arrival of the batch. A barrier makes it so, and so does
        // an own write: its entry was appended after the batch arrived, so whatever was acknowledged before is
        // committed before it.
        let mut current = false;
        while answers.len() < batch.len() {
            let rest = &batch[answers.len()..];
            let writes: Vec<_> = rest
                .iter()
                .map_while(|request| match request {
                    Request::Write(command) => Some(command.encode()),
                    Request::Read(_) => None,
                })
                .collect();
            let failure = if !writes.is_empty() {
                let count = writes.len();
                match replica.propose(writes, deadline) {
                    Ok(outcomes) => {
                        assert_eq!(outcomes.len(), count, "each proposed command has an outcome");
                        answers.extend(outcomes.into_iter().map(|outcome| Ok(Response::Written(outcome))));
                        current = true;
                        continue;
                    }
                    Err(error) => (super::routes::from_propose(error), count),
                }
            } else {
                let reads = rest.iter().map_while(|request| match request {
                    Request::Read(read) => Some(read),
                    Request::Write(_) => None,
                });
                let barrier = if current { Ok(()) } else { replica.read_barrier(deadline).map(drop) };
                match barrier {
                    Ok(()) => {
                        current = true;
                        let view = self.store.view();
                        answers.extend(reads.map(|read| Ok(Response::Read(view.read(read)))));
                        continue;
                    }
                    Err(error) => (super::routes::from_read(error), reads.count()),
                }
            };
            let (error, count) = failure;
            if answers.is_empty()
                && let KvError::NotAppended { reason, leader } = &error
                && matches!(reason, Refusal::NotLeader | Refusal::Transferring)
            {
                return Err(Trouble { reason: *reason, leader: *leader });
            }
            answers.resize(answers.len() + count, Err(error));
            answers.resize(batch.len(), Err(KvError::refused(Refusal::Skipped)));
        }
        Ok(answers)
    }
}

/// The same refusal for every request of a batch.
fn refuse(batch: &[Request], reason: Refusal, leader: Option<NodeId>) -> Vec<Answer> {
    vec![Err(KvError::NotAppended { reason, leader }); batch.len()]
}
