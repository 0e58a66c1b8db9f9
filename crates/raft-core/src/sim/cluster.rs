//! A cluster of whole replicas in one simulation: shipping core, log, snapshots and fibers over a simulated network and
//! disks, and the nemesis that crashes nodes, cuts links and moves the leadership.
//!
//! ```text
//!   group "node 1" { owner, log, apply, snapshot fibers } -- SimDisk
//!          |  ^                                               crash: the group is cancelled, the disk loses or tears
//!          v  |                                                      what was not synced, and the node starts anew
//!       SimNetwork            Observer of each owner --> World: five properties after each step of each core
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fiber_runtime::sim::Group;
use fiber_runtime::{Fiber, time};

use crate::core::{Effect, Index, Message, NodeId, Restored, Role};
use crate::replica::{Observer, Replica, ReplicaConfig, Transport};
use crate::snapshot::{SnapshotAck, SnapshotChunk};

use super::SimDisk;
use super::faults::FaultOptions;
use super::invariants::{Observation, Violation, World};
use super::links::Links;
use super::machine::{Digests, SimMachine, Watched};
use super::network::{Receiver, SimNetwork};
use super::oracle::Oracle;
use super::rng::Rng;

/// What kind of cluster to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// What goes wrong until [`SimCluster::heal`].
    pub faults: FaultOptions,
    /// Changes the settings of a node before each of its starts.
    pub configure: fn(&mut ReplicaConfig, &mut Rng),
}

impl Options {
    /// `nodes` nodes with the fault mix of `seed`, snapshots after few entries on some seeds, and small limits.
    pub fn swarm(nodes: usize, seed: u64) -> Options {
        Options { nodes, faults: FaultOptions::swarm(seed), configure: small_limits }
    }

    /// `nodes` nodes that nothing happens to.
    pub fn calm(nodes: usize) -> Options {
        Options { nodes, faults: FaultOptions::none(), configure: |_, _| {} }
    }
}

/// Limits that are reached within seconds, so that a short run meets snapshots, full windows and refused proposals.
fn small_limits(config: &mut ReplicaConfig, rng: &mut Rng) {
    config.core.pre_vote = rng.chance(0.6);
    config.core.check_quorum = rng.chance(0.7);
    config.core.election_ticks = *rng.pick(&[6, 15]);
    config.core.max_append_bytes = *rng.pick(&[1, 1, 300, 4_000, 1 << 20]);
    config.core.max_inflight_messages = *rng.pick(&[1, 4, 256]);
    config.core.trailing_entries = *rng.pick(&[0, 20, 1_000]);
    config.core.max_apply_bytes = *rng.pick(&[200, 1 << 20]);
    config.snapshot_entries = *rng.pick(&[15, 60, 1_000_000]);
    config.chunk_bytes = *rng.pick(&[64, 1024]);
    config.chunk_timeout = Duration::from_millis(300);
    config.segment_bytes = *rng.pick(&[32 << 10, 256 << 10]);
    config.fill_bytes = 16 << 10;
    config.block_bytes = *rng.pick(&[512, 4096]);
}

/// The life of one node between two crashes.
struct Life<M: SimMachine> {
    group: Group,
    replica: Option<Replica<Watched<M>>>,
    applied: Arc<AtomicU64>,
}

/// A node in one of its lives. Goes on answering after the node has crashed, as a client's memory of it would.
#[derive(Clone)]
pub struct Member<M: SimMachine> {
    /// Its replica.
    pub replica: Replica<Watched<M>>,
    applied: Arc<AtomicU64>,
}

impl<M: SimMachine> fmt::Debug for Member<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("applied", &self.applied()).finish_non_exhaustive()
    }
}

impl<M: SimMachine> Member<M> {
    /// How far its state machine is.
    pub fn applied(&self) -> Index {
        self.applied.load(Ordering::SeqCst)
    }
}

struct Slot<M: SimMachine> {
    disk: SimDisk,
    life: Option<Life<M>>,
    lives: u64,
}

struct State<M: SimMachine> {
    slots: Vec<Slot<M>>,
    rng: Rng,
    chaos: bool,
    crashes: u64,
    crash_requests: Vec<NodeId>,
    crasher: Option<Fiber>,
}

/// See the module's documentation. All methods are called on fibers of the simulation that belong to no node.
pub struct SimCluster<M: SimMachine> {
    seed: u64,
    options: Options,
    ids: Vec<NodeId>,
    network: Arc<SimNetwork>,
    world: Arc<Mutex<World>>,
    oracle: Mutex<Oracle>,
    digests: Arc<Mutex<Digests>>,
    make: Box<dyn Fn(NodeId) -> M + Send + Sync>,
    state: Mutex<State<M>>,
}

impl<M: SimMachine> fmt::Debug for SimCluster<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimCluster")
            .field("seed", &self.seed)
            .field("nodes", &self.ids)
            .finish_non_exhaustive()
    }
}

/// Locks a mutex that no fiber suspends with and nothing panics with.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds a lock of the simulation")
}

impl<M: SimMachine> SimCluster<M> {
    /// A cluster that has not started. `make` gives the empty state machine of a node, for each of its lives.
    pub fn new(
        options: Options,
        seed: u64,
        make: impl Fn(NodeId) -> M + Send + Sync + 'static,
    ) -> Arc<SimCluster<M>> {
        let ids: Vec<NodeId> = (1..=options.nodes as u64).map(NodeId).collect();
        let mut rng = Rng::new(seed, "cluster");
        let slot = |_: &NodeId| {
            let disk = SimDisk::new(rng.draw());
            disk.set_sync_latency(options.faults.sync.start, options.faults.sync.end);
            Slot { disk, life: None, lives: 0 }
        };
        let slots = ids.iter().map(slot).collect();
        let state = State { slots, rng, chaos: false, crashes: 0, crash_requests: Vec::new(), crasher: None };
        let cluster = Arc::new(SimCluster {
            seed,
            network: SimNetwork::new(seed, options.faults.clone()),
            options,
            ids,
            world: Arc::new(Mutex::new(World::new())),
            oracle: Mutex::new(Oracle::new()),
            digests: Arc::default(),
            make: Box::new(make),
            state: Mutex::new(state),
        });
        let asked = Arc::downgrade(&cluster);
        cluster.network.on_crash_request(Box::new(move |node| {
            if let Some(cluster) = asked.upgrade() {
                let mut state = lock(&cluster.state);
                state.crash_requests.push(node);
                if let Some(crasher) = &state.crasher {
                    crasher.unpark();
                }
            }
        }));
        cluster
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The nodes.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// The network, for cuts of one's own.
    pub fn network(&self) -> &SimNetwork {
        &self.network
    }

    /// Runs `change` on what clients were told.
    pub fn with_oracle<T>(&self, change: impl FnOnce(&mut Oracle) -> T) -> T {
        change(&mut lock(&self.oracle))
    }

    /// Runs `look` on what the observers saw.
    pub fn with_world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut lock(&self.world))
    }

    /// Notes that something does not hold.
    pub fn report(&self, property: &str, found: String) {
        lock(&self.world).report(property, found);
    }

    /// The first thing that did not hold.
    pub fn violation(&self) -> Option<Violation> {
        lock(&self.world).violation().cloned()
    }

    /// How many crashes there were.
    pub fn crashes(&self) -> u64 {
        lock(&self.state).crashes
    }

    /// The replica of a node that is up.
    pub fn replica(&self, node: NodeId) -> Option<Replica<Watched<M>>> {
        Some(self.member(node)?.replica)
    }

    /// A node that is up, in its present life.
    pub fn member(&self, node: NodeId) -> Option<Member<M>> {
        let state = lock(&self.state);
        let life = state.slots[place(node)].life.as_ref()?;
        Some(Member { replica: life.replica.clone()?, applied: Arc::clone(&life.applied) })
    }

    /// How far the state machine of a node that is up is.
    pub fn applied(&self, node: NodeId) -> Option<Index> {
        let state = lock(&self.state);
        Some(state.slots[place(node)].life.as_ref()?.applied.load(Ordering::SeqCst))
    }

    /// The disk of a node.
    pub fn disk(&self, node: NodeId) -> SimDisk {
        lock(&self.state).slots[place(node)].disk.clone()
    }

    /// The running node that leads in the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        let world = lock(&self.world);
        let leaders = world.nodes().filter(|(_, view)| view.running && view.role == Role::Leader);
        leaders.max_by_key(|(_, view)| view.term).map(|(id, _)| id)
    }

    /// Some node, by the seed.
    pub fn any_node(&self) -> NodeId {
        *lock(&self.state).rng.pick(&self.ids)
    }

    /// Starts a node on what is on its disk. Does nothing if it is up. Returns when it is, or has crashed meanwhile.
    pub fn start(self: &Arc<Self>, node: NodeId) {
        let (group, applied, disk, mut rng, life) = {
            let mut state = lock(&self.state);
            let slot = &mut state.slots[place(node)];
            if slot.life.is_some() {
                return;
            }
            slot.lives += 1;
            let group = Group::new(format!("node {node}"));
            let applied = Arc::new(AtomicU64::new(0));
            slot.life = Some(Life { group: group.clone(), replica: None, applied: Arc::clone(&applied) });
            (
                group,
                applied,
                slot.disk.clone(),
                Rng::new(self.seed, &format!("life {} of {node}", slot.lives)),
                slot.lives,
            )
        };
        let mut config = ReplicaConfig::new(node, self.ids.clone(), "node");
        (self.options.configure)(&mut config, &mut rng);
        config.core.seed = rng.draw();
        config.observer = Some(Arc::new(Watcher { node, world: Arc::clone(&self.world) }));
        let digests = Arc::clone(&self.digests);
        let machine = Watched::new((self.make)(node), node.0, applied, digests, Arc::clone(&self.world));
        let transport: Arc<dyn Transport> = Arc::clone(&self.network) as Arc<dyn Transport>;
        let started = group.spawn(move || Replica::start(config, machine, Arc::new(disk), transport)).join();
        match started {
            Ok(Ok(replica)) => {
                let mut state = lock(&self.state);
                let slot = &mut state.slots[place(node)];
                // Unless it has crashed again since.
                if let Some(current) = slot.life.as_mut().filter(|_| slot.lives == life) {
                    self.network.attach(node, group, Arc::new(Door { replica: replica.clone() }));
                    current.replica = Some(replica);
                }
            }
            Ok(Err(error)) => self.report("restart", format!("node {node} does not start: {error}")),
            Err(_) if group.is_cancelled() => {} // It crashed again while it was starting.
            Err(error) => self.report("restart", format!("node {node} does not start: {error:?}")),
        }
    }

    /// Starts all nodes that are down.
    pub fn start_all(self: &Arc<Self>) {
        let start = |id: &NodeId| {
            let (cluster, id) = (Arc::clone(self), *id);
            fiber_runtime::spawn(move || cluster.start(id))
        };
        let starting: Vec<_> = self.ids.iter().map(start).collect();
        for start in starting {
            start.join().expect("starting a node reports errors and does not panic");
        }
    }

    /// Cuts the power of a node: its fibers are gone at once, its disk keeps what was synced and some of the rest.
    pub fn crash(&self, node: NodeId) {
        let Some(life) = lock(&self.state).slots[place(node)].life.take() else { return };
        self.with_world(|world| {
            // A node that is still starting was not seen yet.
            if world.node(node).is_some() {
                world.observe(node, &Observation::Crashed);
            }
        });
        self.network.detach(node);
        life.group.cancel();
        let mut state = lock(&self.state);
        state.crashes += 1;
        let slot = &mut state.slots[place(node)];
        slot.disk = slot.disk.crash();
        drop(state);
        drop(life); // Outside of the lock: the replica may have something to say when it goes.
    }

    /// Lets the nemesis loose.
    pub fn unleash(self: &Arc<Self>) {
        lock(&self.state).chaos = true;
        let faults = self.options.faults.clone();
        let every = [
            (faults.crash_every, Self::crash_some as fn(&Arc<Self>)),
            (faults.partition_every, Self::partition_for_a_while),
            (faults.transfer_every, Self::transfer_leadership),
        ];
        for (mean, act) in every {
            let Some(mean) = mean else { continue };
            let cluster = Arc::clone(self);
            fiber_runtime::spawn(move || {
                while cluster.pause(mean) {
                    act(&cluster);
                }
            })
            .detach();
        }
        let cluster = Arc::clone(self);
        let crasher = fiber_runtime::spawn(move || cluster.crash_on_request());
        lock(&self.state).crasher = Some(crasher.fiber().clone());
        crasher.detach();
    }

    /// Sleeps around `mean`. False when the chaos is over.
    fn pause(&self, mean: Duration) -> bool {
        let pause = lock(&self.state).rng.around(mean);
        time::sleep(pause);
        lock(&self.state).chaos
    }

    fn crash_some(self: &Arc<Self>) {
        let (all, leader) = {
            let rng = &mut lock(&self.state).rng;
            (rng.chance(self.options.faults.blackout), rng.chance(self.options.faults.leader_share))
        };
        let one = self.leader().filter(|_| leader).unwrap_or_else(|| self.any_node());
        for node in self.ids.iter().filter(|node| all || **node == one) {
            self.crash_for_a_while(*node);
        }
    }

    fn crash_for_a_while(self: &Arc<Self>, node: NodeId) {
        self.crash(node);
        let cluster = Arc::clone(self);
        fiber_runtime::spawn(move || {
            cluster.pause(cluster.options.faults.down_for);
            cluster.start(node);
        })
        .detach();
    }

    fn crash_on_request(self: &Arc<Self>) {
        loop {
            let requests = {
                let mut state = lock(&self.state);
                if !state.chaos {
                    return;
                }
                std::mem::take(&mut state.crash_requests)
            };
            if requests.is_empty() {
                fiber_runtime::park_until(None);
            }
            for node in requests {
                self.crash_for_a_while(node);
            }
        }
    }

    fn partition_for_a_while(self: &Arc<Self>) {
        let mut rng = Rng::new(lock(&self.state).rng.draw(), "partition");
        let one_way = rng.chance(self.options.faults.one_way);
        let leader = self.leader();
        self.network.with_links(|links| links.partition(&mut rng, &self.ids, leader, one_way));
        self.pause(self.options.faults.partition_for);
        self.network.with_links(Links::heal);
    }

    fn transfer_leadership(self: &Arc<Self>) {
        let to = self.any_node();
        if let Some(replica) = self.leader().and_then(|leader| self.replica(leader)) {
            replica.transfer_leadership(to);
        }
    }

    /// Ends the chaos: no faults any more, all links whole, all nodes up.
    pub fn heal(self: &Arc<Self>) {
        {
            let mut state = lock(&self.state);
            state.chaos = false;
            if let Some(crasher) = &state.crasher {
                crasher.unpark();
            }
        }
        let calm = FaultOptions::none();
        for node in &self.ids {
            self.disk(*node).set_sync_latency(calm.sync.start, calm.sync.end);
        }
        self.network.set_faults(calm);
        self.network.with_links(Links::heal);
        self.start_all();
    }

    /// Waits until every node has applied every entry that any node knows to be committed, and `also` holds. False when
    /// `limit` has passed.
    pub fn wait_for_agreement(&self, limit: Duration, also: impl Fn() -> bool) -> bool {
        let deadline = time::now() + limit;
        while time::now() < deadline && self.violation().is_none() {
            let committed = self.with_world(|world| world.last_committed());
            if also() && self.ids.iter().all(|node| self.applied(*node) == Some(committed)) {
                return true;
            }
            time::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Lets `span` pass, but stops when something does not hold. Says whether all is well.
    pub fn run_for(&self, span: Duration) -> bool {
        let deadline = time::now() + span;
        while time::now() < deadline {
            if self.violation().is_some() {
                return false;
            }
            self.assert_nobody_stopped();
            time::sleep((deadline - time::now()).min(Duration::from_millis(20)));
        }
        true
    }

    /// A replica that nobody crashed must not stop.
    fn assert_nobody_stopped(&self) {
        for node in &self.ids {
            if let Some(why) = self.replica(*node).and_then(|replica| replica.status().stopped) {
                self.report("replica stopped by itself", format!("node {node}: {why}"));
            }
        }
    }

    /// One line per node.
    pub fn describe(&self) -> String {
        let line = |node: &NodeId| match self.replica(*node) {
            None => format!("node {node} is down"),
            Some(replica) => {
                let status = replica.status();
                format!(
                    "node {node} {:?} term {} last {} persisted {} commit {} applied {} snapshot {}",
                    status.role,
                    status.term,
                    status.last_log_index,
                    status.persisted_index,
                    status.commit_index,
                    status.applied_index,
                    status.snapshot_index,
                )
            }
        };
        self.ids.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// The receiving side of a replica.
struct Door<M: SimMachine> {
    replica: Replica<Watched<M>>,
}

impl<M: SimMachine> Receiver for Door<M> {
    fn deliver(&self, message: Message) {
        self.replica.deliver(message);
    }

    fn deliver_chunk(&self, chunk: SnapshotChunk) -> Option<SnapshotAck> {
        Some(self.replica.deliver_chunk(chunk))
    }
}

/// Turns what one replica's core does into observations.
struct Watcher {
    node: NodeId,
    world: Arc<Mutex<World>>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Observer for Watcher {
    fn started(&self, restored: &Restored) {
        let snapshot = restored.snapshot.as_ref().map_or_else(Default::default, |meta| meta.last);
        let term = restored.hard_state.term;
        lock(&self.world)
            .observe(self.node, &Observation::Started { term, snapshot, entries: &restored.entries });
    }

    fn stepped(&self, effects: &[Effect]) {
        let mut world = lock(&self.world);
        world.observe_effects(self.node, effects);
    }
}
