//! The calls of one connection that wait for their replies.
//!
//! A call's request stays here until the writer fetches it to send it, so that a call that gives up before that takes its
//! payload with it and can say with certainty that nothing was sent.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fiber_runtime::sync::{Spin, oneshot};
use rustc_hash::FxHashMap;

use crate::error::CallError;

/// How a call ended.
pub(super) type Outcome = Result<Bytes, CallError>;

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: Cow<'static, str>,
    pub(super) method: Cow<'static, str>,
    pub(super) deadline: Option<Instant>,
    pub(super) payload: Bytes,
}

impl Request {
    /// What the request takes in the outbox; the header is estimated.
    pub(super) fn size(&self) -> usize {
        self.service.len() + self.method.len() + self.payload.len() + 32
    }
}

/// What giving up found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GaveUp {
    /// The request was still here.
    Unsent,
    /// The request was fetched for sending.
    Sent,
    /// The call had ended already; its outcome is in the receiver.
    TooLate,
}

/// Why a call was not opened.
pub(super) enum Refused {
    TooManyCalls,
    /// The connection ended for this reason.
    Ended(Arc<str>),
}

struct Waiting {
    reply: oneshot::Sender<Outcome>,
    unsent: Option<Request>,
}

/// # Invariants
/// - A call is open from [`open`](Self::open) until it is completed, given up, or failed with all others; exactly one of these
///   takes it out, and only that one decides its outcome.
pub(super) struct Calls {
    state: Spin<State>,
    max: usize,
}

struct State {
    last_id: u64,
    open: FxHashMap<u64, Waiting>,
    ended: Option<Arc<str>>,
}

impl Calls {
    pub(super) fn new(max: usize) -> Calls {
        Calls { state: Spin::new(State { last_id: 0, open: FxHashMap::default(), ended: None }), max }
    }

    pub(super) fn open(&self, request: Request) -> Result<(u64, oneshot::Receiver<Outcome>), Refused> {
        let (reply, receiver) = oneshot::channel();
        let waiting = Waiting { reply, unsent: Some(request) };
        let opened = self.state.lock(|state| {
            if let Some(cause) = &state.ended {
                return Err((Refused::Ended(Arc::clone(cause)), waiting));
            }
            if state.open.len() >= self.max {
                return Err((Refused::TooManyCalls, waiting));
            }
            state.last_id += 1;
            state.open.insert(state.last_id, waiting);
            Ok(state.last_id)
        });
        match opened {
            Ok(id) => Ok((id, receiver)),
            Err((refused, _waiting)) => Err(refused),
        }
    }

    /// For the writer: the request of a call that is still wanted. From here on its outcome may be unknown.
    pub(super) fn fetch(&self, id: u64, now: Instant) -> Option<Request> {
        self.state.lock(|state| {
            let waiting = state.open.get_mut(&id)?;
            // A call whose time is up is left to its caller, who is about to find that nothing was sent.
            if waiting.unsent.as_ref()?.deadline.is_some_and(|deadline| deadline <= now) {
                return None;
            }
            waiting.unsent.take()
        })
    }

    /// Ends a call with its reply. `false` if nobody waits for it any more.
    pub(super) fn complete(&self, id: u64, outcome: Outcome) -> bool {
        match self.state.lock(|state| state.open.remove(&id)) {
            // The caller may have left between the two steps; its reply is dropped then, too.
            Some(waiting) => waiting.reply.send(outcome).is_ok(),
            None => false,
        }
    }

    pub(super) fn give_up(&self, id: u64) -> GaveUp {
        match self.state.lock(|state| state.open.remove(&id)) {
            None => GaveUp::TooLate,
            Some(Waiting { unsent: Some(_), .. }) => GaveUp::Unsent,
            Some(_) => GaveUp::Sent,
        }
    }

    /// Ends every call: the connection is over. `outcome` is told whether the call had been sent.
    pub(super) fn fail_all(&self, cause: &Arc<str>, outcome: impl Fn(bool) -> CallError) {
        let open = self.state.lock(|state| {
            state.ended = Some(Arc::clone(cause));
            std::mem::take(&mut state.open)
        });
        for waiting in open.into_values() {
            let error = outcome(waiting.unsent.is_none());
            // A caller that left needs no answer.
            let _ = waiting.reply.send(Err(error));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock(|state| state.open.len())
    }
}

#[cfg(test)]
mod tests;
