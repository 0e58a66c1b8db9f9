//! A leader: takes proposals, feeds the followers, counts what they hold, confirms reads, checks that it still has a
//! majority, and hands over.
//!
//! The leader's own disk is one voter among others: its entries are replicated while they are being written (thesis
//! §10.2.1), and its `match_index` is what storage has reported. Only entries of the current term are committed by
//! counting (paper §5.4.2, Figure 8); older ones are committed with them.
//!
//! Commit indices travel with appends and heartbeats; when there is neither, a heartbeat of its own follows within a
//! tick.

use bytes::Bytes;

use crate::core::effect::Effect;
use crate::core::event::RejectReason;
use crate::core::log::Log;
use crate::core::message::{AppendEntries, AppendResponse, Body, Heartbeat, ReadToken};
use crate::core::progress::{Progress, ReplicationState};
use crate::core::quorum::VoteResult;
use crate::core::read::ReadQueue;
use crate::core::status::PeerStatus;
use crate::core::types::{Entry, EntryId, EntryKind, Index, NodeId, SnapshotMeta, Tag};

use super::{Core, RoleState};

/// A leader's state within its term.
#[derive(Debug)]
pub(super) struct Leader {
    /// The other voters, in ascending order.
    peers: Vec<(NodeId, Progress)>,
    pub(super) reads: ReadQueue,
    /// Whether an entry of this term is committed.
    term_committed: bool,
    heartbeat_elapsed: u32,
    transfer: Option<Transfer>,
}

/// A leadership that is being handed over (thesis §3.10).
#[derive(Clone, Copy, Debug)]
struct Transfer {
    to: NodeId,
    /// Ticks since it began; it is given up after an election timeout.
    elapsed: u32,
    /// The peer was told to campaign.
    asked: bool,
}

impl Leader {
    fn peer(&mut self, id: NodeId) -> Option<&mut Progress> {
        let position = self.peers.binary_search_by_key(&id, |(peer, _)| *peer).ok()?;
        Some(&mut self.peers[position].1)
    }

    fn find(&self, id: NodeId) -> Option<&Progress> {
        let position = self.peers.binary_search_by_key(&id, |(peer, _)| *peer).ok()?;
        Some(&self.peers[position].1)
    }

    /// To whom the leadership is being handed.
    pub(super) fn transferring(&self) -> Option<NodeId> {
        self.transfer.map(|transfer| transfer.to)
    }

    /// For the status page.
    pub(super) fn peers_status(&self) -> Vec<PeerStatus> {
        let status = |(id, progress): &(NodeId, Progress)| PeerStatus {
            id: *id,
            match_index: progress.match_index,
            next_index: progress.next_index,
            state: progress.state,
            inflight: progress.inflight(),
            recent_active: progress.recent_active,
        };
        self.peers.iter().map(status).collect()
    }
}

impl Core {
    /// A majority has voted: lead, and append an empty entry so that earlier ones can commit (paper §8).
    pub(super) fn become_leader(&mut self) {
        let next_index = self.log.last().index + 1;
        let id = self.config.id;
        let others = self.voters.incoming.voters().iter().filter(|peer| **peer != id);
        self.role = RoleState::Leader(Box::new(Leader {
            peers: others.map(|peer| (*peer, Progress::new(next_index))).collect(),
            reads: ReadQueue::default(),
            term_committed: false,
            heartbeat_elapsed: 0,
            transfer: None,
        }));
        self.leader = Some(id);
        self.election_elapsed = 0;
        self.append(EntryKind::Noop, Bytes::new());
    }

    fn append(&mut self, kind: EntryKind, data: Bytes) {
        let id = EntryId { term: self.term, index: self.log.last().index + 1 };
        self.log.push(Entry { id, kind, data });
    }

    /// Appends a client's commands, or says why not.
    pub(super) fn propose(&mut self, tag: Tag, commands: Vec<Bytes>) {
        let RoleState::Leader(leader) = &self.role else { return self.reject_not_leader(tag) };
        if let Some(to) = leader.transferring() {
            return self.effects.push(Effect::Rejected { tag, reason: RejectReason::Transferring { to } });
        }
        let backlog = self.backlog_bytes();
        let added: u64 = commands.iter().map(|command| Entry::size_of(command) as u64).sum();
        if backlog > 0 && backlog + added > self.config.max_uncommitted_bytes as u64 {
            return self.effects.push(Effect::Rejected { tag, reason: RejectReason::Overloaded });
        }
        let first = EntryId { term: self.term, index: self.log.last().index + 1 };
        let count = commands.len() as u64;
        for command in commands {
            self.append(EntryKind::Command, command);
        }
        self.effects.push(Effect::Appended { tag, first, count });
    }

    /// Bytes that are not yet committed, durable here and applied: what a leader must keep in memory whatever the
    /// compaction does.
    pub(super) fn backlog_bytes(&self) -> u64 {
        let done = self.log.commit().min(self.log.persisted()).min(self.log.applied());
        self.log.bytes_between(done, self.log.last().index)
    }

    /// Queues a read, see [`ReadQueue`].
    pub(super) fn read(&mut self, tag: Tag) {
        let RoleState::Leader(leader) = &mut self.role else { return self.reject_not_leader(tag) };
        if leader.reads.len() >= self.config.max_waiting_reads {
            self.effects.push(Effect::Rejected { tag, reason: RejectReason::Overloaded });
        } else if leader.term_committed {
            leader.reads.push(tag, self.log.commit());
        } else {
            leader.reads.push_early(tag);
        }
    }

    /// Heartbeats, CheckQuorum, and the end of a transfer that takes too long.
    pub(super) fn tick_leader(&mut self) {
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if self.config.check_quorum && !self.has_active_quorum() {
                return self.become_follower(self.term, None);
            }
        }
        let RoleState::Leader(leader) = &mut self.role else { return };
        if let Some(transfer) = &mut leader.transfer {
            transfer.elapsed += 1;
            if transfer.elapsed >= self.config.election_ticks {
                leader.transfer = None;
            }
        }
        leader.heartbeat_elapsed += 1;
        if leader.heartbeat_elapsed >= self.config.heartbeat_ticks {
            leader.heartbeat_elapsed = 0;
            for (_, progress) in &mut leader.peers {
                progress.resume_on_response = true;
            }
            // Reads that came during a round that was lost go out with this one.
            if leader.reads.has_unsent() {
                leader.reads.start_round();
            }
            self.broadcast_heartbeat(|_| true);
            // A cluster of one has nobody whose answer would do it.
            self.confirm_reads();
        } else {
            let commit = self.log.commit();
            self.broadcast_heartbeat(|progress| progress.sent_commit < commit.min(progress.match_index));
        }
    }

    /// Whether a majority was heard since the last time; the next period starts (thesis §6.2).
    fn has_active_quorum(&mut self) -> bool {
        let RoleState::Leader(leader) = &mut self.role else { return false };
        let id = self.config.id;
        let active = |peer| Some(peer == id || leader.find(peer).is_some_and(|p| p.recent_active));
        let result = self.voters.vote(active);
        for (_, progress) in &mut leader.peers {
            progress.recent_active = false;
        }
        result == VoteResult::Won
    }

    fn broadcast_heartbeat(&mut self, wanted: impl Fn(&Progress) -> bool) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let read_token = leader.reads.newest();
        for (peer, progress) in leader.peers.iter_mut().filter(|(_, progress)| wanted(progress)) {
            // A follower must not commit past what it is known to share with this leader.
            let commit_index = self.log.commit().min(progress.match_index);
            progress.sent_commit = progress.sent_commit.max(commit_index);
            let body = Body::Heartbeat(Heartbeat { commit_index, read_token });
            let message = super::Message { from: self.config.id, to: *peer, term: self.term, body };
            self.effects.push(Effect::Send(message));
        }
    }

    /// Starts a round of reads if some wait, and sends each peer what it may be sent.
    pub(super) fn flush_replication(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.reads.wants_round() {
            leader.reads.start_round();
            self.broadcast_heartbeat(|_| true);
            self.confirm_reads();
        }
        let RoleState::Leader(leader) = &mut self.role else { return };
        for (peer, progress) in &mut leader.peers {
            let sender = Sender { from: self.config.id, to: *peer, term: self.term, config: &self.config };
            sender.send_appends(&self.log, progress, &mut self.effects);
        }
    }

    /// An answer to an append or to an installed snapshot.
    pub(super) fn handle_append_response(&mut self, from: NodeId, response: AppendResponse) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peer(from) else { return };
        progress.recent_active = true;
        match response {
            AppendResponse::Accepted { match_index } => {
                // Nobody can agree with entries that were never sent.
                if match_index > self.log.last().index {
                    return;
                }
                let news = progress.accepted(match_index);
                match progress.state {
                    ReplicationState::Probe => progress.become_replicate(),
                    ReplicationState::Snapshot if match_index >= self.log.base().index => {
                        progress.become_replicate();
                    }
                    ReplicationState::Replicate | ReplicationState::Snapshot => {}
                }
                if news {
                    self.advance_commit();
                    self.advance_transfer(from);
                }
            }
            AppendResponse::Rejected(rejection) => {
                let hint = rejection.hint;
                // If even the oldest entry in memory is of a later term, only a snapshot can help.
                let retry_at = self
                    .log
                    .last_at_most(hint.index, hint.term)
                    .map_or(self.log.base().index.saturating_sub(1), |id| id.index);
                progress.rejected(rejection.rejected_index, retry_at);
            }
        }
    }

    /// The peer lives and had this token after it was made.
    pub(super) fn handle_heartbeat_response(&mut self, from: NodeId, token: ReadToken) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let newest = leader.reads.newest();
        let Some(progress) = leader.peer(from) else { return };
        progress.recent_active = true;
        if std::mem::take(&mut progress.resume_on_response) {
            progress.paused = false;
            // What was sent should have arrived before the heartbeat. If not all of it is acknowledged, ask: an append
            // without entries is rejected where something was lost.
            if progress.state == ReplicationState::Replicate && progress.match_index + 1 < progress.next_index
            {
                let sender = Sender { from: self.config.id, to: from, term: self.term, config: &self.config };
                sender.send_empty(&self.log, progress, &mut self.effects);
            }
        }
        if token <= newest && token > progress.acked_token {
            progress.acked_token = token;
            self.confirm_reads();
        }
    }

    fn confirm_reads(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let (id, newest) = (self.config.id, leader.reads.newest());
        let acked = |peer| {
            if peer == id { Some(newest) } else { leader.find(peer).map(|progress| progress.acked_token) }
        };
        let confirmed = self.voters.committed(acked).min(newest);
        leader.reads.confirm(confirmed, |tag, index| self.effects.push(Effect::ReadReady { tag, index }));
    }

    /// Commits what a majority holds durably, if it is of this term (paper §5.4.2).
    pub(super) fn advance_commit(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let (id, own) = (self.config.id, self.log.persisted());
        let reached = |peer| {
            if peer == id { Some(own) } else { leader.find(peer).map(|progress| progress.match_index) }
        };
        let index = self.voters.committed(reached);
        if self.log.term_at(index) == Some(self.term) && self.log.commit_to(index) && !leader.term_committed {
            leader.term_committed = true;
            leader.reads.admit_early(self.log.commit());
        }
    }

    /// Hands the leadership over (thesis §3.10). Does nothing if this node does not lead, or `to` is no other voter.
    pub(super) fn transfer_leadership(&mut self, to: NodeId) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.find(to).is_none() || leader.transferring() == Some(to) {
            return;
        }
        leader.transfer = Some(Transfer { to, elapsed: 0, asked: false });
        self.advance_transfer(to);
    }

    /// Asks the peer to campaign once it holds the whole log.
    fn advance_transfer(&mut self, peer: NodeId) {
        let last = self.log.last().index;
        let RoleState::Leader(leader) = &mut self.role else { return };
        let caught_up = leader.find(peer).is_some_and(|progress| progress.match_index == last);
        if let Some(transfer) = &mut leader.transfer
            && transfer.to == peer
            && !transfer.asked
            && caught_up
        {
            transfer.asked = true;
            self.send(peer, Body::TimeoutNow);
        }
    }

    /// A snapshot transfer has ended.
    pub(super) fn snapshot_sent(&mut self, to: NodeId, meta: Option<SnapshotMeta>) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peer(to) else { return };
        if progress.state == ReplicationState::Snapshot {
            progress.become_probe();
            if let Some(meta) = meta {
                progress.next_index = progress.next_index.max(meta.last.index + 1);
            }
            // Go on when it answers, or at its next heartbeat.
            progress.paused = true;
        }
    }

    /// A message to this peer was dropped on the way out: wait for its next sign of life.
    pub(super) fn unreachable(&mut self, peer: NodeId) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.peer(peer)
            && progress.state == ReplicationState::Replicate
        {
            progress.become_probe();
            progress.paused = true;
        }
    }
}

/// Where appends to one peer come from and go to.
struct Sender<'a> {
    from: NodeId,
    to: NodeId,
    term: u64,
    config: &'a super::Config,
}

impl Sender<'_> {
    /// Sends whatever the peer lacks and its window has room for.
    fn send_appends(&self, log: &Log, progress: &mut Progress, effects: &mut Vec<Effect>) {
        let (messages, bytes) = (self.config.max_inflight_messages, self.config.max_inflight_bytes);
        while progress.may_send(messages, bytes) {
            let last = log.last().index;
            let unverified =
                progress.state == ReplicationState::Probe && progress.match_index + 1 < progress.next_index;
            if progress.next_index > last && !unverified {
                return;
            }
            let Some(prev) = entry_before(log, progress.next_index) else {
                return self.send_snapshot(progress, effects);
            };
            let entries = log.slice(progress.next_index, last, self.config.max_append_bytes);
            self.send(log, prev, entries, progress, effects);
        }
    }

    /// Sends an append without entries after everything that was sent. Where that was compacted meanwhile, only a
    /// snapshot can help.
    fn send_empty(&self, log: &Log, progress: &mut Progress, effects: &mut Vec<Effect>) {
        match entry_before(log, progress.next_index) {
            Some(prev) => self.send(log, prev, Vec::new(), progress, effects),
            None => self.send_snapshot(progress, effects),
        }
    }

    fn send(
        &self,
        log: &Log,
        prev: EntryId,
        entries: Vec<Entry>,
        progress: &mut Progress,
        effects: &mut Vec<Effect>,
    ) {
        let commit_index = log.commit();
        let last = prev.index + entries.len() as Index;
        progress.sent_commit = progress.sent_commit.max(commit_index.min(last));
        progress.sent(last, log.bytes_between(prev.index, last));
        let body = Body::AppendEntries(AppendEntries { prev, entries, commit_index });
        let message = super::Message { from: self.from, to: self.to, term: self.term, body };
        effects.push(Effect::Send(message));
    }

    /// The peer needs entries that are gone. Nothing is started for a peer that has not been heard.
    fn send_snapshot(&self, progress: &mut Progress, effects: &mut Vec<Effect>) {
        if progress.recent_active {
            progress.become_snapshot();
            effects.push(Effect::SendSnapshot { to: self.to, term: self.term });
        } else {
            progress.become_probe();
            progress.paused = true;
        }
    }
}

/// The entry before `next`, if it is known.
fn entry_before(log: &Log, next: Index) -> Option<EntryId> {
    let index = next - 1;
    log.term_at(index).map(|term| EntryId { term, index })
}
