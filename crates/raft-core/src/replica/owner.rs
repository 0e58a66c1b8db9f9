//! The owner fiber: owns the core, feeds it events, carries its effects out.
//!
//! One round: take everything that is queued, step it, tick if it is time, then carry out the effects of all of it at
//! once. Whatever came together shares one write, one append per peer and one round of heartbeats. It never waits for
//! the disk, the network or the state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fiber_runtime::sync::channel::{Receiver, Sender};
use fiber_runtime::{FiberBuilder, time};

use crate::core::{
    Core, Effect, EntryId, Event, Message, NodeId, RejectReason, Restored, Role, SnapshotMeta, Tag, Term,
    Ticket,
};
use crate::snapshot::SnapshotStore;
use crate::wal::{Disk, WalJob, Write};

use super::apply::ApplyJob;
use super::config::ReplicaConfig;
use super::error::{ProposeError, ReadError, ReplicaError};
use super::event::{Proposal, ProposalReply, ReadRequest, ReplicaEvent};
use super::outbox::Outbox;
use super::pending::{Admission, Expectation};
use super::shared::Shared;
use super::snapshots::Transfer;
use super::status::ReplicaCounters;
use super::ticker::Ticker;
use super::transport::Transport;

/// Events taken from the queue at once.
const MAX_GATHERED_EVENTS: usize = 1024;

/// What an owner is made of.
pub(super) struct Parts<O, D: Disk> {
    pub(super) config: Arc<ReplicaConfig>,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<SnapshotStore<D>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) events: Receiver<ReplicaEvent<O>>,
    /// For fibers that report back.
    pub(super) sender: Sender<ReplicaEvent<O>>,
    pub(super) wal: Sender<WalJob>,
    pub(super) apply: Sender<ApplyJob<O>>,
    /// The newest durable snapshot.
    pub(super) newest: Option<SnapshotMeta>,
}

pub(super) struct Owner<O, D: Disk> {
    config: Arc<ReplicaConfig>,
    core: Core,
    shared: Arc<Shared>,
    store: Arc<SnapshotStore<D>>,
    transport: Arc<dyn Transport>,
    events: Receiver<ReplicaEvent<O>>,
    sender: Sender<ReplicaEvent<O>>,
    wal: Outbox<WalJob>,
    apply: Outbox<ApplyJob<O>>,
    newest: Option<SnapshotMeta>,
    ticker: Ticker,
    next_tag: Tag,
    persisted: Ticket,
    applied: u64,
    /// Given to the core, not yet answered: it answers within the round.
    proposed: BTreeMap<Tag, Vec<Client<O>>>,
    /// Given to the core, waiting for a majority.
    reading: BTreeMap<Tag, Vec<ReadRequest>>,
    /// Of this round.
    proposals: Vec<Proposal<O>>,
    reads: Vec<ReadRequest>,
    outgoing: BTreeMap<NodeId, Vec<Message>>,
    effects: Vec<Effect>,
    /// Peers that a message was dropped for: told to the core in the next round.
    unreachable: BTreeSet<NodeId>,
    /// Peers that a snapshot is being sent to.
    transfers: BTreeSet<NodeId>,
    counters: ReplicaCounters,
}

impl<O: Send + 'static, D: Disk> Owner<O, D> {
    /// # Errors
    /// If the core refuses what storage holds.
    pub(super) fn new(parts: Parts<O, D>, restored: Restored) -> Result<Owner<O, D>, ReplicaError> {
        if let Some(observer) = &parts.config.observer {
            observer.started(&restored);
        }
        let core = Core::new(parts.config.core.clone(), restored)?;
        let mut owner = Owner {
            ticker: Ticker::new(parts.config.tick, time::now()),
            config: parts.config,
            core,
            applied: parts.shared.applied(),
            shared: parts.shared,
            store: parts.store,
            transport: parts.transport,
            events: parts.events,
            sender: parts.sender,
            wal: Outbox::new(parts.wal),
            apply: Outbox::new(parts.apply),
            newest: parts.newest,
            next_tag: 1,
            persisted: 0,
            proposed: BTreeMap::new(),
            reading: BTreeMap::new(),
            proposals: Vec::new(),
            reads: Vec::new(),
            outgoing: BTreeMap::new(),
            effects: Vec::new(),
            unreachable: BTreeSet::new(),
            transfers: BTreeSet::new(),
            counters: ReplicaCounters::default(),
        };
        owner.publish();
        Ok(owner)
    }

    /// Works until it is told to stop or something is broken.
    pub(super) fn run(mut self) {
        let mut gathered = Vec::new();
        while !self.shared.is_stopping() {
            self.wait(&mut gathered);
            self.shared.take_nudge();
            self.report_progress();
            for event in gathered.drain(..) {
                self.handle(event);
            }
            self.propose();
            self.read();
            for peer in std::mem::take(&mut self.unreachable) {
                self.core.step(Event::Unreachable { peer });
            }
            self.tick();
            self.carry_out();
            self.flush();
            self.publish();
        }
        self.end(gathered);
    }

    /// Takes what is queued; waits for the next tick if that is nothing.
    fn wait(&mut self, gathered: &mut Vec<ReplicaEvent<O>>) {
        if self.unreachable.is_empty() {
            // An error is the tick, or that every handle is gone, which a nudge tells better.
            let _ = self.events.recv_many_until(gathered, MAX_GATHERED_EVENTS, self.ticker.next());
        } else {
            self.events.try_recv_many(gathered, MAX_GATHERED_EVENTS);
        }
    }

    /// Tells the core how far storage and state machine are.
    fn report_progress(&mut self) {
        let persisted = self.shared.persisted();
        if persisted > self.persisted {
            self.persisted = persisted;
            self.core.step(Event::Persisted { ticket: persisted });
        }
        let applied = self.shared.applied();
        if applied > self.applied {
            self.applied = applied;
            self.core.step(Event::Applied { index: applied });
        }
    }

    fn handle(&mut self, event: ReplicaEvent<O>) {
        match event {
            ReplicaEvent::Nudge => {}
            ReplicaEvent::Deliver(delivery) => {
                self.shared.queued_bytes.fetch_sub(delivery.bytes, Ordering::Relaxed);
                self.counters.received += delivery.messages.len() as u64;
                for message in delivery.messages {
                    self.core.step(Event::Message(message));
                }
            }
            ReplicaEvent::Propose(proposal) => self.proposals.push(proposal),
            ReplicaEvent::Read(request) => self.reads.push(request),
            ReplicaEvent::SnapshotSaved(meta) => {
                self.counters.snapshots_saved += 1;
                self.newest = Some(meta.clone());
                self.wal.push(WalJob::Compact { meta: meta.clone() });
                self.core.step(Event::SnapshotSaved { meta });
            }
            ReplicaEvent::SnapshotReceived { from, term, meta } => {
                self.core.step(Event::SnapshotReceived { from, term, meta });
            }
            ReplicaEvent::SnapshotSent { to, meta } => {
                self.transfers.remove(&to);
                self.core.step(Event::SnapshotSent { to, meta });
            }
            ReplicaEvent::TriggerSnapshot => self.apply.push(ApplyJob::Snapshot),
            ReplicaEvent::Transfer(to) => self.core.step(Event::TransferLeadership { to }),
            ReplicaEvent::Campaign => self.core.step(Event::Campaign),
        }
    }

    fn tag(&mut self) -> Tag {
        self.next_tag += 1;
        self.next_tag
    }

    /// Gives the proposals of this round to the core, merged as far as their size allows.
    fn propose(&mut self) {
        let now = time::now();
        let mut group = Group::default();
        for proposal in std::mem::take(&mut self.proposals) {
            // Its client has given up already; nothing is appended for nobody.
            if proposal.deadline > now {
                group.push(proposal);
            }
            if group.bytes >= self.config.max_merged_bytes {
                self.propose_group(std::mem::take(&mut group));
            }
        }
        if !group.clients.is_empty() {
            self.propose_group(group);
        }
    }

    fn propose_group(&mut self, group: Group<O>) {
        let tag = self.tag();
        self.proposed.insert(tag, group.clients);
        self.core.step(Event::Propose { tag, commands: group.commands });
    }

    /// Gives the reads of this round to the core, as one.
    fn read(&mut self) {
        let now = time::now();
        let mut reads = std::mem::take(&mut self.reads);
        reads.retain(|read| read.deadline > now);
        if !reads.is_empty() {
            let tag = self.tag();
            self.reading.insert(tag, reads);
            self.core.step(Event::Read { tag });
        }
    }

    fn tick(&mut self) {
        if self.ticker.is_due(time::now()) {
            self.core.step(Event::Tick);
        }
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        effects.extend(self.core.take_effects());
        if let Some(observer) = &self.config.observer {
            observer.stepped(&effects);
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Persist { ticket, hard_state, entries, snapshot, must_sync } => {
                    let installed = snapshot.clone();
                    let write = Write { hard_state, snapshot, entries };
                    self.wal.push(WalJob::Persist { ticket, write, must_sync });
                    if let Some(meta) = installed {
                        self.newest = Some(meta.clone());
                        self.wal.push(WalJob::Compact { meta });
                    }
                }
                Effect::Send(message) => self.outgoing.entry(message.to).or_default().push(message),
                Effect::Apply { entries } => self.apply.push(ApplyJob::Entries(entries)),
                Effect::Restore { meta } => self.apply.push(ApplyJob::Restore(meta)),
                Effect::SendSnapshot { to, term } => self.send_snapshot(to, term),
                Effect::Appended { tag, first, count } => self.appended(tag, first, count),
                Effect::Rejected { tag, reason } => self.rejected(tag, reason),
                Effect::ReadReady { tag, index } => self.read_ready(tag, index),
                Effect::RoleChanged { role, term, leader } => self.role_changed(role, term, leader),
                Effect::Fatal(invariant) => self.shared.fail(ReplicaError::Invariant(invariant)),
            }
        }
        self.effects = effects;
        self.send();
    }

    fn send(&mut self) {
        while let Some((to, messages)) = self.outgoing.pop_first() {
            let count = messages.len() as u64;
            match self.transport.send_all(to, messages) {
                Ok(()) => self.counters.sent += count,
                Err(_) => {
                    self.counters.dropped += count;
                    self.unreachable.insert(to);
                }
            }
        }
    }

    fn appended(&mut self, tag: Tag, first: EntryId, count: u64) {
        let clients = self.proposed.remove(&tag).unwrap_or_default();
        debug_assert_eq!(clients.iter().map(|client| client.count).sum::<u64>(), count);
        self.counters.proposals += 1;
        self.counters.proposed += count;
        let mut next = first;
        for Client { count, reply, admission } in clients {
            let outputs = Vec::with_capacity(count as usize);
            self.apply.push(ApplyJob::Expect(Expectation { first: next, count, outputs, reply, admission }));
            next.index += count;
        }
    }

    fn rejected(&mut self, tag: Tag, reason: RejectReason) {
        for client in self.proposed.remove(&tag).unwrap_or_default() {
            let error = match reason {
                RejectReason::NotLeader { leader } => ProposeError::NotLeader { leader },
                RejectReason::Overloaded => ProposeError::Overloaded,
                RejectReason::Transferring { to } => ProposeError::Transferring { to },
            };
            let _ = client.reply.send(Err(error));
        }
        for read in self.reading.remove(&tag).unwrap_or_default() {
            let error = match reason {
                RejectReason::NotLeader { leader } => ReadError::NotLeader { leader },
                RejectReason::Transferring { to } => ReadError::NotLeader { leader: Some(to) },
                RejectReason::Overloaded => ReadError::Overloaded,
            };
            let _ = read.reply.send(Err(error));
        }
    }

    fn read_ready(&mut self, tag: Tag, index: u64) {
        let reads = self.reading.remove(&tag).unwrap_or_default();
        self.counters.reads += reads.len() as u64;
        let replies = reads.into_iter().map(|read| read.reply);
        if index <= self.shared.applied() {
            replies.for_each(|reply| drop(reply.send(Ok(index))));
        } else {
            self.apply.push(ApplyJob::Read { index, replies: replies.collect() });
        }
    }

    /// One transfer to a peer at a time.
    fn send_snapshot(&mut self, to: NodeId, term: Term) {
        if !self.transfers.insert(to) {
            return;
        }
        let transfer = Transfer {
            config: self.config.clone(),
            shared: self.shared.clone(),
            store: self.store.clone(),
            transport: self.transport.clone(),
            to,
            term,
            newest: self.newest.clone(),
        };
        let sender = self.sender.clone();
        drop(FiberBuilder::new().name(format!("snapshot-to-{to}")).spawn(move || {
            let meta = transfer.run();
            // The owner may be gone; then nobody needs to know.
            let _ = sender.send(ReplicaEvent::SnapshotSent { to, meta });
        }));
    }

    fn role_changed(&mut self, role: Role, term: Term, leader: Option<NodeId>) {
        self.counters.role_changes += 1;
        let id = self.config.core.id;
        tracing::info!(%id, ?role, term, leader = leader.map(|leader| leader.0), "role changed");
        self.shared.publish(|status| {
            (status.role, status.term, status.leader) = (role, term, leader);
        });
    }

    fn flush(&mut self) {
        self.wal.flush();
        // Set before the attempt: if the apply fiber makes room right after it, the owner is nudged.
        self.shared.apply_is_full.store(true, Ordering::SeqCst);
        if !self.apply.flush() {
            self.shared.apply_is_full.store(false, Ordering::SeqCst);
        }
    }

    fn publish(&mut self) {
        let core = self.core.status();
        let counters = self.counters;
        let snapshot_index = self.newest.as_ref().map_or(0, |meta| meta.last.index);
        self.shared.publish(|status| {
            status.role = core.role;
            status.term = core.term;
            status.leader = core.leader;
            status.commit_index = core.commit_index;
            status.last_log_index = core.last.index;
            status.persisted_index = core.persisted_index;
            status.snapshot_index = snapshot_index;
            status.backlog_bytes = core.backlog_bytes;
            status.waiting_reads = core.waiting_reads;
            status.counters = counters;
            status.peers = core.peers;
        });
    }

    /// Refuses what was not given to the core; who waits for something that was learns that its sender is gone.
    fn end(self, mut left: Vec<ReplicaEvent<O>>) {
        self.events.close();
        while self.events.try_recv_many(&mut left, MAX_GATHERED_EVENTS) > 0 {}
        for event in left {
            match event {
                ReplicaEvent::Propose(proposal) => {
                    let _ = proposal.reply.send(Err(ProposeError::Stopped));
                }
                ReplicaEvent::Read(read) => {
                    let _ = read.reply.send(Err(ReadError::Stopped));
                }
                _ => {}
            }
        }
        for read in self.reading.into_values().flatten() {
            let _ = read.reply.send(Err(ReadError::Stopped));
        }
        self.shared.end();
    }
}

/// A client whose commands are with the core.
struct Client<O> {
    count: u64,
    reply: ProposalReply<O>,
    admission: Admission,
}

/// Proposals that become one.
struct Group<O> {
    clients: Vec<Client<O>>,
    commands: Vec<Bytes>,
    bytes: usize,
}

impl<O> Default for Group<O> {
    fn default() -> Group<O> {
        Group { clients: Vec::new(), commands: Vec::new(), bytes: 0 }
    }
}

impl<O> Group<O> {
    fn push(&mut self, proposal: Proposal<O>) {
        let Proposal { mut commands, reply, admission, .. } = proposal;
        self.bytes += commands.iter().map(Bytes::len).sum::<usize>();
        self.clients.push(Client { count: commands.len() as u64, reply, admission });
        if self.commands.is_empty() {
            self.commands = commands;
        } else {
            self.commands.append(&mut commands);
        }
    }
}
