//! State Machine Safety: if a server has applied a log entry at a given index to its state machine, no other server
//! will ever apply a different log entry for the same index (paper §5.4.3, Figure 3).
//!
//! Also checked here: each server applies every index once and in order between two starts, and a snapshot stands for
//! a position of the committed log.

use std::collections::BTreeMap;

use crate::core::{EntryId, EntryKind, Index, NodeId, Term};

use super::log_matching::fingerprint;
use super::{Observation, Property, Seen, World};

/// Remembers what was applied at each index first, and how far each node is.
#[derive(Default)]
pub(super) struct StateMachineSafety {
    applied: Vec<(Term, EntryKind, u64)>,
    last: BTreeMap<NodeId, Index>,
}

impl StateMachineSafety {
    fn check_snapshot(&self, last: EntryId) -> Result<(), String> {
        if last.index == 0 {
            return Ok(());
        }
        match self.applied.get(last.index as usize - 1) {
            Some((term, ..)) if *term == last.term => Ok(()),
            Some((term, ..)) => Err(format!("has a snapshot up to {last:?}, where term {term} was applied")),
            None => Err(format!("has a snapshot up to {last:?}, which nobody has applied")),
        }
    }
}

impl Property for StateMachineSafety {
    fn name(&self) -> &'static str {
        "State Machine Safety"
    }

    fn observe(&mut self, _: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen.observation {
            Observation::Started { snapshot, .. } => {
                self.last.insert(seen.node, snapshot.index);
                self.check_snapshot(*snapshot)
            }
            Observation::Installed { last } => {
                let applied = self.last.insert(seen.node, last.index).unwrap_or(0);
                if applied > last.index {
                    return Err(format!("goes back from index {applied} to a snapshot up to {last:?}"));
                }
                self.check_snapshot(*last)
            }
            Observation::Committed { entry } => {
                let id = entry.id;
                let before = self.last.insert(seen.node, id.index).unwrap_or(0);
                if before + 1 != id.index {
                    return Err(format!("applies {id:?} after index {before}"));
                }
                let found = (id.term, entry.kind, fingerprint(&entry.data));
                match self.applied.get(id.index as usize - 1) {
                    Some(first) if *first == found => Ok(()),
                    Some(first) => Err(format!(
                        "applies {found:x?} at index {}, where {first:x?} was applied before",
                        id.index
                    )),
                    None => {
                        self.applied.push(found);
                        Ok(())
                    }
                }
            }
            _ => Ok(()),
        }
    }
}
