//! The key-value store in the simulator: sessions, retries and doubled commands across failover, snapshot and restart.
//!
//! Clients number their writes and send the same one again, to other nodes and sometimes twice at once, until they know
//! its outcome. Checked are the five properties of the paper, equal states for equal logs, the linearizability of the
//! whole history, and that every write was applied exactly once.
//!
//! `MOON_SEED=n` runs that seed alone; `MOON_SEEDS=n` runs so many.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fiber_runtime::sim::Sim;
use fiber_runtime::time;
use kvserver::command::{Command, CommandError, Outcome, Read, ReadOutcome, Session, Write};
use kvserver::store::{KvMachine, Store};
use moon_tests::history::{End, History};
use moon_tests::linearizability::{Limits, Verdict, check};
use moon_tests::models::{Kv, KvAction, KvInput, KvOutput};
use raft_core::core::{EntryId, Index, NodeId};
use raft_core::replica::{FrozenState, StateMachine};
use raft_core::sim::cluster::{Options, SimCluster};
use raft_core::sim::machine::SimMachine;
use raft_core::sim::rng::Rng;
use raft_core::sim::seeds::for_each_seed;

const CLIENTS: u64 = 4;
const CHAOS: Duration = Duration::from_secs(4);
const RECOVERY: Duration = Duration::from_secs(15);

/// The shipping state machine, with the fingerprint the simulator asks for.
struct Machine(KvMachine);

impl StateMachine for Machine {
    type Output = Outcome;

    fn apply(&mut self, id: EntryId, command: Bytes) -> Outcome {
        self.0.apply(id, command)
    }

    fn applied(&mut self, index: Index) {
        self.0.applied(index);
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.0.freeze()
    }

    fn restore(&mut self, source: &mut dyn io::Read) -> io::Result<()> {
        self.0.restore(source)
    }
}

impl SimMachine for Machine {
    fn digest(&self) -> u64 {
        self.0.summary().state_hash
    }
}

/// What the clients of a run share.
struct Run {
    cluster: Arc<SimCluster<Machine>>,
    /// The read side of each node's present life.
    stores: Arc<Mutex<BTreeMap<NodeId, Store>>>,
    history: Mutex<History<KvInput, KvOutput>>,
    calm: AtomicBool,
    served: AtomicU64,
}

/// One client with its session.
struct Client {
    run: Arc<Run>,
    id: u64,
    rng: Rng,
    sequence: u64,
    /// Tokens of appends to the client's own key that were acknowledged, and those that may have happened.
    acknowledged: Vec<String>,
    attempted: Vec<String>,
}

impl Client {
    /// Sends `write` under its number until its outcome is known. `None` if that took too long.
    fn send(&mut self, sequence: u64, write: Write) -> Option<Outcome> {
        let session = Some(Session { client_id: u128::from(self.id) + 1, sequence });
        let command = Command { session, write }.encode();
        for _ in 0..40 {
            let cluster = &self.run.cluster;
            let node =
                cluster.leader().filter(|_| self.rng.chance(0.8)).unwrap_or(*self.rng.pick(cluster.ids()));
            let pause = self.rng.duration(&(Duration::from_millis(2)..Duration::from_millis(60)));
            let Some(member) = cluster.member(node) else {
                time::sleep(pause);
                continue;
            };
            if self.rng.chance(0.15) {
                // A copy overtaken by nobody knows what: it arrives at any time, at any node.
                let (cluster, copy) = (Arc::clone(cluster), command.clone());
                let node = *self.rng.pick(cluster.ids());
                let delay = self.rng.duration(&(Duration::ZERO..Duration::from_millis(900)));
                fiber_runtime::spawn(move || {
                    time::sleep(delay);
                    if let Some(member) = cluster.member(node) {
                        let _ = member.replica.propose(vec![copy], time::now() + Duration::from_millis(300));
                    }
                })
                .detach();
            }
            let deadline =
                time::now() + self.rng.duration(&(Duration::from_millis(20)..Duration::from_millis(600)));
            if let Ok(mut outputs) = member.replica.propose(vec![command.clone()], deadline) {
                return outputs.pop().map(|(_, outcome)| outcome);
            }
            time::sleep(pause);
        }
        None
    }

    /// A linearizable read at some node.
    fn read(&mut self, key: &str) -> End<KvOutput> {
        let cluster = &self.run.cluster;
        let node = cluster.leader().filter(|_| self.rng.chance(0.9)).unwrap_or(*self.rng.pick(cluster.ids()));
        let Some(member) = cluster.member(node) else { return End::Failed };
        let store = self.run.stores.lock().unwrap()[&node].clone();
        if member.replica.read_barrier(time::now() + Duration::from_millis(400)).is_err() {
            return End::Failed;
        }
        match store.read(&Read::Get { key: Bytes::copy_from_slice(key.as_bytes()) }) {
            ReadOutcome::Value(value) => End::Returned(KvOutput::Value(value.map(text))),
            other => panic!("a get was answered {other:?}"),
        }
    }

    fn live(&mut self) {
        while self.send(0, Write::OpenSession).is_none() {}
        loop {
            time::sleep(self.rng.duration(&(Duration::from_millis(1)..Duration::from_millis(30))));
            let calm = self.run.calm.load(Ordering::SeqCst);
            if self.rng.chance(0.3) {
                self.append_to_own_key();
            } else {
                self.use_shared_key();
            }
            if calm {
                self.append_to_own_key();
                break;
            }
        }
        self.check_own_key();
    }

    /// Appends the number of the write to a key nobody else writes.
    fn append_to_own_key(&mut self) {
        self.sequence += 1;
        let token = format!("{};", self.sequence);
        self.attempted.push(token.clone());
        let key = Bytes::from(format!("own{}", self.id));
        match self.send(self.sequence, Write::Append { key, value: Bytes::from(token.clone()) }) {
            Some(Outcome::Length(_)) => self.acknowledged.push(token),
            Some(other) => {
                let found = format!("client {}: append {} was answered {other:?}", self.id, self.sequence);
                self.run.cluster.report("exactly once", found);
            }
            None => {}
        }
    }

    fn use_shared_key(&mut self) {
        let key = format!("r{}", self.rng.below(3));
        let kind = self.rng.below(10);
        self.sequence += u64::from(kind >= 4);
        let value = format!("{}.{};", self.id, self.sequence);
        let bytes = Bytes::from(value.clone());
        let (action, write) = match kind {
            0..4 => (KvAction::Get, None),
            4..6 => (KvAction::Put(value), Some(Write::Put { key: key.clone().into(), value: bytes })),
            6..8 => (KvAction::Append(value), Some(Write::Append { key: key.clone().into(), value: bytes })),
            8 => (
                KvAction::CompareAndSwap { expected: None, value },
                Some(Write::CompareAndSwap { key: key.clone().into(), expected: None, value: bytes }),
            ),
            _ => (KvAction::Delete, Some(Write::Delete { keys: vec![key.clone().into()] })),
        };
        let invoked = self.run.history.lock().unwrap().invoke(self.id, KvInput { key: key.clone(), action });
        let end = match write {
            None => self.read(&key),
            Some(write) => match self.send(self.sequence, write) {
                None => End::Unknown,
                Some(Outcome::Done { .. }) => End::Returned(KvOutput::Done),
                Some(Outcome::Length(length)) => End::Returned(KvOutput::Length(length as usize)),
                Some(Outcome::Count(count)) => End::Returned(KvOutput::Removed(count == 1)),
                Some(Outcome::Swapped { swapped, .. }) => End::Returned(KvOutput::Swapped(swapped)),
                Some(other) => {
                    let found = format!("client {}: write {} was answered {other:?}", self.id, self.sequence);
                    self.run.cluster.report("exactly once", found);
                    End::Unknown
                }
            },
        };
        self.run.history.lock().unwrap().end(invoked, end);
    }

    /// The own key holds every acknowledged token once and in order, and nothing that was never sent.
    fn check_own_key(&mut self) {
        let key = format!("own{}", self.id);
        let value = loop {
            match self.read(&key) {
                End::Returned(KvOutput::Value(value)) => break value.unwrap_or_default(),
                _ => time::sleep(Duration::from_millis(20)),
            }
        };
        let mut expected = self.acknowledged.iter().peekable();
        let mut attempted = self.attempted.iter();
        for token in value.split_inclusive(';') {
            if expected.peek().is_some_and(|next| *next == token) {
                expected.next();
            }
            if !attempted.any(|sent| sent == token) {
                return self.run.cluster.report(
                    "exactly once",
                    format!("{key} holds {token} twice, out of order, or though it was never sent: {value}"),
                );
            }
        }
        if let Some(lost) = expected.next() {
            let found = format!("{key} lacks {lost}: {value}");
            return self.run.cluster.report("acknowledged writes are never lost", found);
        }
        self.run.served.fetch_add(1, Ordering::SeqCst);
    }
}

fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Totals over all runs.
#[derive(Debug, Default)]
struct Totals {
    returned: usize,
    unknown: usize,
    committed: Index,
    crashes: u64,
    installed: u64,
}

fn run(nodes: usize, seed: u64, totals: &mut Totals) -> Result<u64, String> {
    let sim = Sim::new(seed);
    let result = sim.run(|| {
        let stores: Arc<Mutex<BTreeMap<NodeId, Store>>> = Arc::default();
        let made = Arc::clone(&stores);
        let cluster = SimCluster::new(Options::swarm(nodes, seed), seed, move |node| {
            let machine = KvMachine::new();
            made.lock().unwrap().insert(node, machine.store());
            Machine(machine)
        });
        let run = Arc::new(Run {
            cluster: Arc::clone(&cluster),
            stores,
            history: Mutex::default(),
            calm: AtomicBool::new(false),
            served: AtomicU64::new(0),
        });
        cluster.start_all();
        for id in 0..CLIENTS {
            let (run, rng) = (Arc::clone(&run), Rng::new(seed, &format!("client {id}")));
            let mut client =
                Client { run, id, rng, sequence: 0, acknowledged: Vec::new(), attempted: Vec::new() };
            fiber_runtime::spawn(move || client.live()).detach();
        }
        cluster.unleash();
        if cluster.run_for(CHAOS) {
            cluster.heal();
            run.calm.store(true, Ordering::SeqCst);
            let served = || run.served.load(Ordering::SeqCst) == CLIENTS;
            if !cluster.wait_for_agreement(RECOVERY, served) {
                let found = format!(
                    "{} clients were served\n{}",
                    run.served.load(Ordering::SeqCst),
                    cluster.describe()
                );
                cluster.report("progress after healing", found);
            }
        }
        let history = run.history.lock().unwrap().clone();
        let (committed, installed) =
            cluster.with_world(|world| (world.last_committed(), world.snapshots_installed()));
        (cluster.violation(), history, committed, installed, cluster.crashes())
    });
    let (violation, history, committed, installed, crashes) = result;
    if let Some(violation) = violation {
        return Err(violation.to_string());
    }
    let tally = history.tally();
    totals.returned += tally.returned;
    totals.unknown += tally.unknown;
    totals.committed += committed;
    totals.installed += installed;
    totals.crashes += crashes;
    match check::<Kv>(&history, Limits::default()) {
        Verdict::Linearizable => Ok(sim.trace_hash()),
        other => Err(format!("{other}")),
    }
}

fn swarm(nodes: usize, seeds: u64) {
    let mut totals = Totals::default();
    let runs = for_each_seed(seeds, |seed| run(nodes, seed, &mut totals).map(drop));
    println!("{runs} runs of {nodes} nodes: {totals:?}");
    if runs >= 50 {
        // The runs must have something to say.
        assert!(totals.returned > runs as usize * 50, "{totals:?}");
        assert!(totals.crashes > runs && totals.installed > runs / 10, "{totals:?}");
    }
}

#[test]
fn three_nodes_apply_every_write_once() {
    swarm(3, 150);
}

#[test]
fn five_nodes_apply_every_write_once() {
    swarm(5, 50);
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 0..3 {
        let again = || run(3, seed, &mut Totals::default()).unwrap();
        assert_eq!(again(), again(), "seed {seed}");
    }
}

#[test]
fn older_number_of_a_session_is_refused_and_a_repeated_one_answered() {
    // The same without a cluster: what the runs above rely on.
    let mut machine = KvMachine::new();
    let mut index = 0;
    let mut apply = |sequence, write| {
        index += 1;
        let session = Some(Session { client_id: 7, sequence });
        machine.apply_command(index, Command { session, write }.encode())
    };
    let append =
        |value: &str| Write::Append { key: "k".into(), value: Bytes::copy_from_slice(value.as_bytes()) };
    apply(0, Write::OpenSession);
    assert_eq!(apply(1, append("a")), Outcome::Length(1));
    assert_eq!(apply(1, append("a")), Outcome::Length(1));
    assert_eq!(apply(2, append("b")), Outcome::Length(2));
    assert_eq!(apply(1, append("a")), Outcome::Failed(CommandError::StaleSequence));
}
