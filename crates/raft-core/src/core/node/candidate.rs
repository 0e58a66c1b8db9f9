//! Elections (paper §5.2): an optional question whether one could be won (PreVote, thesis §9.6), then the vote.
//!
//! ```text
//!   Follower ──timeout──► PreCandidate ──majority would──► Candidate ──own vote durable──► asks for votes
//!       ▲                      │  ▲                            │                              │
//!       └── majority would not ┘  └────────── timeout ─────────┘         majority votes ──► Leader
//! ```
//!
//! A candidate asks for votes only after its own vote is durable. Asking earlier is not safe when messages may be
//! late: a node that asked, crashed before it had stored the term, and restarted with a shorter log would campaign in
//! the same term again and could count a vote that was given to the longer log.

use crate::core::gate::Promise;
use crate::core::message::{Body, RequestVote, VoteResponse};
use crate::core::quorum::VoteResult;
use crate::core::types::{NodeId, Term};

use super::{Core, RoleState, TERM_LIMIT};

/// The answers to one election or PreVote.
#[derive(Debug, Default)]
pub(super) struct Ballot {
    answers: Vec<(NodeId, bool)>,
    /// The leader asked for this election (thesis §3.10).
    leader_transfer: bool,
}

impl Ballot {
    /// Notes an answer; the first one of a node counts.
    fn note(&mut self, id: NodeId, granted: bool) {
        if self.answer(id).is_none() {
            self.answers.push((id, granted));
        }
    }

    fn answer(&self, id: NodeId) -> Option<bool> {
        self.answers.iter().find(|(from, _)| *from == id).map(|(_, granted)| *granted)
    }
}

impl Core {
    /// Starts an election because the driver asked for one.
    pub(super) fn campaign_unless_leader(&mut self) {
        if !matches!(self.role, RoleState::Leader(_)) {
            self.campaign(false);
        }
    }

    /// Starts an election; with PreVote by asking first, unless the leader itself wants it.
    pub(super) fn campaign(&mut self, leader_transfer: bool) {
        self.reset_election_timer();
        // A node that was voted out does not campaign. Nor does one that was led to the last term by a liar.
        if !self.voters.incoming.contains(self.config.id) || self.term + 1 >= TERM_LIMIT {
            return;
        }
        if self.config.pre_vote && !leader_transfer {
            self.leader = None;
            self.role = RoleState::PreCandidate(Ballot::default());
            self.ask_for_votes(self.term + 1, true, false);
            self.count_vote(self.config.id, true);
        } else {
            self.become_candidate(leader_transfer);
        }
    }

    fn become_candidate(&mut self, leader_transfer: bool) {
        self.set_term(self.term + 1);
        self.voted_for = Some(self.config.id);
        self.leader = None;
        self.role = RoleState::Candidate(Ballot { answers: Vec::new(), leader_transfer });
        self.reset_election_timer();
        self.gate.promise(Promise::OwnVote(self.term));
    }

    /// The own vote of the current term is durable: it counts, and the others may be asked.
    pub(super) fn count_own_vote(&mut self) {
        let RoleState::Candidate(ballot) = &self.role else { return };
        let leader_transfer = ballot.leader_transfer;
        self.ask_for_votes(self.term, false, leader_transfer);
        self.count_vote(self.config.id, true);
    }

    fn ask_for_votes(&mut self, term: Term, pre_vote: bool, leader_transfer: bool) {
        let request = RequestVote { last: self.log.last(), pre_vote, leader_transfer };
        for position in 0..self.voters.incoming.voters().len() {
            let peer = self.voters.incoming.voters()[position];
            if peer != self.config.id {
                let mut message = self.message(peer, Body::RequestVote(request));
                message.term = term;
                self.effects.push(super::Effect::Send(message));
            }
        }
    }

    /// An answer of the current term, or a granted PreVote of a later one.
    pub(super) fn handle_vote_response(&mut self, from: NodeId, term: Term, response: VoteResponse) {
        let counts = match self.role {
            RoleState::PreCandidate(_) if response.pre_vote => !response.granted || term == self.term + 1,
            RoleState::Candidate(_) => !response.pre_vote,
            _ => false,
        };
        if counts {
            self.count_vote(from, response.granted);
        }
    }

    fn count_vote(&mut self, from: NodeId, granted: bool) {
        let (RoleState::PreCandidate(ballot) | RoleState::Candidate(ballot)) = &mut self.role else { return };
        ballot.note(from, granted);
        match (self.voters.vote(|id| ballot.answer(id)), &self.role) {
            (VoteResult::Pending, _) => {}
            (VoteResult::Lost, _) => self.become_follower(self.term, None),
            (VoteResult::Won, RoleState::PreCandidate(_)) => self.become_candidate(false),
            (VoteResult::Won, _) => self.become_leader(),
        }
    }
}
