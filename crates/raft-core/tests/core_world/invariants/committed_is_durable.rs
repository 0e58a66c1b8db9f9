//! Committed Is Durable: what any node takes for committed is on the disks of a majority at that moment. Stronger than
//! the paper's properties, and so sees a broken durability promise long before it costs a write.

use raft_core::core::{EntryId, Index};

use super::super::node::Node;
use super::{LeaderCompleteness, Verdict, require};

#[derive(Default)]
pub(crate) struct CommittedIsDurable {
    checked: Index,
}

impl CommittedIsDurable {
    pub(crate) fn check(&mut self, committed: &LeaderCompleteness, nodes: &[Node]) -> Verdict {
        let highest = committed.highest();
        if highest == self.checked {
            return Ok(());
        }
        self.checked = highest;
        // By Log Matching the last entry speaks for all before it.
        let Some(entry) = committed.entry(highest) else { return Ok(()) };
        let holders = nodes.iter().filter(|node| holds(node, entry)).count();
        require(holders > nodes.len() / 2, "Committed Is Durable", || {
            format!("{entry:?} is committed, and durable on {holders} of {} nodes", nodes.len())
        })
    }
}

fn holds(node: &Node, entry: EntryId) -> bool {
    node.disk.holds(entry) || node.disk.snapshot_index() >= entry.index
}
