//! Leader Append-Only: a leader never overwrites or deletes entries in its log; it only appends (paper §5.3).

use raft_core::core::{Core, EntryId, NodeId, Role, Term};

use super::{Verdict, require};

/// The log's end of each node when it was last seen leading.
#[derive(Default)]
pub(crate) struct LeaderAppendOnly {
    seen: Vec<(NodeId, Term, EntryId)>,
}

impl LeaderAppendOnly {
    pub(crate) fn check(&mut self, id: NodeId, core: &Core) -> Verdict {
        if core.role() != Role::Leader {
            return Ok(());
        }
        let now = (id, core.term(), core.last());
        let Some(before) = self.seen.iter_mut().find(|(node, _, _)| *node == id) else {
            self.seen.push(now);
            return Ok(());
        };
        let (_, term, last) = *before;
        *before = now;
        let kept = last.index <= core.compacted().index || core.term_at(last.index) == Some(last.term);
        require(term != core.term() || kept, "Leader Append-Only", || {
            format!(
                "leader {id} of term {term} had {last:?} and has {:?} at that index",
                core.term_at(last.index)
            )
        })
    }
}
