//! A few nodes and the network between them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft_core::core::{Config, Entry, Event, Index, Message, NodeId, Restored, Role};

use super::{Node, id, plain};

/// A cluster in which everything that is sent arrives and every write completes, except what the test holds back.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) network: VecDeque<Message>,
    /// Pairs that do not reach each other.
    cut: Vec<(u64, u64)>,
    /// Nodes whose disks do not complete writes.
    pub(crate) stalled_disks: Vec<u64>,
}

impl Cluster {
    /// A plain cluster with empty logs.
    pub(crate) fn new(count: u64) -> Cluster {
        Cluster::with(count, |_| {})
    }

    /// A cluster whose configurations are changed by `change`.
    pub(crate) fn with(count: u64, change: impl Fn(&mut Config)) -> Cluster {
        Cluster::of((1..=count).map(|n| {
            let mut config = plain(n, count);
            change(&mut config);
            (config, Restored::default())
        }))
    }

    /// A cluster of these.
    pub(crate) fn of(nodes: impl IntoIterator<Item = (Config, Restored)>) -> Cluster {
        let nodes = nodes.into_iter().map(|(config, restored)| (config.id.0, Node::new(config, restored)));
        Cluster {
            nodes: nodes.collect(),
            network: VecDeque::new(),
            cut: Vec::new(),
            stalled_disks: Vec::new(),
        }
    }

    pub(crate) fn node(&mut self, n: u64) -> &mut Node {
        self.nodes.get_mut(&n).expect("a node of the cluster")
    }

    /// Node `n` reaches nobody and nobody reaches it.
    pub(crate) fn isolate(&mut self, n: u64) {
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.cut_link(n, other);
        }
    }

    /// Nothing passes between `a` and `b`.
    pub(crate) fn cut_link(&mut self, a: u64, b: u64) {
        self.cut.extend([(a, b), (b, a)]);
    }

    /// Everybody reaches everybody again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Delivers, stores and applies until nothing moves. Time stands still meanwhile.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.collect();
            let Some(message) = self.network.pop_front() else { return };
            if !self.cut.contains(&(message.from.0, message.to.0)) {
                self.node(message.to.0).step(Event::Message(message));
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets disks and state machines work and puts what was sent onto the network.
    pub(crate) fn collect(&mut self) {
        for (n, node) in &mut self.nodes {
            if !self.stalled_disks.contains(n) {
                node.persist();
                node.apply();
                node.persist();
            }
            self.network.extend(node.take_sent());
        }
    }

    /// One tick everywhere, then everything settles.
    pub(crate) fn tick(&mut self, times: u32) {
        for _ in 0..times {
            for node in self.nodes.values_mut() {
                node.step(Event::Tick);
            }
            self.settle();
        }
    }

    /// Node `n` campaigns; everything settles. Says whether it won.
    pub(crate) fn campaign(&mut self, n: u64) -> bool {
        self.node(n).step(Event::Campaign);
        self.settle();
        self.node(n).core.role() == Role::Leader
    }

    pub(crate) fn propose(&mut self, n: u64, command: &'static str) {
        self.node(n).step(Event::Propose { tag: 0, commands: vec![Bytes::from_static(command.as_bytes())] });
        self.settle();
    }

    /// The node that leads the newest term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leaders = self.nodes.iter().filter(|(_, node)| node.core.role() == Role::Leader);
        leaders.max_by_key(|(_, node)| node.core.term()).map(|(n, _)| id(*n))
    }

    /// Where the logs' terms end up on every node.
    pub(crate) fn terms(&self) -> Vec<Vec<u64>> {
        self.nodes.values().map(Node::terms).collect()
    }

    /// What every node has applied.
    pub(crate) fn applied(&self) -> Vec<&[Entry]> {
        self.nodes.values().map(|node| node.applied.as_slice()).collect()
    }

    /// Commit indices in the order of the nodes.
    pub(crate) fn commits(&self) -> Vec<Index> {
        self.nodes.values().map(|node| node.core.commit_index()).collect()
    }
}
