//! What the core's tests share: one node whose effects are looked at ([`Node`]), and a small cluster of them with a
//! network and disks that do what the test says ([`Cluster`]).
//!
//! Nothing here is random and nothing waits: a message arrives when the test delivers it, and a write is durable when
//! the test says so.
#![allow(dead_code)] // every test file uses its own part

mod cluster;

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::core::{
    AppendEntries, AppendRejection, AppendResponse, Body, ConfState, Config, Core, Effect, Entry, EntryId,
    EntryKind, Event, HardState, Heartbeat, HeartbeatResponse, Index, Message, NodeId, RejectReason,
    RequestVote, Restored, Role, SnapshotMeta, Term, Ticket, VoteResponse,
};

#[allow(unused_imports)] // single nodes are enough for some files
pub(crate) use cluster::Cluster;

/// Node `n`.
pub(crate) fn id(n: u64) -> NodeId {
    NodeId(n)
}

/// Nodes 1 to `count`.
pub(crate) fn voters(count: u64) -> Vec<NodeId> {
    (1..=count).map(NodeId).collect()
}

/// The configuration of node `n` of `count`: a heartbeat every tick, elections after 10 to 19, no PreVote and no
/// CheckQuorum, so that a test sees only what it is about.
pub(crate) fn plain(n: u64, count: u64) -> Config {
    let mut config = Config::new(id(n), voters(count));
    config.heartbeat_ticks = 1;
    config.election_ticks = 10;
    config.pre_vote = false;
    config.check_quorum = false;
    config
}

/// The entry at `index` of `term`, with its position as payload.
pub(crate) fn entry(term: Term, index: Index) -> Entry {
    let data = Bytes::from(format!("{index}@{term}"));
    Entry { id: EntryId { term, index }, kind: EntryKind::Command, data }
}

/// A log whose entries have these terms, from index 1 on.
pub(crate) fn log(terms: &[Term]) -> Vec<Entry> {
    terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect()
}

/// A position.
pub(crate) fn at(term: Term, index: Index) -> EntryId {
    EntryId { term, index }
}

/// Stored state with a log of these terms, in `term`.
pub(crate) fn stored(term: Term, terms: &[Term]) -> Restored {
    let hard_state = HardState { term, voted_for: None, commit_index: 0 };
    Restored { hard_state, entries: log(terms), ..Restored::default() }
}

/// A snapshot's position in a cluster of `count`.
pub(crate) fn snapshot(term: Term, index: Index, count: u64) -> SnapshotMeta {
    SnapshotMeta { last: at(term, index), conf: ConfState { voters: voters(count) } }
}

/// An append of `entries` after `prev`.
pub(crate) fn append(prev: EntryId, entries: Vec<Entry>, commit_index: Index) -> Body {
    Body::AppendEntries(AppendEntries { prev, entries, commit_index })
}

pub(crate) fn accepted(match_index: Index) -> Body {
    Body::AppendResponse(AppendResponse::Accepted { match_index })
}

pub(crate) fn rejected(rejected_index: Index, hint: EntryId) -> Body {
    Body::AppendResponse(AppendResponse::Rejected(AppendRejection { rejected_index, hint }))
}

pub(crate) fn heartbeat(commit_index: Index, read_token: u64) -> Body {
    Body::Heartbeat(Heartbeat { commit_index, read_token })
}

pub(crate) fn echo(read_token: u64) -> Body {
    Body::HeartbeatResponse(HeartbeatResponse { read_token })
}

pub(crate) fn ask_vote(last: EntryId) -> Body {
    Body::RequestVote(RequestVote { last, pre_vote: false, leader_transfer: false })
}

pub(crate) fn ask_pre_vote(last: EntryId) -> Body {
    Body::RequestVote(RequestVote { last, pre_vote: true, leader_transfer: false })
}

pub(crate) fn vote(granted: bool) -> Body {
    Body::VoteResponse(VoteResponse { granted, pre_vote: false })
}

pub(crate) fn pre_vote(granted: bool) -> Body {
    Body::VoteResponse(VoteResponse { granted, pre_vote: true })
}

/// One core, and everything it has asked for.
pub(crate) struct Node {
    pub(crate) core: Core,
    /// Writes that are not reported yet.
    pub(crate) writes: VecDeque<Write>,
    /// Messages since the last [`Node::take_sent`].
    pub(crate) sent: Vec<Message>,
    /// Entries handed to the state machine.
    pub(crate) applied: Vec<Entry>,
    /// How far the state machine was reported to be.
    pub(crate) reported: Index,
    /// Tags of proposals that were appended, with their positions.
    pub(crate) appended: Vec<(u64, EntryId, u64)>,
    pub(crate) rejections: Vec<(u64, RejectReason)>,
    pub(crate) ready: Vec<(u64, Index)>,
    pub(crate) roles: Vec<(Role, Term, Option<NodeId>)>,
    pub(crate) restored: Vec<SnapshotMeta>,
    pub(crate) snapshots_asked: Vec<(NodeId, Term)>,
    pub(crate) fatal: Option<String>,
}

/// One `Effect::Persist`.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) ticket: Ticket,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) must_sync: bool,
}

impl Node {
    pub(crate) fn new(config: Config, restored: Restored) -> Node {
        Node {
            core: Core::new(config, restored).expect("the test's state is consistent"),
            writes: VecDeque::new(),
            sent: Vec::new(),
            applied: Vec::new(),
            reported: 0,
            appended: Vec::new(),
            rejections: Vec::new(),
            ready: Vec::new(),
            roles: Vec::new(),
            restored: Vec::new(),
            snapshots_asked: Vec::new(),
            fatal: None,
        }
    }

    /// Node 1 of a plain cluster of `count` with an empty log.
    pub(crate) fn fresh(count: u64) -> Node {
        Node::new(plain(1, count), Restored::default())
    }

    /// Steps one event and takes its effects.
    pub(crate) fn step(&mut self, event: Event) {
        self.core.step(event);
        self.flush();
    }

    /// Takes the effects of what was stepped into the core directly.
    pub(crate) fn flush(&mut self) {
        let effects: Vec<Effect> = self.core.take_effects().collect();
        for effect in effects {
            match effect {
                Effect::Persist { ticket, hard_state, entries, snapshot, must_sync } => {
                    self.writes.push_back(Write { ticket, hard_state, entries, snapshot, must_sync });
                }
                Effect::Send(message) => self.sent.push(message),
                Effect::Apply { entries } => self.applied.extend(entries),
                Effect::Restore { meta } => self.restored.push(meta),
                Effect::SendSnapshot { to, term } => self.snapshots_asked.push((to, term)),
                Effect::Appended { tag, first, count } => self.appended.push((tag, first, count)),
                Effect::Rejected { tag, reason } => self.rejections.push((tag, reason)),
                Effect::ReadReady { tag, index } => self.ready.push((tag, index)),
                Effect::RoleChanged { role, term, leader } => self.roles.push((role, term, leader)),
                Effect::Fatal(invariant) => self.fatal = Some(invariant.message),
            }
        }
    }

    /// A message of `term` arrives from node `from`.
    pub(crate) fn receive(&mut self, from: u64, term: Term, body: Body) {
        let to = self.core.status().id;
        self.step(Event::Message(Message { from: id(from), to, term, body }));
    }

    /// A message arrives; gives what was sent because of it.
    pub(crate) fn answer(&mut self, from: u64, term: Term, body: Body) -> Vec<Message> {
        self.sent.clear();
        self.receive(from, term, body);
        self.take_sent()
    }

    pub(crate) fn tick(&mut self, times: u32) {
        for _ in 0..times {
            self.step(Event::Tick);
        }
    }

    /// The oldest write becomes durable.
    pub(crate) fn persist_one(&mut self) {
        let write = self.writes.pop_front().expect("a write is under way");
        self.step(Event::Persisted { ticket: write.ticket });
    }

    /// All writes become durable, also those that follow from it.
    pub(crate) fn persist(&mut self) {
        while !self.writes.is_empty() {
            self.persist_one();
        }
    }

    /// The state machine applies what it was given.
    pub(crate) fn apply(&mut self) {
        let applied = self.applied.last().map_or(0, |entry| entry.id.index);
        let restored = self.restored.last().map_or(0, |meta| meta.last.index);
        if applied.max(restored) > self.reported {
            self.reported = applied.max(restored);
            self.step(Event::Applied { index: self.reported });
        }
    }

    pub(crate) fn propose(&mut self, tag: u64, command: &'static str) {
        self.step(Event::Propose { tag, commands: vec![Bytes::from_static(command.as_bytes())] });
    }

    pub(crate) fn take_sent(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent)
    }

    /// Makes this node the leader of the next term, with the votes of every other node; everything is durable.
    pub(crate) fn lead(&mut self) {
        let status = self.core.status();
        self.step(Event::Campaign);
        if self.core.role() == Role::PreCandidate {
            for peer in &status.conf.voters {
                self.receive(peer.0, status.term + 1, pre_vote(true));
            }
        }
        self.persist();
        let term = self.core.term();
        for peer in status.conf.voters {
            self.receive(peer.0, term, vote(true));
        }
        assert_eq!(self.core.role(), Role::Leader, "node {} wins the vote of everybody", status.id);
        self.persist();
    }

    /// Makes this node the leader of its next term, with its first entry committed and applied everywhere, peers
    /// streaming, and nothing left in `sent`.
    pub(crate) fn lead_steadily(&mut self) {
        self.lead();
        let status = self.core.status();
        for peer in status.peers {
            self.receive(peer.id.0, status.term, accepted(status.last.index));
        }
        self.apply();
        self.persist();
        assert_eq!(self.core.commit_index(), self.core.last().index);
        self.sent.clear();
    }

    /// Makes this node a follower of node `leader` in `term`.
    pub(crate) fn follow(&mut self, leader: u64, term: Term) {
        self.receive(leader, term, heartbeat(0, 0));
        self.persist();
        self.sent.clear();
    }

    /// The terms of the log in memory.
    pub(crate) fn terms(&self) -> Vec<Term> {
        (self.core.compacted().index + 1..=self.core.last().index)
            .map(|index| self.core.term_at(index).expect("in memory"))
            .collect()
    }

    /// Appends among the messages sent, by receiver.
    pub(crate) fn appends(&self) -> Vec<(u64, AppendEntries)> {
        let appends = self.sent.iter().filter_map(|message| match &message.body {
            Body::AppendEntries(append) => Some((message.to.0, append.clone())),
            _ => None,
        });
        appends.collect()
    }

    /// Appends among the messages sent to node `to`.
    pub(crate) fn appends_to(&self, to: u64) -> Vec<AppendEntries> {
        self.appends().into_iter().filter(|(peer, _)| *peer == to).map(|(_, append)| append).collect()
    }
}

/// What was said, without who said it to whom.
pub(crate) fn bodies(messages: Vec<Message>) -> Vec<Body> {
    messages.into_iter().map(|message| message.body).collect()
}
