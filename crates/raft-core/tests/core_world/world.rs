//! The world: picks what happens next, carries effects out, and has the properties checked.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::core::{Core, Effect, EntryId, Event, Message, NodeId, Role, SnapshotMeta, Term};

use super::disk::Write;
use super::invariants::{
    CommittedIsDurable, ElectionSafety, LeaderAppendOnly, LeaderCompleteness, LogMatching, Monotonic, Reads,
    StateMachineSafety, Verdict, Violation, check_promise,
};
use super::machine::{Snapshot, Work};
use super::node::Node;
use super::profile::Profile;
use super::random::Random;

/// Most messages on their way; beyond, the oldest is lost.
const NETWORK_CAPACITY: usize = 300;
/// Most messages that are very late at once.
const LIMBO_CAPACITY: usize = 40;
/// Rounds after the faults within which everybody must have everything.
const HEALED_ROUNDS: usize = 20_000;
/// Rounds after the faults within which at least some log or state must have moved.
const IDLE_ROUNDS: usize = 200;

/// What is on its way between two nodes.
#[derive(Clone, Debug)]
enum Parcel {
    Message(Message),
    Snapshot {
        from: NodeId,
        to: NodeId,
        term: Term,
        snapshot: Snapshot,
    },
    /// The end of a transfer, back at its sender.
    Sent {
        sender: NodeId,
        to: NodeId,
        meta: Option<SnapshotMeta>,
    },
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) steps: u64,
    pub(crate) elections: u64,
    pub(crate) commits: u64,
    pub(crate) crashes: u64,
    pub(crate) reads: u64,
    pub(crate) restores: u64,
    pub(crate) compactions: u64,
    pub(crate) dropped: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Totals) {
        self.steps += other.steps;
        self.elections += other.elections;
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.reads += other.reads;
        self.restores += other.restores;
        self.compactions += other.compactions;
        self.dropped += other.dropped;
    }
}

/// See the module's documentation.
pub(crate) struct World {
    random: Random,
    profile: Profile,
    nodes: Vec<Node>,
    network: VecDeque<Parcel>,
    /// Messages that are very late: they come back after elections, crashes and healed partitions.
    limbo: Vec<Parcel>,
    /// Pairs that cannot reach each other, one direction each.
    blocked: Vec<(NodeId, NodeId)>,
    payload: u64,
    totals: Totals,
    trace: Option<Vec<String>>,
    /// Skips this implementation's own durability checks, to see what the paper's properties catch alone.
    paper_only: bool,
    elections: ElectionSafety,
    append_only: LeaderAppendOnly,
    matching: LogMatching,
    completeness: LeaderCompleteness,
    machines: StateMachineSafety,
    monotonic: Monotonic,
    durable: CommittedIsDurable,
    reads: Reads,
}

impl World {
    pub(crate) fn new(count: usize, seed: u64) -> World {
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random);
        let voters: Vec<NodeId> = (1..=count as u64).map(NodeId).collect();
        let nodes =
            voters.iter().map(|id| Node::new(profile.config(&mut random, *id, &voters))).collect::<Vec<_>>();
        let mut world = World {
            random,
            profile,
            nodes,
            network: VecDeque::new(),
            limbo: Vec::new(),
            blocked: Vec::new(),
            payload: 0,
            totals: Totals::default(),
            trace: std::env::var_os("MOON_SEED").map(|_| Vec::new()),
            paper_only: std::env::var_os("MOON_SIM_PAPER_ONLY").is_some(),
            elections: ElectionSafety::default(),
            append_only: LeaderAppendOnly::default(),
            matching: LogMatching::default(),
            completeness: LeaderCompleteness::default(),
            machines: StateMachineSafety::default(),
            monotonic: Monotonic::default(),
            durable: CommittedIsDurable::default(),
            reads: Reads::default(),
        };
        for node in &mut world.nodes {
            node.start();
        }
        world
    }

    /// Faults first, then a healed cluster that must make progress.
    pub(crate) fn run(&mut self) -> Verdict {
        for _ in 0..self.profile.steps {
            self.happen()?;
        }
        self.heal()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.totals.steps
    }

    pub(crate) fn totals(&self) -> Totals {
        let elections = self.elections.elections() as u64;
        Totals {
            elections,
            commits: self.completeness.highest(),
            reads: self.reads.confirmed(),
            ..self.totals
        }
    }

    /// The last things that happened, when a single seed is run.
    pub(crate) fn trace(&self) -> String {
        match &self.trace {
            Some(lines) => lines[lines.len().saturating_sub(400)..].join("\n"),
            None => "run this seed alone with MOON_SEED to see what led to it".to_owned(),
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("[{}] {}", self.totals.steps, line()));
        }
    }

    /// One thing happens, drawn by the weights of the profile.
    fn happen(&mut self) -> Verdict {
        let p = &self.profile;
        let weights = [
            p.deliver,
            p.tick,
            p.store,
            p.apply,
            p.propose,
            p.read,
            p.flush,
            p.snapshot,
            p.transfer,
            p.crash,
            p.restart,
            p.partition,
            p.heal,
            p.release,
        ];
        let mut drawn = self.random.below(weights.iter().sum());
        let choice = weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        let node = self.random.below(self.nodes.len());
        match choice {
            Some(0) => self.deliver(),
            Some(1) => self.step(node, Event::Tick),
            Some(2) => self.store(node),
            Some(3) => self.apply(node),
            Some(4) => {
                let node = self.mostly_a_leader(node);
                self.propose(node)
            }
            Some(5) => {
                let node = self.mostly_a_leader(node);
                self.read(node)
            }
            Some(6) => self.flush(node),
            Some(7) => self.snapshot(node),
            Some(8) => {
                let to = self.nodes[self.random.below(self.nodes.len())].id;
                self.step(node, Event::TransferLeadership { to })
            }
            Some(9) => {
                let node = self.mostly_a_leader(node);
                self.crash(node);
                Ok(())
            }
            Some(10) => {
                self.restart(node);
                Ok(())
            }
            Some(11) => {
                self.partition();
                Ok(())
            }
            Some(12) => {
                self.blocked.clear();
                Ok(())
            }
            _ => {
                // It left before any partition of today.
                if self.limbo.is_empty() {
                    return Ok(());
                }
                let position = self.random.below(self.limbo.len());
                let parcel = self.limbo.swap_remove(position);
                self.arrive(parcel)
            }
        }
    }

    /// Clients mostly go to a node that believes to lead; of several, to any.
    fn mostly_a_leader(&mut self, otherwise: usize) -> usize {
        if self.random.percent(40) {
            return otherwise;
        }
        let start = self.random.below(self.nodes.len());
        let mut turn = (0..self.nodes.len()).map(|step| (start + step) % self.nodes.len());
        turn.find(|at| self.nodes[*at].core.as_ref().map(Core::role) == Some(Role::Leader))
            .unwrap_or(otherwise)
    }

    /// Steps a node that runs, checks it, and mostly takes its effects at once.
    fn step(&mut self, at: usize, event: Event) -> Verdict {
        let Some(core) = &mut self.nodes[at].core else { return Ok(()) };
        let line = self.trace.is_some().then(|| format!("{} <- {event:?}", core_name(core)));
        core.step(event);
        self.totals.steps += 1;
        if let Some(line) = line {
            self.note(|| line);
        }
        self.check(at)?;
        if self.random.percent(self.profile.eager) { self.flush(at) } else { Ok(()) }
    }

    fn check(&mut self, at: usize) -> Verdict {
        let node = &mut self.nodes[at];
        let Some(core) = &node.core else { return Ok(()) };
        let mut elected = false;
        self.elections.check(node.id, core, &mut elected)?;
        self.append_only.check(node.id, core)?;
        self.monotonic.check(node.id, core)?;
        let before = std::mem::replace(&mut node.commit, core.commit_index());
        self.completeness.commit(node.id, core, before)?;
        if elected {
            self.completeness.check(node.id, core)?;
        }
        if !self.paper_only {
            self.durable.check(&self.completeness, &self.nodes)?;
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> Verdict {
        let Some(core) = &mut self.nodes[at].core else { return Ok(()) };
        let effects: Vec<Effect> = core.take_effects().collect();
        for effect in effects {
            self.carry_out(at, effect)?;
        }
        self.check(at)
    }

    fn carry_out(&mut self, at: usize, effect: Effect) -> Verdict {
        let node = &mut self.nodes[at];
        let id = node.id;
        let Some(core) = &node.core else { return Ok(()) };
        if self.trace.is_some() {
            let line = format!("{} -> {effect:?}", core_name(core));
            self.note(|| line);
        }
        let node = &mut self.nodes[at];
        let Some(core) = &node.core else { return Ok(()) };
        match effect {
            Effect::Persist { ticket, hard_state, entries, snapshot, must_sync } => {
                self.matching.check(core, &entries)?;
                let snapshot = snapshot.map(|meta| {
                    let found = node.spool.iter().find(|snapshot| snapshot.meta == meta);
                    found.expect("a snapshot that is persisted lies in the spool").clone()
                });
                node.disk.submit(Write { ticket, hard_state, snapshot, entries, must_sync });
            }
            Effect::Send(message) => {
                if !self.paper_only {
                    check_promise(core, &node.disk, &message, |index| self.completeness.entry(index))?;
                }
                self.post(Parcel::Message(message));
            }
            Effect::Apply { entries } => node.machine.queue.push_back(Work::Apply(entries)),
            Effect::Restore { meta } => {
                let found = node.spool.iter().find(|snapshot| snapshot.meta == meta);
                let snapshot = found.expect("a snapshot that is restored lies in the spool").clone();
                if self.random.percent(50) {
                    // The driver may make the file the newest snapshot before the log knows of it.
                    node.disk.save_snapshot(snapshot.clone());
                }
                self.totals.restores += 1;
                node.machine.queue.push_back(Work::Restore(snapshot));
            }
            Effect::SendSnapshot { to, term } => {
                let snapshot = node.disk.snapshot.clone().expect("a compacted log has a snapshot");
                self.post(Parcel::Snapshot { from: id, to, term, snapshot });
            }
            Effect::Appended { tag, .. } | Effect::Rejected { tag, .. } => self.reads.end(id, tag)?,
            Effect::ReadReady { tag, index } => self.reads.ready(id, tag, index)?,
            Effect::RoleChanged { .. } => {}
            Effect::Fatal(invariant) => {
                return Err(Violation {
                    property: "No Fatal Effect",
                    found: format!("{id}: {}", invariant.message),
                });
            }
        }
        Ok(())
    }

    fn post(&mut self, parcel: Parcel) {
        if matches!(parcel, Parcel::Message(_))
            && self.limbo.len() < LIMBO_CAPACITY
            && self.random.percent(self.profile.late)
        {
            self.limbo.push(parcel);
            return;
        }
        // The end of a transfer is always reported, so only messages are lost here.
        if self.network.len() >= NETWORK_CAPACITY
            && let Some(oldest) = self.network.iter().position(|parcel| matches!(parcel, Parcel::Message(_)))
        {
            self.network.remove(oldest);
            self.totals.dropped += 1;
        }
        self.network.push_back(parcel);
    }

    /// A parcel arrives, or is lost, or arrives and stays on its way as well.
    fn deliver(&mut self) -> Verdict {
        if self.network.is_empty() {
            return Ok(());
        }
        let any = self.random.percent(self.profile.reorder);
        let position = if any { self.random.below(self.network.len()) } else { 0 };
        if self.random.percent(self.profile.duplication) {
            let copy = self.network[position].clone();
            self.post(copy);
        }
        let position = position.min(self.network.len() - 1);
        let parcel = self.network.remove(position).expect("the position is below the length");
        let (from, to) = match &parcel {
            Parcel::Message(message) => (message.from, message.to),
            Parcel::Snapshot { from, to, .. } => (*from, *to),
            Parcel::Sent { sender, .. } => (*sender, *sender),
        };
        let lost = self.blocked.contains(&(from, to))
            || self.random.percent(self.profile.loss)
            || self.nodes[index_of(to)].core.is_none();
        if lost && from != to {
            self.totals.dropped += 1;
            return match parcel {
                Parcel::Snapshot { from, to, .. } => {
                    self.step(index_of(from), Event::SnapshotSent { to, meta: None })
                }
                _ if self.random.percent(self.profile.reported) => {
                    self.step(index_of(from), Event::Unreachable { peer: to })
                }
                _ => Ok(()),
            };
        }
        self.arrive(parcel)
    }

    fn arrive(&mut self, parcel: Parcel) -> Verdict {
        match parcel {
            Parcel::Message(message) => self.step(index_of(message.to), Event::Message(message)),
            Parcel::Snapshot { from, to, term, snapshot } => {
                let meta = snapshot.meta.clone();
                self.nodes[index_of(to)].spool.push(snapshot);
                self.step(index_of(to), Event::SnapshotReceived { from, term, meta: meta.clone() })?;
                self.post(Parcel::Sent { sender: from, to, meta: Some(meta) });
                Ok(())
            }
            Parcel::Sent { sender, to, meta } => {
                self.step(index_of(sender), Event::SnapshotSent { to, meta })
            }
        }
    }

    fn store(&mut self, at: usize) -> Verdict {
        if self.nodes[at].core.is_none() {
            return Ok(());
        }
        match self.nodes[at].disk.complete_one() {
            Some(ticket) => self.step(at, Event::Persisted { ticket }),
            None => Ok(()),
        }
    }

    fn apply(&mut self, at: usize) -> Verdict {
        let node = &mut self.nodes[at];
        if node.core.is_none() {
            return Ok(());
        }
        match node.machine.queue.pop_front() {
            None => return Ok(()),
            Some(Work::Restore(snapshot)) => {
                node.machine.restore(&snapshot);
                self.machines.check(node.id, &node.machine)?;
            }
            Some(Work::Apply(entries)) => {
                for entry in &entries {
                    self.machines.check_order(node.id, &node.machine, entry)?;
                    node.machine.apply(entry);
                    self.machines.check(node.id, &node.machine)?;
                }
            }
        }
        let index = self.nodes[at].machine.last.index;
        self.step(at, Event::Applied { index })
    }

    fn propose(&mut self, at: usize) -> Verdict {
        if self.nodes[at].core.is_none() {
            return Ok(());
        }
        let commands = (0..self.random.below(4)).map(|_| self.command()).collect();
        let tag = self.reads.begin(self.nodes[at].id, None);
        self.step(at, Event::Propose { tag, commands })
    }

    fn command(&mut self) -> Bytes {
        self.payload += 1;
        let mut payload = self.payload.to_le_bytes().to_vec();
        payload.resize(8 + self.random.below(40), 0);
        Bytes::from(payload)
    }

    fn read(&mut self, at: usize) -> Verdict {
        if self.nodes[at].core.is_none() {
            return Ok(());
        }
        let tag = self.reads.begin(self.nodes[at].id, Some(self.completeness.highest()));
        self.step(at, Event::Read { tag })
    }

    /// The state machine saves a snapshot, if that is worth it.
    fn snapshot(&mut self, at: usize) -> Verdict {
        let node = &mut self.nodes[at];
        let Some(core) = &node.core else { return Ok(()) };
        let last = node.machine.last;
        if last.index < node.machine.snapshot_index + self.profile.snapshot_every {
            return Ok(());
        }
        node.machine.snapshot_index = last.index;
        let meta = SnapshotMeta { last, conf: core.conf_state() };
        node.disk.save_snapshot(Snapshot { meta: meta.clone(), state: node.machine.state });
        let before = core.compacted();
        self.step(at, Event::SnapshotSaved { meta })?;
        let moved = self.nodes[at].core.as_ref().is_some_and(|core| core.compacted() != before);
        self.totals.compactions += u64::from(moved);
        Ok(())
    }

    fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.core.take().is_some() {
            node.disk.crash(&mut self.random);
            node.spool.clear();
            self.monotonic.forget(node.id);
            self.reads.forget(node.id);
            self.totals.crashes += 1;
            let id = node.id;
            self.note(|| format!("{id} crashes"));
        }
    }

    fn restart(&mut self, at: usize) {
        if self.nodes[at].core.is_none() {
            self.nodes[at].start();
            let line = self.nodes[at].core.as_ref().map(core_name);
            self.note(|| format!("{} restarts", line.unwrap_or_default()));
        }
    }

    /// Cuts a random set of nodes off, in both directions or in one.
    fn partition(&mut self) {
        self.blocked.clear();
        let one_way = self.random.percent(30);
        let sides: Vec<bool> = if self.random.percent(50) {
            // A leader that does not know yet that it is none any more is the best test of reads.
            let alone = self.mostly_a_leader(0);
            (0..self.nodes.len()).map(|at| at == alone).collect()
        } else {
            self.nodes.iter().map(|_| self.random.percent(40)).collect()
        };
        for (from, from_side) in sides.iter().enumerate() {
            for (to, to_side) in sides.iter().enumerate() {
                if from_side != to_side && (!one_way || *from_side) {
                    self.blocked.push((self.nodes[from].id, self.nodes[to].id));
                }
            }
        }
        let blocked = self.blocked.len();
        self.note(|| format!("{blocked} links are cut"));
    }

    /// The faults end. Everybody must agree on a new entry, and have applied it, within a bounded time.
    fn heal(&mut self) -> Verdict {
        self.note(|| "the faults end".to_owned());
        self.blocked.clear();
        self.profile.loss = 0;
        self.profile.duplication = 0;
        self.profile.reorder = 0;
        self.profile.late = 0;
        self.network.extend(self.limbo.drain(..));
        self.profile.eager = 100;
        for at in 0..self.nodes.len() {
            self.restart(at);
        }
        let mut goal: Option<EntryId> = None;
        let (mut before, mut idle) = (Vec::new(), 0);
        for _ in 0..HEALED_ROUNDS {
            idle += 1;
            let now: Vec<_> = self
                .nodes
                .iter()
                .map(|node| (node.machine.last, node.core.as_ref().map(Core::last)))
                .collect();
            if now != before {
                (before, idle) = (now, 0);
            }
            if idle == IDLE_ROUNDS {
                break;
            }
            for _ in 0..self.network.len() {
                self.deliver()?;
            }
            for at in 0..self.nodes.len() {
                self.flush(at)?;
                while !self.nodes[at].disk.is_idle() {
                    self.store(at)?;
                }
                while !self.nodes[at].machine.queue.is_empty() {
                    self.apply(at)?;
                }
                self.step(at, Event::Tick)?;
            }
            let cores = self.nodes.iter().filter_map(|node| node.core.as_ref());
            let newest = cores.filter(|core| core.role() == Role::Leader).max_by_key(|core| core.term());
            let Some(leader) = newest else { continue };
            match goal {
                Some(goal) if goal.term == leader.term() => {
                    let done = |node: &Node| node.machine.last.index >= goal.index;
                    if self.completeness.entry(goal.index) == Some(goal)
                        && self.nodes.iter().all(done)
                        && self.reads.unanswered() == 0
                    {
                        return Ok(());
                    }
                }
                _ => {
                    let at = index_of(leader.status().id);
                    self.propose(at)?;
                    self.read(at)?;
                    goal = self.nodes[at].core.as_ref().map(Core::last);
                }
            }
        }
        let nodes: Vec<String> =
            self.nodes.iter().map(|node| format!("{:?}", node.core.as_ref().map(Core::status))).collect();
        let found = format!("goal {goal:?}, {} unanswered\n{}", self.reads.unanswered(), nodes.join("\n"));
        Err(Violation { property: "Progress After Healing", found })
    }
}

fn index_of(id: NodeId) -> usize {
    id.0 as usize - 1
}
fn core_name(core: &Core) -> String {
    let (term, commit, last) = (core.term(), core.commit_index(), core.last());
    format!("{:?} term {term} commit {commit} last {}@{}", core.role(), last.index, last.term)
}
