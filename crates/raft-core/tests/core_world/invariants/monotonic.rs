//! Terms and commit indices never go back while a node runs, and terms not across a restart either.

use raft_core::core::{Core, Index, NodeId, Term};

use super::{Verdict, require};

#[derive(Default)]
pub(crate) struct Monotonic {
    seen: Vec<(NodeId, Term, Index)>,
}

impl Monotonic {
    /// After a step of `id`.
    pub(crate) fn check(&mut self, id: NodeId, core: &Core) -> Verdict {
        let now = (id, core.term(), core.commit_index());
        let Some(before) = self.seen.iter_mut().find(|(node, _, _)| *node == id) else {
            self.seen.push(now);
            return Ok(());
        };
        let (_, term, commit) = std::mem::replace(before, now);
        require(now.1 >= term && now.2 >= commit, "Monotonic Term and Commit", || {
            format!("{id} went from term {term}, commit {commit} to term {}, commit {}", now.1, now.2)
        })
    }

    /// A crash takes back what was not durable.
    pub(crate) fn forget(&mut self, id: NodeId) {
        self.seen.retain(|(node, _, _)| *node != id);
    }
}
