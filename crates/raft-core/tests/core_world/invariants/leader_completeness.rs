//! Leader Completeness: if a log entry is committed in a given term, then that entry will be present in the logs of the
//! leaders of all higher-numbered terms (paper §5.4).

use raft_core::core::{Core, EntryId, Index, NodeId, Term};

use super::{Verdict, require};

/// Every committed entry, by index, and the term it was committed in.
#[derive(Default)]
pub(crate) struct LeaderCompleteness {
    committed: Vec<(EntryId, Term)>,
}

impl LeaderCompleteness {
    /// A node's commit index has moved past `before`. Two nodes never commit different entries.
    pub(crate) fn commit(&mut self, id: NodeId, core: &Core, before: Index) -> Verdict {
        for index in before + 1..=core.commit_index() {
            let known = self.entry(index);
            // Compacted by a snapshot in the same step: its content is compared when it is applied.
            let Some(term) = core.term_at(index) else { continue };
            let entry = EntryId { term, index };
            match known {
                Some(known) => require(known == entry, "State Machine Safety", || {
                    format!("{id} commits {entry:?} where {known:?} is committed")
                })?,
                None => {
                    require(self.committed.len() as Index + 1 == index, "State Machine Safety", || {
                        format!("{id} commits {entry:?} before anything at {}", self.committed.len() + 1)
                    })?;
                    self.committed.push((entry, core.term()));
                }
            }
        }
        Ok(())
    }

    /// A node has become leader: it must have everything committed in earlier terms. (It may be elected so late that a
    /// newer term has a leader and commits already.)
    pub(crate) fn check(&self, id: NodeId, core: &Core) -> Verdict {
        let known = core.compacted().index.min(self.committed.len() as Index) as usize;
        for (entry, committed_in) in &self.committed[known..] {
            let due = *committed_in < core.term();
            require(!due || core.term_at(entry.index) == Some(entry.term), "Leader Completeness", || {
                let found = core.term_at(entry.index);
                format!("leader {id} of term {} has {found:?} where {entry:?} is committed", core.term())
            })?;
        }
        Ok(())
    }

    /// Highest index that any node has committed.
    pub(crate) fn highest(&self) -> Index {
        self.committed.len() as Index
    }

    /// The committed entry at `index`.
    pub(crate) fn entry(&self, index: Index) -> Option<EntryId> {
        self.committed.get(index.checked_sub(1)? as usize).map(|(entry, _)| *entry)
    }
}
