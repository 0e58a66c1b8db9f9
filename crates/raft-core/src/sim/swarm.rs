//! One faulty run of whole replicas: clients append to a replicated list while the nemesis is at work; then everything
//! is healed, and the cluster must go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fiber_runtime::sim::Sim;
use fiber_runtime::time;

use crate::core::{Index, NodeId};
use crate::replica::{ProposeError, ReadError};

use super::cluster::{Options, SimCluster};
use super::invariants::Violation;
use super::machine::ListMachine;
use super::oracle::Floor;
use super::rng::Rng;

/// How long things go wrong.
const CHAOS: Duration = Duration::from_secs(4);

/// How long after the last fault a write may take to be acknowledged and reach every node.
const RECOVERY: Duration = Duration::from_secs(15);

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(800);

/// Clients at once.
const CLIENTS: u64 = 4;

/// What a run amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes acknowledged to clients.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Operations whose outcome is unknown.
    pub unknown: u64,
    /// Operations that were refused.
    pub refused: u64,
    /// Entries committed.
    pub committed: Index,
    /// Crashes.
    pub crashes: u64,
    /// Snapshots installed on a follower.
    pub installed: u64,
    /// Observations checked against the five properties.
    pub observations: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// A fingerprint of which fiber ran when.
    pub trace_hash: u64,
}

type Lists = BTreeMap<NodeId, Arc<Mutex<Vec<u64>>>>;

/// Runs `seed`.
///
/// # Errors
/// The first property that did not hold.
pub fn run(options: &Options, seed: u64) -> Result<Summary, Violation> {
    let sim = Sim::new(seed);
    let options = options.clone();
    let result = sim.run(move || {
        let lists: Lists = (1..=options.nodes as u64).map(|id| (NodeId(id), Arc::default())).collect();
        let made = lists.clone();
        let cluster = SimCluster::new(options, seed, move |id| ListMachine::new(Arc::clone(&made[&id])));
        play(&cluster, &lists);
        if let Some(violation) = cluster.violation() {
            return Err(violation);
        }
        let (acknowledged, reads, unknown, refused) = cluster.with_oracle(|oracle| oracle.counts());
        let (committed, observations, installed) = cluster
            .with_world(|world| (world.last_committed(), world.observations(), world.snapshots_installed()));
        let crashes = cluster.crashes();
        let delivered = cluster.network().delivered();
        Ok(Summary {
            acknowledged,
            reads,
            unknown,
            refused,
            committed,
            crashes,
            installed,
            observations,
            delivered,
            trace_hash: 0,
        })
    });
    result.map(|summary| Summary { trace_hash: sim.trace_hash(), ..summary })
}

fn play(cluster: &Arc<SimCluster<ListMachine>>, lists: &Lists) {
    cluster.start_all();
    let calm = Arc::new(AtomicBool::new(false));
    let served_after = Arc::new(AtomicU64::new(0));
    for client in 0..CLIENTS {
        let (cluster, calm, served_after) =
            (Arc::clone(cluster), Arc::clone(&calm), Arc::clone(&served_after));
        fiber_runtime::spawn(move || serve_client(&cluster, client, &calm, &served_after)).detach();
    }
    cluster.unleash();
    if !cluster.run_for(CHAOS) {
        return;
    }
    cluster.heal();
    calm.store(true, Ordering::SeqCst);
    let healed = time::now();
    let served = || served_after.load(Ordering::SeqCst) >= CLIENTS;
    if !cluster.wait_for_agreement(RECOVERY, served) {
        let found = format!(
            "{:?} after the last fault, {} of {CLIENTS} clients were served since:\n{}",
            time::now() - healed,
            served_after.load(Ordering::SeqCst),
            cluster.describe()
        );
        return cluster.report("progress after healing", found);
    }
    check_lists(cluster, lists);
}

/// Every acknowledged write is in the list of every node, and no write is there twice.
fn check_lists(cluster: &SimCluster<ListMachine>, lists: &Lists) {
    let acknowledged: Vec<_> = cluster.with_oracle(|oracle| oracle.acknowledged().collect());
    for (node, list) in lists {
        let list = list.lock().expect("nothing panics with the list");
        let present: BTreeSet<u64> = list.iter().copied().collect();
        if present.len() != list.len() {
            cluster.report("each write is applied once", format!("node {node}: {list:x?}"));
        }
        if let Some((name, id)) = acknowledged.iter().find(|(name, _)| !present.contains(name)) {
            cluster.report("acknowledged writes are never lost", format!("node {node}: {name:x} of {id:?}"));
        }
    }
}

/// One client: an operation at a time, mostly asked of the leader. Once all is `calm` it counts itself as served at its
/// next acknowledged write, and ends.
fn serve_client(
    cluster: &Arc<SimCluster<ListMachine>>,
    client: u64,
    calm: &AtomicBool,
    served_after: &AtomicU64,
) {
    let mut rng = Rng::new(cluster.seed(), &format!("client {client}"));
    let mut number = 0;
    loop {
        time::sleep(rng.duration(&(Duration::from_millis(1)..Duration::from_millis(25))));
        let node = cluster.leader().filter(|_| rng.chance(0.8)).unwrap_or(*rng.pick(cluster.ids()));
        let Some(member) = cluster.member(node) else { continue };
        let is_calm = calm.load(Ordering::SeqCst);
        let deadline = time::now() + PATIENCE;
        let floor = cluster.with_oracle(|oracle| oracle.start());
        if rng.chance(0.3) {
            match member.replica.read_barrier(deadline) {
                Ok(confirmed) => read(cluster, node, floor, confirmed, member.applied()),
                Err(ReadError::NotLeader { .. } | ReadError::Overloaded | ReadError::Stopped) => {
                    cluster.with_oracle(|oracle| oracle.refused());
                }
                Err(ReadError::TimedOut) => cluster.with_oracle(|oracle| oracle.unknown()),
            }
            continue;
        }
        let count = if rng.chance(0.2) { 3 } else { 1 };
        let names: Vec<u64> = (0..count).map(|place| (client << 40) | (number + place)).collect();
        number += count;
        let filler = rng.below(80) as usize;
        let commands = names.iter().map(|name| ListMachine::command(*name, filler)).collect();
        match member.replica.propose(commands, deadline) {
            Ok(outputs) => {
                for (name, (id, ())) in names.iter().zip(outputs) {
                    if let Err(found) =
                        cluster.with_oracle(|oracle| oracle.write_acknowledged(floor, *name, id))
                    {
                        cluster.report("real-time order", found);
                    }
                }
                if is_calm {
                    served_after.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            Err(ProposeError::OutcomeUnknown { .. }) => cluster.with_oracle(|oracle| oracle.unknown()),
            Err(_) => cluster.with_oracle(|oracle| oracle.refused()),
        }
    }
}

/// A read was let through at `confirmed`, and finds the state at `applied`.
fn read(cluster: &SimCluster<ListMachine>, node: NodeId, floor: Floor, confirmed: Index, applied: Index) {
    if let Err(found) = cluster.with_oracle(|oracle| oracle.read_answered(floor, applied)) {
        cluster.report("real-time order", format!("node {node}: {found}"));
    }
    if applied < confirmed {
        let found = format!("node {node} has applied {applied} when a read at {confirmed} is let through");
        cluster.report("a confirmed read finds the state it was promised", found);
    }
}
