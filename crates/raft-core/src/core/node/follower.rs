//! A follower: answers candidates, takes entries from the leader, installs snapshots.
//!
//! An append is accepted if the log matches just before it (paper §5.3, the consistency check); entries that conflict
//! are cut off, entries that are already there are left alone, so that a late or doubled append never takes anything
//! back. The answer is held until the entries are durable (`flush_acknowledgement`), and says how far the log is
//! known to match *this term's* leader: one answer speaks for all appends before it.

use crate::core::effect::Effect;
use crate::core::event::RejectReason;
use crate::core::gate::Promise;
use crate::core::message::{
    AppendEntries, AppendRejection, AppendResponse, Body, Heartbeat, HeartbeatResponse, RequestVote,
    VoteResponse,
};
use crate::core::types::{Entry, EntryId, Index, NodeId, SnapshotMeta, Tag, Term};

use super::{Core, RoleState};

/// A follower's state within one term.
///
/// # Invariants
/// - The log agrees with this term's leader up to `verified`, and `verified` never goes back.
#[derive(Debug)]
pub(super) struct Follower {
    verified: Index,
    acknowledged: Index,
    answer: Answer,
}

/// Whether the leader waits for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    NotDue,
    /// When more than was acknowledged is durable.
    OnProgress,
    /// At once, even if it says nothing new: an earlier answer may be lost.
    Now,
}

impl Follower {
    /// Committed entries are the same on every leader (paper §5.4.3), so a term starts with them verified.
    pub(super) fn new(commit: Index) -> Follower {
        Follower { verified: commit, acknowledged: 0, answer: Answer::NotDue }
    }

    /// The log agrees with the leader's up to `index`.
    fn verify(&mut self, index: Index, persisted: Index) {
        self.verified = self.verified.max(index);
        if index <= persisted {
            self.answer = Answer::Now;
        } else if self.answer == Answer::NotDue {
            self.answer = Answer::OnProgress;
        }
    }

    /// What to acknowledge now, if anything, when the log is durable up to `persisted`.
    pub(super) fn acknowledge(&mut self, persisted: Index) -> Option<Index> {
        let index = self.verified.min(persisted);
        match self.answer {
            Answer::NotDue => return None,
            Answer::OnProgress if index <= self.acknowledged => return None,
            Answer::OnProgress | Answer::Now => {}
        }
        self.acknowledged = self.acknowledged.max(index);
        self.answer = if index < self.verified { Answer::OnProgress } else { Answer::NotDue };
        Some(index)
    }
}

impl Core {
    /// Gives a vote, or says whether it would (paper §5.2, §5.4.1, thesis §9.6).
    pub(super) fn handle_vote_request(&mut self, from: NodeId, term: Term, request: RequestVote) {
        let may_vote = if request.pre_vote {
            // The question is about a term that has not begun, where no vote is given yet.
            term > self.term
        } else {
            // A repeated request gets the same vote again; otherwise one vote a term, and none against a leader.
            self.voted_for == Some(from) || (self.voted_for.is_none() && self.leader.is_none())
        };
        let granted = may_vote && self.log.is_up_to_date(request.last);
        let response = Body::VoteResponse(VoteResponse { granted, pre_vote: request.pre_vote });
        match (granted, request.pre_vote) {
            (true, false) => {
                self.voted_for = Some(from);
                self.election_elapsed = 0;
                self.gate.promise(Promise::Vote(self.message(from, response)));
            }
            (true, true) => {
                let mut message = self.message(from, response);
                message.term = term;
                self.effects.push(Effect::Send(message));
            }
            (false, _) => self.send(from, response),
        }
    }

    /// Takes entries from the leader of this term.
    pub(super) fn handle_append(&mut self, append: AppendEntries) {
        let AppendEntries { prev, mut entries, commit_index } = append;
        if !well_formed(prev, &entries, self.term) {
            return;
        }
        // A state machine that cannot keep up must not fill the memory: drop the append as the network might.
        // Committed entries can be applied without any further append, so this ends.
        let unapplied = self.log.bytes_between(self.log.applied(), self.log.commit());
        if !entries.is_empty() && unapplied > self.config.max_uncommitted_bytes as u64 {
            return;
        }
        let commit = self.log.commit();
        let last_new = prev.index + entries.len() as Index;
        if prev.index < commit {
            // Overlaps what is committed; that part is the same in every leader's log.
            let known = entries.len().min((commit - prev.index) as usize);
            if let Some(entry) = entries[..known].iter().find(|entry| self.contradicts(entry.id)) {
                let message =
                    format!("leader's entry {:?} replaces a committed one (commit {commit})", entry.id);
                return self.fatal(message);
            }
            entries.drain(..known);
        } else if !self.log.contains(prev) {
            return self.reject_append(prev);
        }
        let matching = entries.iter().take_while(|entry| self.log.contains(entry.id)).count();
        if let Some(first) = entries.get(matching) {
            if first.id.index <= self.log.last().index {
                self.log.truncate(first.id.index);
                self.gate.cut(first.id.index - 1);
            }
            for entry in entries.drain(matching..) {
                self.log.push(entry);
            }
        }
        let RoleState::Follower(follower) = &mut self.role else { return };
        follower.verify(last_new.max(commit), self.log.persisted());
        let verified = follower.verified;
        self.log.commit_to(commit_index.min(verified));
    }

    fn contradicts(&self, id: EntryId) -> bool {
        self.log.term_at(id.index).is_some_and(|term| term != id.term)
    }

    /// Says where the logs might still agree: no entry of a later term than `prev` can match (paper §5.3, end).
    fn reject_append(&mut self, prev: EntryId) {
        let Some(leader) = self.leader else { return };
        let last = prev.index.min(self.log.last().index);
        let hint = self.log.last_at_most(last, prev.term).unwrap_or(self.log.base());
        let rejection = AppendRejection { rejected_index: prev.index, hint };
        self.send(leader, Body::AppendResponse(AppendResponse::Rejected(rejection)));
    }

    /// The leader is alive, and has seen the log of this node match up to at least `commit_index`.
    pub(super) fn handle_heartbeat(&mut self, heartbeat: Heartbeat) {
        let Some(leader) = self.leader else { return };
        self.log.commit_to(heartbeat.commit_index);
        let response = HeartbeatResponse { read_token: heartbeat.read_token };
        self.send(leader, Body::HeartbeatResponse(response));
    }

    /// Installs a snapshot that lies in the spool (paper §7).
    pub(super) fn snapshot_received(&mut self, from: NodeId, term: Term, meta: SnapshotMeta) {
        let position = meta.last.index > 0 && meta.last.index < super::INDEX_LIMIT;
        let plausible = position && meta.last.term > 0 && meta.last.term <= term && term < super::TERM_LIMIT;
        if !self.is_peer(from) || !plausible || term < self.term {
            return;
        }
        if term > self.term {
            self.become_follower(term, Some(from));
        }
        if !self.follow(from) {
            return;
        }
        if meta.last.index > self.log.commit() {
            let valid = self.log.restore(meta.last);
            self.gate.cut(valid);
            if !meta.conf.voters.is_empty() {
                self.voters.incoming = super::Majority::new(meta.conf.voters.clone());
            }
            self.effects.push(Effect::Restore { meta: meta.clone() });
            self.snapshot = Some(meta);
        }
        let RoleState::Follower(follower) = &mut self.role else { return };
        follower.verify(self.log.commit(), self.log.persisted());
    }

    /// The leader asks this node to take over (thesis §3.10).
    pub(super) fn handle_timeout_now(&mut self, from: NodeId) {
        if matches!(self.role, RoleState::Follower(_)) && self.leader == Some(from) {
            self.campaign(true);
        }
    }

    /// Refuses a request that only a leader serves.
    pub(super) fn reject_not_leader(&mut self, tag: Tag) {
        let reason = RejectReason::NotLeader { leader: self.leader };
        self.effects.push(Effect::Rejected { tag, reason });
    }
}

/// Whether `entries` can follow `prev` in a log of a leader of `term`.
fn well_formed(prev: EntryId, entries: &[Entry], term: Term) -> bool {
    let mut last = prev;
    prev.term <= term
        && (prev.index == 0) == (prev.term == 0)
        && entries.iter().all(|entry| {
            let follows = last.index.checked_add(1) == Some(entry.id.index)
                && last.term <= entry.id.term
                && entry.id.term <= term
                && entry.id.term > 0;
            last = entry.id;
            follows
        })
}
