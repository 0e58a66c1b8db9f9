//! One member of a Raft group: the core's state, its one way in, and its one way out.
//!
//! [`Core::step`] takes an event and changes the state; [`Core::take_effects`] turns everything that changed since the
//! last call into effects. Between the two calls any number of events may be stepped: their log entries then share
//! one write, one append per peer, one acknowledgement and one round of heartbeats. That is where batching comes from.
//!
//! This file compares terms, once for all roles (paper §5.1): what the roles see is of the current term. What a role
//! does stands in its own file; its data lives in its own struct and is gone when the role is.

mod candidate;
mod follower;
mod leader;
mod output;

use super::config::{Config, ConfigError};
use super::effect::{Effect, Invariant};
use super::event::{Event, RejectReason};
use super::gate::{Gate, Promise};
use super::log::Log;
use super::message::{AppendRejection, AppendResponse, Body, HeartbeatResponse, Message, VoteResponse};
use super::quorum::{Joint, Majority};
use super::random::Random;
use super::status::Status;
use super::types::{ConfState, Entry, EntryId, HardState, Index, NodeId, Role, SnapshotMeta, Term, Ticket};
use candidate::Ballot;
use follower::Follower;
use leader::Leader;

/// Terms from here on are refused: no honest cluster counts so far, and counting on must not overflow.
const TERM_LIMIT: Term = 1 << 62;

/// Indices from here on are refused, for the same reason.
const INDEX_LIMIT: Index = 1 << 62;

/// What storage holds when a node starts.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The newest durable snapshot.
    pub snapshot: Option<SnapshotMeta>,
    /// Every stored entry after the snapshot.
    pub entries: Vec<Entry>,
    /// How far the state machine is: the snapshot's index, unless it stores its state by itself.
    pub applied: Index,
}

/// One Raft node as a pure state machine.
///
/// ```
/// use raft_core::core::{Config, Core, Effect, Event, NodeId, Restored, Role};
///
/// // A cluster of one elects itself as soon as its own vote is durable.
/// let mut core = Core::new(Config::new(NodeId(1), vec![NodeId(1)]), Restored::default()).unwrap();
/// core.step(Event::Campaign);
/// while core.role() != Role::Leader {
///     let effects: Vec<Effect> = core.take_effects().collect();
///     for effect in effects {
///         if let Effect::Persist { ticket, .. } = effect {
///             core.step(Event::Persisted { ticket });
///         }
///     }
/// }
/// ```
///
/// # Invariants
/// - The term never decreases, and within a term the vote is given once.
/// - `Follower::verified` and a leader's `match_index` speak of the current term only: both are made anew with it.
/// - After [`Effect::Fatal`] the core does nothing any more.
#[derive(Debug)]
pub struct Core {
    config: Config,
    term: Term,
    voted_for: Option<NodeId>,
    leader: Option<NodeId>,
    role: RoleState,
    log: Log,
    gate: Gate,
    voters: Joint,
    random: Random,
    /// Ticks since a leader was heard or an election began; as a leader, since the last CheckQuorum.
    election_elapsed: u32,
    /// The election timeout drawn for this wait.
    election_timeout: u32,
    /// A snapshot that was received and is to be given to storage.
    snapshot: Option<SnapshotMeta>,
    /// Asks for a write of the commit index alone.
    commit_write_due: bool,
    announced: (Role, Term, Option<NodeId>),
    effects: Vec<Effect>,
    failed: bool,
}

#[derive(Debug)]
enum RoleState {
    Follower(Follower),
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Box<Leader>),
}

impl Core {
    /// A follower that continues from what storage holds.
    ///
    /// # Errors
    /// If the configuration is not valid, or what storage holds contradicts itself.
    pub fn new(config: Config, restored: Restored) -> Result<Core, ConfigError> {
        config.validate()?;
        let Restored { mut hard_state, snapshot, entries, applied } = restored;
        let stored = hard_state;
        let base = snapshot.as_ref().map_or(EntryId::default(), |meta| meta.last);
        // A received snapshot may be durable before the log's record of it. Its term is then news, in which this node
        // cannot have promised anything yet.
        if base.term > hard_state.term {
            hard_state.term = base.term;
            hard_state.voted_for = None;
        }
        let mut last = base;
        for entry in &entries {
            if entry.id.index != last.index + 1 || entry.id.term < last.term {
                return Err(ConfigError::new(format!(
                    "stored entry {:?} does not follow {last:?}",
                    entry.id
                )));
            }
            last = entry.id;
        }
        if hard_state.term < last.term || hard_state.term >= TERM_LIMIT {
            return Err(ConfigError::new(format!(
                "stored term {} does not suit a log that ends at {last:?}",
                hard_state.term
            )));
        }
        if applied > last.index {
            return Err(ConfigError::new(format!("applied up to {applied}, but the log ends at {last:?}")));
        }
        let applied = applied.max(base.index);
        let commit = hard_state.commit_index.max(applied).min(last.index);
        let voters = match snapshot {
            Some(meta) if !meta.conf.voters.is_empty() => meta.conf.voters,
            _ => config.voters.clone(),
        };
        let mut core = Core {
            random: Random::new(config.seed),
            term: hard_state.term,
            voted_for: hard_state.voted_for,
            leader: None,
            role: RoleState::Follower(Follower::new(commit)),
            log: Log::new(base, entries, commit, applied),
            gate: Gate::new(stored),
            voters: Joint { incoming: Majority::new(voters), outgoing: Majority::default() },
            election_elapsed: 0,
            election_timeout: 0,
            snapshot: None,
            commit_write_due: false,
            announced: (Role::Follower, hard_state.term, None),
            effects: Vec::new(),
            failed: false,
            config,
        };
        core.reset_election_timer();
        Ok(core)
    }

    /// Takes one event in. Its effects are given by the next [`Core::take_effects`].
    pub fn step(&mut self, event: Event) {
        if self.failed {
            return;
        }
        match event {
            Event::Tick => self.tick(),
            Event::Message(message) => self.receive(message),
            Event::Propose { tag, commands } => self.propose(tag, commands),
            Event::Read { tag } => self.read(tag),
            Event::Persisted { ticket } => self.persisted(ticket),
            Event::Applied { index } => self.applied(index),
            Event::SnapshotSaved { meta } => self.snapshot_saved(&meta),
            Event::SnapshotReceived { from, term, meta } => self.snapshot_received(from, term, meta),
            Event::SnapshotSent { to, meta } => self.snapshot_sent(to, meta),
            Event::Unreachable { peer } => self.unreachable(peer),
            Event::TransferLeadership { to } => self.transfer_leadership(to),
            Event::Campaign => self.campaign_unless_leader(),
        }
        self.announce();
    }

    /// Gives the effects of everything stepped since the last call, in the order to carry them out.
    pub fn take_effects(&mut self) -> std::vec::Drain<'_, Effect> {
        if !self.failed {
            self.flush();
        }
        self.effects.drain(..)
    }

    /// The current role.
    pub fn role(&self) -> Role {
        match self.role {
            RoleState::Follower(_) => Role::Follower,
            RoleState::PreCandidate(_) => Role::PreCandidate,
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The known leader of the current term.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Highest index known to be committed.
    pub fn commit_index(&self) -> Index {
        self.log.commit()
    }

    /// The last entry of the log.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The entry before the first one in memory.
    pub fn compacted(&self) -> EntryId {
        self.log.base()
    }

    /// The current membership, for the metadata of a snapshot.
    pub fn conf_state(&self) -> ConfState {
        ConfState { voters: self.voters.incoming.voters().to_vec() }
    }

    /// The term of the entry at `index`, if it is in memory or the last compacted one.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// A copy of the core's state for people and tests. Allocates; the accessors above do not.
    pub fn status(&self) -> Status {
        let leader = match &self.role {
            RoleState::Leader(leader) => Some(leader),
            _ => None,
        };
        Status {
            id: self.config.id,
            role: self.role(),
            term: self.term,
            voted_for: self.voted_for,
            leader: self.leader,
            commit_index: self.log.commit(),
            applied_index: self.log.applied(),
            last: self.log.last(),
            persisted_index: self.log.persisted(),
            compacted: self.log.base(),
            conf: self.conf_state(),
            backlog_bytes: leader.map_or(0, |_| self.backlog_bytes()),
            waiting_reads: leader.map_or(0, |leader| leader.reads.len()),
            transferring: leader.and_then(|leader| leader.transferring()),
            peers: leader.map_or_else(Vec::new, |leader| leader.peers_status()),
        }
    }

    fn tick(&mut self) {
        self.commit_write_due = true;
        self.election_elapsed += 1;
        if matches!(self.role, RoleState::Leader(_)) {
            self.tick_leader();
        } else if self.election_elapsed >= self.election_timeout {
            self.campaign(false);
        }
    }

    /// Compares terms, then hands the message to the role.
    fn receive(&mut self, message: Message) {
        let from = message.from;
        if message.to != self.config.id || !self.is_peer(from) || message.term >= TERM_LIMIT {
            return;
        }
        if message.term > self.term {
            match &message.body {
                Body::RequestVote(request) if !request.leader_transfer && self.in_lease() => return,
                // A question changes nothing, nor does a granted answer: it names the term asked about.
                Body::RequestVote(request) if request.pre_vote => {}
                Body::VoteResponse(response) if response.pre_vote && response.granted => {}
                Body::AppendEntries(_) | Body::Heartbeat(_) | Body::TimeoutNow => {
                    self.become_follower(message.term, Some(from));
                }
                _ => self.become_follower(message.term, None),
            }
        } else if message.term < self.term {
            return self.answer_old_term(from, message.body);
        }
        match message.body {
            Body::RequestVote(request) => self.handle_vote_request(from, message.term, request),
            Body::VoteResponse(response) => self.handle_vote_response(from, message.term, response),
            Body::AppendEntries(append) if self.follow(from) => self.handle_append(append),
            Body::Heartbeat(heartbeat) if self.follow(from) => self.handle_heartbeat(heartbeat),
            Body::AppendEntries(_) | Body::Heartbeat(_) => {}
            Body::AppendResponse(response) => self.handle_append_response(from, response),
            Body::HeartbeatResponse(response) => self.handle_heartbeat_response(from, response.read_token),
            Body::TimeoutNow => self.handle_timeout_now(from),
        }
    }

    /// Whether `id` is another member. Strangers are not listened to: the membership does not change yet.
    fn is_peer(&self, id: NodeId) -> bool {
        id != self.config.id && self.voters.contains(id)
    }

    /// Tells a sender of an older term which term it is, so that it steps down or starts over (paper §5.1).
    fn answer_old_term(&mut self, from: NodeId, body: Body) {
        let answer = match body {
            Body::RequestVote(request) => {
                Body::VoteResponse(VoteResponse { granted: false, pre_vote: request.pre_vote })
            }
            Body::AppendEntries(append) => Body::AppendResponse(AppendResponse::Rejected(AppendRejection {
                rejected_index: append.prev.index,
                hint: EntryId::default(),
            })),
            Body::Heartbeat(_) => Body::HeartbeatResponse(HeartbeatResponse { read_token: 0 }),
            // Answers to something this node no longer waits for.
            _ => return,
        };
        self.send(from, answer);
    }

    /// Whether a leader was heard within the shortest election timeout, or this node is one: then somebody who wants
    /// votes is wrong about the leader being gone (thesis §6.2).
    fn in_lease(&self) -> bool {
        self.config.check_quorum
            && self.leader.is_some()
            && (self.leader == Some(self.config.id) || self.election_elapsed < self.config.election_ticks)
    }

    /// Acknowledges `from` as the leader of the current term. False if the message must be ignored.
    fn follow(&mut self, from: NodeId) -> bool {
        if self.leader == Some(from) {
            self.election_elapsed = 0;
            return true;
        }
        if let Some(leader) = self.leader {
            self.fatal(format!("term {} has two leaders: {leader} and {from}", self.term));
            return false;
        }
        self.become_follower(self.term, Some(from));
        true
    }

    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        if let RoleState::Leader(leading) = &mut self.role {
            for tag in leading.reads.drain() {
                let reason = RejectReason::NotLeader { leader };
                self.effects.push(Effect::Rejected { tag, reason });
            }
        }
        // Only a leader's word or a vote given makes a follower wait anew (paper §5.2); a newer term alone does not, or
        // a node that cannot win could keep others from trying.
        if leader.is_some() || !matches!(self.role, RoleState::Follower(_)) {
            self.reset_election_timer();
        }
        // A follower that only learns who leads keeps what it knows: its term is the same.
        if term != self.term || !matches!(self.role, RoleState::Follower(_)) {
            self.role = RoleState::Follower(Follower::new(self.log.commit()));
        }
        self.set_term(term);
        self.leader = leader;
    }

    fn set_term(&mut self, term: Term) {
        assert!(term >= self.term, "term regression {} -> {term}", self.term);
        if term > self.term {
            self.term = term;
            self.voted_for = None;
        }
    }

    fn reset_election_timer(&mut self) {
        self.election_elapsed = 0;
        let ticks = self.config.election_ticks;
        self.election_timeout = self.random.within(ticks..ticks.saturating_mul(2));
    }

    fn persisted(&mut self, ticket: Ticket) {
        if ticket > self.gate.issued() {
            let issued = self.gate.issued();
            return self.fatal(format!("ticket {ticket} is reported, but only {issued} was issued"));
        }
        let Some(covers) = self.gate.complete(ticket) else { return };
        self.log.persisted_to(covers);
        self.keep_promises();
        self.advance_commit();
    }

    /// Does what was held back for writes that are durable by now.
    fn keep_promises(&mut self) {
        while let Some(promise) = self.gate.release() {
            match promise {
                Promise::Vote(message) if message.term == self.term => {
                    self.effects.push(Effect::Send(message))
                }
                Promise::OwnVote(term) if term == self.term => self.count_own_vote(),
                // The term has moved on meanwhile; nobody waits for this any more.
                Promise::Vote(_) | Promise::OwnVote(_) => {}
            }
        }
    }

    fn applied(&mut self, index: Index) {
        if index > self.log.applying() {
            let applying = self.log.applying();
            return self.fatal(format!("{index} is reported as applied, but only {applying} was handed out"));
        }
        self.log.applied_to(index);
    }

    fn snapshot_saved(&mut self, meta: &SnapshotMeta) {
        let index = meta.last.index;
        if index > self.log.applying() {
            let applying = self.log.applying();
            return self.fatal(format!("a snapshot of {index} is saved, but only {applying} was handed out"));
        }
        if index > self.log.base().index && self.log.contains(meta.last) {
            self.log.compact(index, self.config.trailing_entries, self.config.trailing_bytes);
        }
    }

    fn send(&mut self, to: NodeId, body: Body) {
        self.effects.push(Effect::Send(self.message(to, body)));
    }

    fn message(&self, to: NodeId, body: Body) -> Message {
        Message { from: self.config.id, to, term: self.term, body }
    }

    fn fatal(&mut self, message: String) {
        self.failed = true;
        self.effects.push(Effect::Fatal(Invariant { message }));
    }
}
