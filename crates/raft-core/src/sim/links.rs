//! Which nodes can hear which: the cuts of a simulated network.

use std::collections::BTreeSet;

use crate::core::NodeId;

use super::rng::Rng;

/// The links that are cut, by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl Links {
    /// Everybody hears everybody.
    pub fn new() -> Links {
        Links::default()
    }

    /// Whether what `from` says reaches `to`.
    pub fn passes(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Cuts `node` off from all `others`.
    pub fn isolate(&mut self, node: NodeId, others: &[NodeId]) {
        for other in others.iter().filter(|other| **other != node) {
            self.cut(node, *other);
            self.cut(*other, node);
        }
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether there are no cuts.
    pub fn is_whole(&self) -> bool {
        self.cut.is_empty()
    }

    /// A random partition of `nodes` in place of the present one. `leader` is cut off more often than others, because
    /// that is what hurts; with `one_way` only one direction of the chosen links is cut.
    pub fn partition(&mut self, rng: &mut Rng, nodes: &[NodeId], leader: Option<NodeId>, one_way: bool) {
        self.heal();
        match rng.below(4) {
            // The leader, or somebody, alone.
            0 => {
                let alone = leader.filter(|_| rng.chance(0.7)).unwrap_or(*rng.pick(nodes));
                self.isolate(alone, nodes);
            }
            // Two sides.
            1 => {
                let side: Vec<bool> = nodes.iter().map(|_| rng.chance(0.5)).collect();
                for (from, left) in nodes.iter().zip(&side) {
                    for (to, right) in nodes.iter().zip(&side) {
                        if left != right {
                            self.cut(*from, *to);
                        }
                    }
                }
            }
            // A bridge: two sides that share one node.
            2 => {
                let bridge = *rng.pick(nodes);
                let sides: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != bridge).collect();
                let (left, right) = sides.split_at(sides.len() / 2);
                for from in left {
                    for to in right {
                        self.cut(*from, *to);
                        self.cut(*to, *from);
                    }
                }
            }
            // Some links.
            _ => {
                for from in nodes {
                    for to in nodes.iter().filter(|to| *to != from) {
                        if rng.chance(0.4) {
                            self.cut(*from, *to);
                        }
                    }
                }
            }
        }
        if one_way {
            let forward = rng.chance(0.5);
            self.cut.retain(|(from, to)| (from < to) == forward);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolated_node_hears_nobody_until_healed() {
        let nodes = [1, 2, 3].map(NodeId);
        let mut links = Links::new();
        links.isolate(nodes[0], &nodes);
        assert!(!links.passes(nodes[0], nodes[1]) && !links.passes(nodes[2], nodes[0]));
        assert!(links.passes(nodes[1], nodes[2]));
        links.heal();
        assert!(links.is_whole() && links.passes(nodes[0], nodes[1]));
    }

    #[test]
    fn one_way_partition_leaves_the_other_direction() {
        let nodes = [1, 2, 3, 4, 5].map(NodeId);
        for seed in 0..50 {
            let mut links = Links::new();
            links.partition(&mut Rng::new(seed, "links"), &nodes, None, true);
            for from in nodes {
                for to in nodes.into_iter().filter(|to| *to != from) {
                    assert!(links.passes(from, to) || links.passes(to, from), "seed {seed}");
                }
            }
        }
    }
}
