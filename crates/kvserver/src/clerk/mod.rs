//! The client library: finds the leader, retries what may be retried, and applies each write exactly once.
//!
//! A write carries the number of a session and its own number within it. When the answer is lost the clerk sends
//! the same numbers again, to whoever leads then; the replicated session table answers a repetition with the first
//! outcome. What the clerk cannot find out before the deadline it reports as [`ClerkError::OutcomeUnknown`], never as
//! success and never as failure.
//!
//! ```no_run
//! use kvserver::clerk::{BlockingClerk, ClerkConfig};
//!
//! let endpoints = vec!["127.0.1.1:21920".parse()?, "127.0.1.1:21921".parse()?];
//! let clerk = BlockingClerk::new(endpoints, ClerkConfig::default())?;
//! clerk.put("greeting", "hello")?;
//! assert_eq!(clerk.get("greeting")?.as_deref(), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocking;

mod endpoints;

mod sessions;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fiber_rpc::{CallError, Code};
use fiber_runtime::time;

pub use blocking::BlockingClerk;

use crate::command::{
    Command, CommandError, KvError, NodeStatus, Outcome, Read, ReadOutcome, Refusal, Request, Response,
    ScanPage, Session, Write,
};
use endpoints::{Attempt, Endpoints};
use sessions::Sessions;

/// Settings of a clerk.
#[derive(Clone, Copy, Debug)]
pub struct ClerkConfig {
    /// Time for one operation, with all its attempts.
    pub timeout: Duration,
    /// Time for one attempt; then another node is asked.
    pub attempt_timeout: Duration,
    /// First pause after an attempt that failed; doubled each time, with jitter.
    pub backoff: Duration,
    /// Longest pause between attempts.
    pub max_backoff: Duration,
    /// Sessions kept for later writes: as many as writes usually run at a time.
    pub max_idle_sessions: usize,
}

impl Default for ClerkConfig {
    fn default() -> ClerkConfig {
        ClerkConfig {
            timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(1),
            backoff: Duration::from_millis(5),
            max_backoff: Duration::from_millis(200),
            max_idle_sessions: 1024,
        }
    }
}

/// Why an operation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClerkError {
    /// The deadline passed and the operation certainly had no effect and never will have.
    #[error("not done: {reason}")]
    NotAppended {
        /// What the last attempt met.
        reason: String,
    },
    /// The deadline passed and the write may have had its effect, or may still have it.
    #[error("outcome unknown: {reason}")]
    OutcomeUnknown {
        /// What the last attempt met.
        reason: String,
    },
    /// The cluster took the command and refused to do it; nothing was changed.
    #[error("{0}")]
    Rejected(#[from] CommandError),
    /// The cluster does not take such a request.
    #[error("invalid request: {message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
}

/// A client of a cluster, for fibers. Cheap to clone; clones share connections, sessions and the known leader, and
/// any number of operations may run at a time.
#[derive(Clone, Debug)]
pub struct Clerk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ClerkConfig,
    endpoints: Endpoints,
    sessions: Sessions,
}

impl Clerk {
    /// A clerk that knows these nodes' rpc addresses; some are enough, the others are learned. Connects when it is
    /// first used. Called in a fiber, on whose runtime the connections run.
    ///
    /// # Errors
    /// No source of random numbers for the ids of sessions.
    ///
    /// # Panics
    /// Without endpoints.
    pub fn new(endpoints: Vec<SocketAddr>, config: ClerkConfig) -> io::Result<Clerk> {
        let sessions = Sessions::new(config.max_idle_sessions)?;
        Ok(Clerk { shared: Arc::new(Shared { config, endpoints: Endpoints::new(endpoints), sessions }) })
    }

    /// The value of a key. Linearizable: it is not older than when the call began.
    ///
    /// # Errors
    /// [`ClerkError::NotAppended`] when the deadline passed.
    pub fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, ClerkError> {
        match self.read(Read::Get { key: key.into() })? {
            ReadOutcome::Value(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a key and gives the store's revision.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClerkError> {
        match self.write(Write::Put { key: key.into(), value: value.into() })? {
            Outcome::Done { revision } => Ok(revision),
            other => Err(unexpected(&other)),
        }
    }

    /// Adds to the end of a key's value and gives its new length.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub fn append(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClerkError> {
        match self.write(Write::Append { key: key.into(), value: value.into() })? {
            Outcome::Length(length) => Ok(length),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes keys and gives how many were there.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub fn delete(&self, keys: Vec<Bytes>) -> Result<u64, ClerkError> {
        match self.write(Write::Delete { keys })? {
            Outcome::Count(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a key if its value is the expected one (`None`: if it does not exist). Gives whether it was, and if it
    /// was not, the value there.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub fn compare_and_swap(
        &self,
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<(bool, Option<Bytes>), ClerkError> {
        let write = Write::CompareAndSwap { key: key.into(), expected, value: value.into() };
        match self.write(write)? {
            Outcome::Swapped { swapped, current } => Ok((swapped, current)),
            other => Err(unexpected(&other)),
        }
    }

    /// Adds to an integer and gives the sum.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub fn increment(&self, key: impl Into<Bytes>, delta: i64) -> Result<i64, ClerkError> {
        match self.write(Write::Increment { key: key.into(), delta })? {
            Outcome::Integer(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of keys in ascending order that begin with `prefix` and come after `after`.
    ///
    /// # Errors
    /// [`ClerkError::NotAppended`] when the deadline passed.
    pub fn scan(
        &self,
        prefix: impl Into<Bytes>,
        after: Option<Bytes>,
        limit: u32,
        values: bool,
    ) -> Result<ScanPage, ClerkError> {
        match self.read(Read::Scan { after, prefix: prefix.into(), limit, values })? {
            ReadOutcome::Page(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Any read.
    ///
    /// # Errors
    /// [`ClerkError::NotAppended`] when the deadline passed, [`ClerkError::Invalid`].
    pub fn read(&self, read: Read) -> Result<ReadOutcome, ClerkError> {
        let batch = [Request::Read(read)];
        let mut attempts = self.attempts();
        loop {
            match self.attempt(&batch, &attempts) {
                Attempt::Answered(Ok(Response::Read(outcome))) => return Ok(outcome),
                Attempt::Answered(Ok(other)) => return Err(unexpected(&other)),
                Attempt::Answered(Err(KvError::Invalid { message })) => {
                    return Err(ClerkError::Invalid { message });
                }
                Attempt::Answered(Err(error)) => attempts.note(error.to_string()),
                Attempt::NotSent(reason) | Attempt::Lost(reason) => attempts.note(reason),
            }
            if !attempts.pause() {
                return Err(ClerkError::NotAppended { reason: attempts.reason });
            }
        }
    }

    /// Any write, exactly once.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub fn write(&self, write: Write) -> Result<Outcome, ClerkError> {
        let mut attempts = self.attempts();
        loop {
            let mut session = match self.shared.sessions.take() {
                Some(session) => session,
                None => self.open_session(&mut attempts)?,
            };
            session.sequence += 1;
            let result = self.write_in(session, &write, &mut attempts);
            match result {
                // The table has lost this session, and no attempt of this write can have been applied.
                Ok(Outcome::Failed(CommandError::UnknownSession)) => {
                    attempts.note(CommandError::UnknownSession.to_string());
                    if !attempts.pause() {
                        return Err(ClerkError::NotAppended { reason: attempts.reason });
                    }
                }
                Ok(outcome) => {
                    self.shared.sessions.put_back(session);
                    return match outcome {
                        Outcome::Failed(error) => Err(error.into()),
                        outcome => Ok(outcome),
                    };
                }
                Err(error @ ClerkError::OutcomeUnknown { .. }) => return Err(error),
                Err(error) => {
                    self.shared.sessions.put_back(session);
                    return Err(error);
                }
            }
        }
    }

    /// The status of one node.
    ///
    /// # Errors
    /// The node did not answer within an attempt's time.
    pub fn status(&self, node: SocketAddr) -> Result<NodeStatus, ClerkError> {
        let deadline = time::now() + self.shared.config.attempt_timeout.min(self.shared.config.timeout);
        self.shared.endpoints.status(node, deadline)
    }

    fn attempts(&self) -> Attempts {
        let config = self.shared.config;
        Attempts {
            deadline: time::now() + config.timeout,
            backoff: config.backoff,
            max_backoff: config.max_backoff,
            reason: "no attempt was made".to_owned(),
        }
    }

    fn attempt(&self, batch: &[Request], attempts: &Attempts) -> Attempt {
        let deadline = attempts.deadline.min(time::now() + self.shared.config.attempt_timeout);
        self.shared.endpoints.execute(batch, deadline)
    }

    /// Registers a new session. Repeating it is harmless, so every failure is one without effect.
    fn open_session(&self, attempts: &mut Attempts) -> Result<Session, ClerkError> {
        let session = self.shared.sessions.make();
        match self.write_in(session, &Write::OpenSession, attempts) {
            Ok(Outcome::Done { .. }) => Ok(session),
            Ok(other) => Err(unexpected(&other)),
            Err(ClerkError::OutcomeUnknown { reason }) => Err(ClerkError::NotAppended { reason }),
            Err(error) => Err(error),
        }
    }

    /// Sends one write of a session until there is an answer or no time.
    fn write_in(
        &self,
        session: Session,
        write: &Write,
        attempts: &mut Attempts,
    ) -> Result<Outcome, ClerkError> {
        let batch = [Request::Write(Command { session: Some(session), write: write.clone() })];
        // Whether some attempt may have been appended.
        let mut uncertain = false;
        loop {
            match self.attempt(&batch, attempts) {
                Attempt::Answered(Ok(Response::Written(outcome))) => match outcome {
                    Outcome::Failed(CommandError::UnknownSession | CommandError::StaleSequence)
                        if uncertain =>
                    {
                        let reason = "the session was lost before the outcome was known".to_owned();
                        return Err(ClerkError::OutcomeUnknown { reason });
                    }
                    outcome => return Ok(outcome),
                },
                Attempt::Answered(Ok(other)) => return Err(unexpected(&other)),
                Attempt::Answered(Err(KvError::Invalid { message })) if !uncertain => {
                    return Err(ClerkError::Invalid { message });
                }
                Attempt::Answered(Err(error)) => {
                    uncertain |= matches!(error, KvError::OutcomeUnknown { .. });
                    attempts.note(error.to_string());
                }
                Attempt::NotSent(reason) => attempts.note(reason),
                Attempt::Lost(reason) => {
                    uncertain = true;
                    attempts.note(reason);
                }
            }
            if !attempts.pause() {
                let reason = std::mem::take(&mut attempts.reason);
                return Err(if uncertain {
                    ClerkError::OutcomeUnknown { reason }
                } else {
                    ClerkError::NotAppended { reason }
                });
            }
        }
    }
}

/// The attempts of one operation: how long they may go on, and what the last one met.
#[derive(Debug)]
struct Attempts {
    deadline: Instant,
    backoff: Duration,
    max_backoff: Duration,
    reason: String,
}

impl Attempts {
    fn note(&mut self, reason: String) {
        self.reason = reason;
    }

    /// Waits before the next attempt. False when there is no time for one.
    fn pause(&mut self) -> bool {
        // Half of it is fixed, half is drawn, so that clerks that failed together do not return together.
        let jitter = self.backoff.mul_f64(0.5 + sessions::fraction() / 2.0);
        let wake = time::now() + jitter;
        if wake >= self.deadline {
            return false;
        }
        self.backoff = (self.backoff * 2).min(self.max_backoff);
        time::sleep(jitter);
        true
    }
}

/// A failed call, as far as an attempt is concerned.
fn classify(error: CallError) -> Attempt {
    match error {
        CallError::NotSent { .. } => Attempt::NotSent(error.to_string()),
        CallError::OutcomeUnknown { .. } => Attempt::Lost(error.to_string()),
        CallError::Remote(status) => match status.code() {
            // The call was not started.
            Code::Overloaded | Code::Unavailable | Code::UnknownService | Code::UnknownMethod => {
                Attempt::NotSent(status.to_string())
            }
            Code::InvalidArgument => Attempt::Answered(Err(KvError::Invalid { message: status.to_string() })),
            _ => Attempt::Lost(status.to_string()),
        },
    }
}

/// The cluster answered with something that does not belong to the request: it speaks another version.
fn unexpected(answer: &dyn std::fmt::Debug) -> ClerkError {
    ClerkError::Invalid { message: format!("unexpected answer {answer:?}") }
}

/// What an attempt at a node that does not lead looks like.
fn is_refusal(answer: &Result<Response, KvError>, reason: Refusal) -> bool {
    matches!(answer, Err(KvError::NotAppended { reason: found, .. }) if *found == reason)
}
