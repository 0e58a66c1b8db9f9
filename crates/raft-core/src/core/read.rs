//! Linearizable reads without writing to the log: ReadIndex (thesis §6.4).
//!
//! A read is linearizable if the state it sees includes every write that was acknowledged before the read began. The
//! leader's commit index covers those writes, provided that
//!
//! 1. an entry of its own term is committed: before that it may not know the newest commit index (thesis §6.4, step
//!    1). Reads that come earlier wait here;
//! 2. it was still the leader after the read began: it sends a heartbeat that carries a *token* and waits until a
//!    majority has echoed it.
//!
//! Tokens are numbers made by the leader, one per round of heartbeats, and all reads that wait when a round starts
//! share its token. An echo confirms its own token and smaller ones only, so a late answer to an older round never
//! confirms a newer read; identifying rounds by something the client chose is how other implementations came to serve
//! stale reads (etcd-io/raft pull request 397). A leader has one round under way at a time; under load that gathers
//! reads into batches by itself. Tokens of another term never arrive here: the term of the message tells.
//!
//! Left out: leases (thesis §6.4.1), which trade a message round for a bound on clock drift.

use std::collections::VecDeque;

use super::message::ReadToken;
use super::types::{Index, Tag};

/// The reads of one leader that wait.
///
/// # Invariants
/// - `confirmed <= newest`.
/// - Tokens of `waiting` never decrease and are at most `newest + 1`; those with `newest + 1` wait for a round.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    /// Reads that came before the first commit of the term.
    early: Vec<Tag>,
    waiting: VecDeque<WaitingRead>,
    newest: ReadToken,
    confirmed: ReadToken,
}

#[derive(Debug)]
struct WaitingRead {
    tag: Tag,
    /// The commit index when the read began.
    index: Index,
    token: ReadToken,
}

impl ReadQueue {
    /// Reads that wait for whatever reason.
    pub(super) fn len(&self) -> usize {
        self.early.len() + self.waiting.len()
    }

    /// The newest token that was sent.
    pub(super) fn newest(&self) -> ReadToken {
        self.newest
    }

    /// Holds a read back until an entry of the term is committed.
    pub(super) fn push_early(&mut self, tag: Tag) {
        self.early.push(tag);
    }

    /// Takes a read in; it will be ready at `commit`, once a round that starts from now on is confirmed.
    pub(super) fn push(&mut self, tag: Tag, commit: Index) {
        self.waiting.push_back(WaitingRead { tag, index: commit, token: self.newest + 1 });
    }

    /// The first entry of the term is committed: early reads are taken in.
    pub(super) fn admit_early(&mut self, commit: Index) {
        for tag in std::mem::take(&mut self.early) {
            self.push(tag, commit);
        }
    }

    /// Whether reads wait for a round and none is under way.
    pub(super) fn wants_round(&self) -> bool {
        self.newest == self.confirmed && self.has_unsent()
    }

    /// Whether reads wait for a round.
    pub(super) fn has_unsent(&self) -> bool {
        self.waiting.back().is_some_and(|read| read.token > self.newest)
    }

    /// Starts a round for all reads that wait for one; its token is [`ReadQueue::newest`].
    pub(super) fn start_round(&mut self) {
        self.newest += 1;
    }

    /// A majority has echoed `token`: gives each confirmed read to `ready`.
    pub(super) fn confirm(&mut self, token: ReadToken, mut ready: impl FnMut(Tag, Index)) {
        assert!(token <= self.newest, "token {token} is confirmed, but only {} was sent", self.newest);
        self.confirmed = self.confirmed.max(token);
        while let Some(read) = self.waiting.pop_front_if(|read| read.token <= token) {
            ready(read.tag, read.index);
        }
    }

    /// Empties the queue because the leadership has ended.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Tag> + '_ {
        self.early.drain(..).chain(self.waiting.drain(..).map(|read| read.tag))
    }
}
