//! Election Safety: at most one leader can be elected in a given term (paper §5.2).

use std::collections::HashMap;

use raft_core::core::{Core, NodeId, Role, Term};

use super::{Verdict, require};

#[derive(Default)]
pub(crate) struct ElectionSafety {
    leaders: HashMap<Term, NodeId>,
}

impl ElectionSafety {
    /// Returns whether `id` has just become a leader.
    pub(crate) fn check(&mut self, id: NodeId, core: &Core, elected: &mut bool) -> Verdict {
        if core.role() != Role::Leader {
            return Ok(());
        }
        let mut first = false;
        let leader = *self.leaders.entry(core.term()).or_insert_with(|| {
            first = true;
            id
        });
        *elected = first;
        require(leader == id, "Election Safety", || format!("{leader} and {id} lead term {}", core.term()))
    }

    pub(crate) fn elections(&self) -> usize {
        self.leaders.len()
    }
}
