//! Leader Append-Only: a leader never overwrites or deletes entries in its log; it only appends new entries
//! (paper §5.3, Figure 3).

use crate::core::Role;

use super::{Observation, Property, Seen, World};

/// Needs no memory: the view of the node says whether it leads and where its log ends.
pub(super) struct LeaderAppendOnly;

impl Property for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "Leader Append-Only"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Some(view) = world.node(seen.node) else { return Ok(()) };
        if view.role != Role::Leader || !view.running {
            return Ok(());
        }
        let (term, last) = (view.term, view.log.last_index());
        match seen.observation {
            Observation::Appended { entries } => match entries.first() {
                Some(first) if first.id.index <= last => Err(format!(
                    "leads term {term} and writes {:?} over its log, which ends at {last}",
                    first.id
                )),
                _ => Ok(()),
            },
            Observation::Installed { last: snapshot } => {
                Err(format!("leads term {term} and replaces its log by a snapshot that ends at {snapshot:?}"))
            }
            _ => Ok(()),
        }
    }
}
