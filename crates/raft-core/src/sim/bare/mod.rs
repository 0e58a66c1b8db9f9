//! Bare cores in a cluster: no fibers, no files, one queue of events in virtual time.
//!
//! The simulator of whole replicas runs the shipping code of every layer; this one runs the shipping core alone and
//! plays the driver's part itself, in the ways the contract of [`Effect`] allows and a real driver rarely takes: writes
//! complete late, effects are collected after several events, acknowledgements and snapshots cross in flight. A run
//! takes about a millisecond, so that thousands of seeds are looked at in a test.
//!
//! ```text
//!   queue (time, what) --> one node steps one event --> effects --> storage, network, state machine --> queue
//!                                   '--------------------> World: five properties after each step
//! ```

mod disk;
mod node;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;

use crate::core::{Config, Effect, Event, Index, Message, NodeId, Role, SnapshotMeta, Term, Ticket};

use super::faults::FaultOptions;
use super::invariants::{Observation, Violation, World};
use super::links::Links;
use super::oracle::Oracle;
use super::rng::Rng;
use node::{Node, Request};

/// One tick of the cores.
const TICK: Duration = Duration::from_millis(10);

/// A run of bare cores.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// What goes wrong.
    pub faults: FaultOptions,
    /// How long it goes wrong.
    pub chaos: Duration,
    /// How long after the last fault a write may take to be acknowledged and reach every node.
    pub recovery: Duration,
    /// Mean time between two requests of clients.
    pub request_every: Duration,
    /// A node takes a snapshot after so many applied entries.
    pub snapshot_every: Index,
    /// See [`Config`].
    pub election_ticks: u32,
    /// See [`Config`]. Safety must not depend on it.
    pub pre_vote: bool,
    /// See [`Config`]. Safety must not depend on it.
    pub check_quorum: bool,
}

impl Options {
    /// `nodes` nodes with the fault mix of `seed`.
    pub fn swarm(nodes: usize, seed: u64) -> Options {
        let mut rng = Rng::new(seed, "options");
        Options {
            nodes,
            faults: FaultOptions::swarm(seed),
            chaos: Duration::from_secs(5),
            recovery: Duration::from_secs(10),
            request_every: Duration::from_millis(8),
            snapshot_every: *rng.pick(&[15, 60, 1_000_000]),
            election_ticks: *rng.pick(&[5, 15]),
            pre_vote: rng.chance(0.6),
            check_quorum: rng.chance(0.7),
        }
    }
}

/// What a run amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes acknowledged to clients.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Entries committed.
    pub committed: Index,
    /// Terms that had a leader.
    pub leaders: u64,
    /// Crashes.
    pub crashes: u64,
    /// Snapshots installed on a follower.
    pub installed: u64,
    /// A fingerprint of everything that happened.
    pub trace_hash: u64,
}

/// Things that happen at a time. A number after a node is the life it belongs to: what a crash overtakes is void.
#[derive(Debug)]
enum What {
    Tick(usize, u64),
    Flush(usize, u64),
    Deliver(Message),
    Synced(usize, u64, Ticket),
    Applied(usize, u64, Index),
    SnapshotSaved(usize, u64, SnapshotMeta),
    SnapshotArrives { from: NodeId, to: NodeId, term: Term, meta: SnapshotMeta },
    SnapshotSent(usize, u64, NodeId, Option<SnapshotMeta>),
    Start(usize),
    Crash,
    CrashOne(usize, u64),
    Partition,
    Heal,
    Request,
    Transfer,
    ChaosEnds,
}

struct Scheduled {
    at: Duration,
    order: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Runs `seed`.
///
/// # Errors
/// The first property that did not hold.
pub fn run(options: &Options, seed: u64) -> Result<Summary, Violation> {
    let mut cluster = Cluster::new(options.clone(), seed);
    cluster.run();
    match cluster.world.violation() {
        Some(violation) => Err(violation.clone()),
        None => Ok(cluster.summary()),
    }
}

struct Cluster {
    options: Options,
    seed: u64,
    rng: Rng,
    now: Duration,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    nodes: Vec<Node>,
    ids: Vec<NodeId>,
    links: Links,
    chaos: bool,
    world: World,
    oracle: Oracle,
    next_command: u64,
    leaders: BTreeMap<Term, NodeId>,
    crashes: u64,
    installed: u64,
    trace_hash: u64,
}

impl Cluster {
    fn new(options: Options, seed: u64) -> Cluster {
        let ids: Vec<NodeId> = (1..=options.nodes as u64).map(NodeId).collect();
        let mut cluster = Cluster {
            rng: Rng::new(seed, "bare"),
            seed,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            order: 0,
            nodes: ids.iter().map(|id| Node::new(*id)).collect(),
            ids,
            links: Links::new(),
            chaos: true,
            world: World::new(),
            oracle: Oracle::new(),
            next_command: 0,
            leaders: BTreeMap::new(),
            crashes: 0,
            installed: 0,
            trace_hash: 0,
            options,
        };
        for node in 0..cluster.nodes.len() {
            cluster.start(node);
        }
        let faults = cluster.options.faults.clone();
        cluster.after(faults.crash_every, What::Crash);
        cluster.after(faults.partition_every, What::Partition);
        cluster.after(faults.transfer_every, What::Transfer);
        cluster.after(Some(cluster.options.request_every), What::Request);
        cluster.at(cluster.options.chaos, What::ChaosEnds);
        cluster
    }

    fn summary(&self) -> Summary {
        let (acknowledged, reads, ..) = self.oracle.counts();
        Summary {
            acknowledged,
            reads,
            committed: self.world.last_committed(),
            leaders: self.leaders.len() as u64,
            crashes: self.crashes,
            installed: self.installed,
            trace_hash: self.trace_hash,
        }
    }

    /// Until everybody agrees again after the chaos, or something is wrong.
    fn run(&mut self) {
        let end = self.options.chaos + self.options.recovery;
        while self.world.violation().is_none() {
            let Some(Reverse(Scheduled { at, what, .. })) = self.queue.pop() else { break };
            self.now = at;
            if at > end {
                let (acknowledged, ..) = self.oracle.counts();
                let views: Vec<String> = self.nodes.iter().map(Node::describe).collect();
                let found = format!(
                    "{:?} after the last fault: {acknowledged} writes acknowledged; {}",
                    self.options.recovery,
                    views.join("; ")
                );
                self.world.report("progress after healing", found);
                return;
            }
            self.mix(&what);
            self.happen(what);
            if !self.chaos && self.has_recovered() {
                return;
            }
        }
    }

    /// A write that was asked for after the chaos is acknowledged, and every node has applied everything.
    fn has_recovered(&self) -> bool {
        let Some((_, last)) = self.oracle.acknowledged().max_by_key(|(_, id)| id.index) else { return false };
        let committed = self.world.last_committed();
        self.oracle.acknowledged().any(|(name, _)| name >= self.healed_command())
            && last.index <= committed
            && self.nodes.iter().all(|node| node.applied() == committed)
    }

    /// Commands from here on were sent after the chaos.
    fn healed_command(&self) -> u64 {
        1 << 32
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick(node, life) if self.lives(node, life) => {
                self.in_a_while(TICK, What::Tick(node, life));
                self.step(node, Event::Tick);
            }
            What::Flush(node, life) if self.lives(node, life) => self.flush(node),
            What::Deliver(message) => {
                let to = self.place(message.to);
                if self.nodes[to].runs() && self.links.passes(message.from, message.to) {
                    self.step(to, Event::Message(message));
                }
            }
            What::Synced(node, life, ticket) if self.lives(node, life) => {
                self.nodes[node].storage.sync(ticket);
                self.start_sync(node);
                self.step(node, Event::Persisted { ticket });
            }
            What::Applied(node, life, index) if self.lives(node, life) => self.applied(node, index),
            What::SnapshotSaved(node, life, meta) if self.lives(node, life) => {
                self.nodes[node].storage.save_snapshot(meta.clone());
                self.step(node, Event::SnapshotSaved { meta });
            }
            What::SnapshotArrives { from, to, term, meta } => {
                let to_place = self.place(to);
                if self.nodes[to_place].runs() && self.links.passes(from, to) {
                    self.step(to_place, Event::SnapshotReceived { from, term, meta });
                }
            }
            What::SnapshotSent(node, life, to, meta) if self.lives(node, life) => {
                self.step(node, Event::SnapshotSent { to, meta });
            }
            What::Start(node) if !self.nodes[node].runs() => self.start(node),
            What::Crash if self.chaos => {
                let all = self.rng.chance(self.options.faults.blackout);
                let leader = self.leader();
                let one = leader
                    .filter(|_| self.rng.chance(self.options.faults.leader_share))
                    .unwrap_or(self.any_node());
                for node in 0..self.nodes.len() {
                    if (all || node == one) && self.nodes[node].runs() {
                        self.crash(node);
                    }
                }
                self.after(self.options.faults.crash_every, What::Crash);
            }
            What::CrashOne(node, life) if self.chaos && self.lives(node, life) => self.crash(node),
            What::Partition if self.chaos => {
                let one_way = self.rng.chance(self.options.faults.one_way);
                let leader = self.leader().map(|node| self.ids[node]);
                self.links.partition(&mut self.rng, &self.ids, leader, one_way);
                self.after(Some(self.options.faults.partition_for), What::Heal);
                self.after(self.options.faults.partition_every, What::Partition);
            }
            What::Heal => self.links.heal(),
            What::Transfer if self.chaos => {
                if let Some(leader) = self.leader() {
                    let to = *self.rng.pick(&self.ids);
                    self.step(leader, Event::TransferLeadership { to });
                }
                self.after(self.options.faults.transfer_every, What::Transfer);
            }
            What::Request => {
                self.request();
                self.after(Some(self.options.request_every), What::Request);
            }
            What::ChaosEnds => {
                self.chaos = false;
                self.links.heal();
                self.options.faults = FaultOptions::none();
                self.next_command = self.healed_command();
                for node in 0..self.nodes.len() {
                    if !self.nodes[node].runs() {
                        self.start(node);
                    }
                }
            }
            // Overtaken by a crash, or by the end of the chaos.
            _ => {}
        }
    }

    fn start(&mut self, place: usize) {
        let id = self.ids[place];
        let restored = self.nodes[place].storage.restore();
        let snapshot = restored.snapshot.as_ref().map_or_else(Default::default, |meta| meta.last);
        let seen =
            Observation::Started { term: restored.hard_state.term, snapshot, entries: &restored.entries };
        self.world.observe(id, &seen);
        let life = self.nodes[place].begin_life(snapshot.index);
        let mut config = Config::new(id, self.ids.clone());
        config.seed = Rng::new(self.seed ^ (life << 32), &format!("core {id}")).draw();
        config.max_append_bytes = *self.rng.pick(&[1, 200, 4_000, 1 << 20]);
        config.max_inflight_messages = *self.rng.pick(&[1, 4, 256]);
        config.trailing_entries = *self.rng.pick(&[0, 20, 1_000]);
        config.max_apply_bytes = *self.rng.pick(&[100, 1 << 20]);
        config.election_ticks = self.options.election_ticks;
        config.pre_vote = self.options.pre_vote;
        config.check_quorum = self.options.check_quorum;
        match self.nodes[place].boot(config, restored) {
            Ok(()) => {
                let first_tick = self.rng.duration(&(Duration::ZERO..TICK));
                self.in_a_while(first_tick, What::Tick(place, life));
                self.flush(place);
            }
            Err(error) => self.world.report("restart", format!("node {id}: {error}")),
        }
    }

    fn crash(&mut self, place: usize) {
        self.crashes += 1;
        self.world.observe(self.ids[place], &Observation::Crashed);
        for request in self.nodes[place].crash(&mut self.rng) {
            let _ = request; // Its client hears nothing.
            self.oracle.unknown();
        }
        let down_for = self.rng.around(self.options.faults.down_for);
        self.in_a_while(down_for, What::Start(place));
    }

    /// Steps the event; the effects are taken at once or together with those of the events that follow shortly.
    fn step(&mut self, place: usize, event: Event) {
        let Some(core) = self.nodes[place].core() else { return };
        core.step(event);
        if self.rng.chance(0.3) {
            let life = self.nodes[place].life;
            let pause = self.rng.duration(&(Duration::ZERO..Duration::from_micros(500)));
            self.in_a_while(pause, What::Flush(place, life));
        } else {
            self.flush(place);
        }
    }

    fn flush(&mut self, place: usize) {
        let id = self.ids[place];
        let Some(core) = self.nodes[place].core() else { return };
        let effects: Vec<Effect> = core.take_effects().collect();
        self.world.observe_effects(id, &effects);
        for effect in effects {
            self.carry_out(place, effect);
        }
    }

    fn carry_out(&mut self, place: usize, effect: Effect) {
        let id = self.ids[place];
        let life = self.nodes[place].life;
        match effect {
            Effect::Persist { ticket, hard_state, entries, snapshot, .. } => {
                self.installed += u64::from(snapshot.is_some());
                self.nodes[place].storage.submit(disk::Write { ticket, hard_state, snapshot, entries });
                self.start_sync(place);
            }
            Effect::Send(message) => self.send(message),
            Effect::Apply { entries } => {
                let last = entries.last().map_or(0, |entry| entry.id.index);
                self.nodes[place].hand_out(entries);
                let takes = self.rng.duration(&(Duration::ZERO..Duration::from_millis(2)));
                let done = self.nodes[place].occupy_machine(self.now, takes);
                self.at(done, What::Applied(place, life, last));
            }
            Effect::Restore { meta } => {
                for _ in 0..self.nodes[place].restore(meta.last.index) {
                    self.oracle.unknown();
                }
            }
            Effect::SendSnapshot { to, term } => self.send_snapshot(place, to, term),
            Effect::Appended { tag, first, .. } => self.nodes[place].appended(tag, first),
            Effect::Rejected { tag, .. } => {
                if self.nodes[place].rejected(tag) {
                    self.oracle.refused();
                }
            }
            Effect::ReadReady { tag, index } => {
                self.nodes[place].read_ready(tag, index);
                self.answer_reads(place);
            }
            Effect::RoleChanged { role: Role::Leader, term, .. } => {
                self.leaders.insert(term, id);
            }
            Effect::RoleChanged { .. } | Effect::Fatal(_) => {}
        }
    }

    /// Begins to sync everything submitted so far, unless a sync is under way: its end begins the next one.
    fn start_sync(&mut self, place: usize) {
        let Some(ticket) = self.nodes[place].storage.begin_sync() else { return };
        let slow = if self.rng.chance(self.options.faults.slow_sync) { 50 } else { 1 };
        let takes = self.rng.duration(&self.options.faults.sync) * slow;
        let life = self.nodes[place].life;
        self.in_a_while(takes, What::Synced(place, life, ticket));
    }

    fn applied(&mut self, place: usize, index: Index) {
        let life = self.nodes[place].life;
        for (request, id, mine) in self.nodes[place].apply_to(index) {
            if !mine {
                self.oracle.refused(); // Another leader's entry took its place.
            } else if let Err(found) = self.oracle.write_acknowledged(request.floor, request.name, id) {
                self.world.report("real-time order", found);
            }
        }
        self.answer_reads(place);
        self.step(place, Event::Applied { index });
        let node = &mut self.nodes[place];
        if let Some(meta) = node.snapshot_due(self.options.snapshot_every) {
            let takes = self.rng.duration(&(Duration::from_millis(1)..Duration::from_millis(50)));
            self.in_a_while(takes, What::SnapshotSaved(place, life, meta));
        }
    }

    fn answer_reads(&mut self, place: usize) {
        let applied = self.nodes[place].applied();
        for request in self.nodes[place].reads_up_to(applied) {
            if let Err(found) = self.oracle.read_answered(request.floor, applied) {
                self.world.report("real-time order", format!("node {}: {found}", self.ids[place]));
            }
        }
    }

    /// A client asks some node, mostly the one that leads.
    fn request(&mut self) {
        let place = self.leader().filter(|_| self.rng.chance(0.8)).unwrap_or(self.any_node());
        if !self.nodes[place].runs() {
            return;
        }
        self.next_command += 1;
        let request = Request { name: self.next_command, floor: self.oracle.start() };
        let tag = self.nodes[place].ask(request);
        let event = if self.rng.chance(0.3) {
            Event::Read { tag }
        } else {
            let filler = vec![0; self.rng.below(60) as usize];
            let command = [&request.name.to_be_bytes()[..], &filler].concat();
            Event::Propose { tag, commands: vec![Bytes::from(command)] }
        };
        self.step(place, event);
    }

    fn send(&mut self, message: Message) {
        let faults = self.options.faults.clone();
        if self.rng.chance(faults.crash_after(&message)) {
            let place = self.place(message.from);
            self.in_a_while(Duration::ZERO, What::CrashOne(place, self.nodes[place].life));
        }
        if self.rng.chance(faults.loss) || !self.links.passes(message.from, message.to) {
            return;
        }
        if self.rng.chance(faults.duplication) {
            let delay = self.rng.duration(&faults.straggling_delay);
            self.in_a_while(delay, What::Deliver(message.clone()));
        }
        let range = if self.rng.chance(faults.straggling) { &faults.straggling_delay } else { &faults.delay };
        let delay = self.rng.duration(range);
        self.in_a_while(delay, What::Deliver(message));
    }

    fn send_snapshot(&mut self, place: usize, to: NodeId, term: Term) {
        let from = self.ids[place];
        let life = self.nodes[place].life;
        let takes = self.rng.duration(&(Duration::from_millis(2)..Duration::from_millis(80)));
        let lost = self.rng.chance(self.options.faults.loss * 2.0) || !self.links.passes(from, to);
        let meta = self.nodes[place].storage.snapshot().cloned().filter(|_| !lost);
        if let Some(meta) = &meta {
            let meta = meta.clone();
            self.in_a_while(takes, What::SnapshotArrives { from, to, term, meta: meta.clone() });
            if self.rng.chance(self.options.faults.duplication) {
                self.in_a_while(takes * 5, What::SnapshotArrives { from, to, term, meta });
            }
        }
        self.in_a_while(takes, What::SnapshotSent(place, life, to, meta));
    }

    fn leader(&self) -> Option<usize> {
        let leading = |node: &&Node| node.leads();
        let best = self.nodes.iter().filter(leading).max_by_key(|node| node.term());
        best.map(|node| self.place(node.id))
    }

    fn any_node(&mut self) -> usize {
        self.rng.below(self.nodes.len() as u64) as usize
    }

    fn place(&self, id: NodeId) -> usize {
        id.0 as usize - 1
    }

    fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].runs() && self.nodes[node].life == life
    }

    fn at(&mut self, at: Duration, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.order, what }));
    }

    fn in_a_while(&mut self, delay: Duration, what: What) {
        self.at(self.now + delay, what);
    }

    /// Around `mean` from now, if there is one.
    fn after(&mut self, mean: Option<Duration>, what: What) {
        if let Some(mean) = mean {
            let delay = self.rng.around(mean);
            self.in_a_while(delay, what);
        }
    }

    fn mix(&mut self, what: &What) {
        let (kind, number) = match what {
            What::Tick(node, life) => (1, (*node as u64) << 32 | life),
            What::Flush(node, life) => (2, (*node as u64) << 32 | life),
            What::Deliver(message) => (3, message.from.0 << 48 | message.to.0 << 32 | message.term),
            What::Synced(node, _, ticket) => (4, (*node as u64) << 32 | ticket),
            What::Applied(node, _, index) => (5, (*node as u64) << 32 | index),
            What::SnapshotSaved(node, _, meta) => (6, (*node as u64) << 32 | meta.last.index),
            What::SnapshotArrives { to, meta, .. } => (7, to.0 << 32 | meta.last.index),
            What::SnapshotSent(node, ..) => (8, *node as u64),
            What::Start(node) | What::CrashOne(node, _) => (9, *node as u64),
            What::Crash | What::Partition | What::Heal | What::Request | What::Transfer | What::ChaosEnds => {
                (10, 0)
            }
        };
        for part in [self.now.as_nanos() as u64, kind, number] {
            self.trace_hash = (self.trace_hash.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}
