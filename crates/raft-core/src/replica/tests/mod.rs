//! Tests of the replica's fibers: three nodes in a simulation, on simulated disks, with a network in memory.

mod cluster;
mod faults;
mod real;
mod snapshots;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fiber_runtime::sim::{self, Group, Sim};
use fiber_runtime::sync::Spin;
use fiber_runtime::time;

use super::*;
use crate::core::{EntryId, Index, Message, NodeId, Role};
use crate::sim::SimDisk;
use crate::snapshot::{ChunkRefusal, SnapshotAck, SnapshotChunk};

/// Every command, with where it stood.
type Lines = Arc<Vec<(EntryId, Bytes)>>;

/// A state machine that remembers every command, with where it stood.
#[derive(Clone, Default)]
struct Ledger {
    lines: Lines,
    shown: Arc<Spin<Lines>>,
}

struct Frozen(Lines);

impl StateMachine for Ledger {
    type Output = Index;

    fn apply(&mut self, id: EntryId, command: Bytes) -> Index {
        assert_ne!(&command[..], b"panic", "asked to");
        Arc::make_mut(&mut self.lines).push((id, command));
        id.index
    }

    fn applied(&mut self, _: Index) {
        let lines = self.lines.clone();
        self.shown.lock(|shown| *shown = lines);
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        Box::new(Frozen(self.lines.clone()))
    }

    fn restore(&mut self, source: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let mut rest = &bytes[..];
        let mut number = || -> io::Result<u64> {
            let (head, tail) = rest.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
            rest = tail;
            Ok(u64::from_le_bytes(*head))
        };
        let mut lines = Vec::new();
        while let Ok(term) = number() {
            let (index, value) = (number()?, number()?);
            lines.push((EntryId { term, index }, Bytes::from(value.to_le_bytes().to_vec())));
        }
        self.lines = Arc::new(lines);
        Ok(())
    }
}

impl FrozenState for Frozen {
    fn write_to(self: Box<Self>, sink: &mut dyn Write) -> io::Result<()> {
        for (id, command) in self.0.iter() {
            sink.write_all(&id.term.to_le_bytes())?;
            sink.write_all(&id.index.to_le_bytes())?;
            sink.write_all(command)?;
        }
        Ok(())
    }
}

fn command(value: u64) -> Bytes {
    Bytes::from(value.to_le_bytes().to_vec())
}

/// The network: who is where, and who can talk.
#[derive(Default)]
struct Net {
    nodes: Spin<BTreeMap<NodeId, Replica<Ledger>>>,
    cut: Spin<Vec<NodeId>>,
    /// Drops this share of the messages, in percent.
    loss: Spin<u64>,
    chunks: Spin<u64>,
}

impl Net {
    fn reach(&self, from: NodeId, to: NodeId) -> Option<Replica<Ledger>> {
        if self.cut.lock(|cut| cut.contains(&from) || cut.contains(&to)) {
            return None;
        }
        self.nodes.lock(|nodes| nodes.get(&to).cloned())
    }
}

/// One node's end of the network.
struct End(Arc<Net>);

impl Transport for End {
    fn send(&self, message: Message) -> Result<(), Dropped> {
        let (net, from, to) = (self.0.clone(), message.from, message.to);
        if net.reach(from, to).is_none() {
            return Err(Dropped);
        }
        let loss = net.loss.lock(|loss| *loss);
        if sim::random_u64() % 100 < loss {
            return Ok(());
        }
        let delay = Duration::from_micros(50 + sim::random_u64() % 1000);
        drop(fiber_runtime::spawn(move || {
            time::sleep(delay);
            if let Some(replica) = net.reach(from, to) {
                replica.deliver(message);
            }
        }));
        Ok(())
    }

    fn snapshot_chunk(&self, chunk: SnapshotChunk, _: Instant) -> Result<SnapshotAck, TransportError> {
        time::sleep(Duration::from_micros(500));
        let lost = |reason: &str| TransportError { to: chunk.to, reason: reason.to_owned() };
        let replica = self.0.reach(chunk.from, chunk.to).ok_or(lost("unreachable"))?;
        self.0.chunks.lock(|chunks| *chunks += 1);
        let (from, to) = (chunk.from, chunk.to);
        let ack = replica.deliver_chunk(chunk.clone());
        self.0.reach(from, to).map(|_| ack).ok_or(lost("unreachable"))
    }
}

/// A machine: its disk outlives its processes.
struct Machine {
    disk: SimDisk,
    process: Option<Process>,
    seed: u64,
}

struct Process {
    group: Group,
    replica: Replica<Ledger>,
    shown: Arc<Spin<Lines>>,
}

/// Three machines.
struct Cluster {
    net: Arc<Net>,
    machines: Vec<Machine>,
    tune: fn(&mut ReplicaConfig),
}

impl Cluster {
    fn new(seed: u64, tune: fn(&mut ReplicaConfig)) -> Cluster {
        let machines = (0..3)
            .map(|node| {
                let disk = SimDisk::new(seed * 10 + node);
                disk.set_sync_latency(Duration::from_micros(100), Duration::from_millis(2));
                Machine { disk, process: None, seed: seed * 10 + node }
            })
            .collect();
        let mut cluster = Cluster { net: Arc::default(), machines, tune };
        (0..3).for_each(|node| cluster.start(node));
        cluster
    }

    fn try_start(&mut self, node: usize) -> Result<(), Arc<ReplicaError>> {
        let machine = &mut self.machines[node];
        let id = NodeId(node as u64);
        let mut config = ReplicaConfig::new(id, (0..3).map(NodeId).collect(), "/data");
        config.segment_bytes = 64 << 10;
        config.fill_bytes = 16 << 10;
        config.block_bytes = 512;
        machine.seed += 1000;
        config.core.seed = machine.seed;
        (self.tune)(&mut config);
        let ledger = Ledger::default();
        let shown = ledger.shown.clone();
        let (disk, transport) = (Arc::new(machine.disk.clone()), Arc::new(End(self.net.clone())));
        let group = Group::new(format!("node {node}"));
        let started = group.spawn(move || Replica::start(config, ledger, disk, transport)).join();
        let replica = started.expect("starting does not panic").map_err(Arc::new)?;
        self.net.nodes.lock(|nodes| nodes.insert(id, replica.clone()));
        machine.process = Some(Process { group, replica, shown });
        Ok(())
    }

    fn start(&mut self, node: usize) {
        self.try_start(node).unwrap();
    }

    /// kill -9 and a power cut.
    fn crash(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let process = machine.process.take().expect("a crashed node was running");
        drop(self.net.nodes.lock(|nodes| nodes.remove(&NodeId(node as u64))));
        process.group.cancel();
        drop(process);
        machine.disk = machine.disk.crash();
    }

    fn replica(&self, node: usize) -> &Replica<Ledger> {
        &self.machines[node].process.as_ref().expect("the node runs").replica
    }

    fn running(&self) -> Vec<usize> {
        (0..3).filter(|&node| self.machines[node].process.is_some()).collect()
    }

    fn lines(&self, node: usize) -> Vec<u64> {
        let process = self.machines[node].process.as_ref().expect("the node runs");
        let shown = process.shown.lock(|shown| shown.clone());
        shown.iter().map(|(_, line)| u64::from_le_bytes(line[..].try_into().unwrap())).collect()
    }

    /// Waits for a state; the time is virtual.
    fn wait<T>(&self, what: &str, mut state: impl FnMut(&Cluster) -> Option<T>) -> T {
        let deadline = time::now() + Duration::from_secs(30);
        loop {
            if let Some(reached) = state(self) {
                return reached;
            }
            if time::now() > deadline {
                let status: Vec<_> = self.running().iter().map(|&node| self.replica(node).status()).collect();
                panic!("never reached: {what}\n{status:#?}");
            }
            time::sleep(Duration::from_millis(5));
        }
    }

    /// The leader that a majority follows.
    fn leader(&self) -> usize {
        self.wait("a leader", |cluster| {
            let leads = |&node: &usize| {
                let status = cluster.replica(node).status();
                let cut = cluster.net.cut.lock(|cut| cut.contains(&NodeId(node as u64)));
                status.role == Role::Leader && status.commit_index > 0 && !cut
            };
            cluster
                .running()
                .into_iter()
                .filter(leads)
                .max_by_key(|&node| cluster.replica(node).status().term)
        })
    }

    fn propose(&self, node: usize, values: &[u64]) -> Result<Vec<Index>, ProposeError> {
        let commands = values.iter().map(|&value| command(value)).collect();
        self.replica(node).propose(commands, time::now() + Duration::from_secs(5))
    }

    /// Waits until every running node shows the same lines, `expected` if given.
    fn wait_equal(&self, expected: Option<&[u64]>) -> Vec<u64> {
        self.wait("equal states", |cluster| {
            let all: Vec<_> = cluster.running().into_iter().map(|node| cluster.lines(node)).collect();
            let is_equal = all.windows(2).all(|pair| pair[0] == pair[1]);
            let fits = expected.is_none_or(|expected| all[0] == expected);
            (is_equal && fits).then(|| all[0].clone())
        })
    }

    fn end(mut self) {
        for node in self.running() {
            let process = self.machines[node].process.take().unwrap();
            drop(self.net.nodes.lock(|nodes| nodes.remove(&NodeId(node as u64))));
            process.replica.stop();
            process.group.cancel();
        }
    }
}

fn simulate(seed: u64, tune: fn(&mut ReplicaConfig), body: impl FnOnce(Cluster) + Send + 'static) {
    Sim::new(seed).run(move || body(Cluster::new(seed, tune)));
}

fn plain(_: &mut ReplicaConfig) {}

fn soon() -> Instant {
    time::now() + Duration::from_secs(5)
}
