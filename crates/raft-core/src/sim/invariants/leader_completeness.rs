//! Leader Completeness: if a log entry is committed in a given term, then that entry will be present in the logs of
//! the leaders for all higher-numbered terms (paper §5.4, Figure 3).
//!
//! Checked from both sides: a new leader must hold everything that is known to be committed, and what becomes known
//! to be committed must be held by every leader of a later term than the one it became known in.

use crate::core::{Index, Role, Term};

use super::{NodeView, Observation, Property, Seen, World};

/// Needs no memory: the committed log and the views of the nodes say it all.
pub(super) struct LeaderCompleteness;

/// Whether `log` can hold an entry of `term` at `index`; what went into its snapshot was committed.
fn check(view: &NodeView, leads: Term, index: Index, term: Term) -> Result<(), String> {
    if index < view.log.base().index {
        return Ok(());
    }
    match view.log.term_at(index) {
        Some(found) if found == term => Ok(()),
        found => Err(format!(
            "leads term {leads}; index {index} was committed with term {term}, its log has {found:?}"
        )),
    }
}

impl Property for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "Leader Completeness"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen.observation {
            Observation::RoleChanged { role: Role::Leader, term } => {
                let Some(view) = world.node(seen.node) else { return Ok(()) };
                for index in view.log.base().index.max(1)..=world.last_committed() {
                    let committed = world.committed_term(index).expect("the committed log has no gap");
                    check(view, *term, index, committed)?;
                }
                Ok(())
            }
            Observation::Committed { entry } => {
                let known_in = world.node(seen.node).map_or(0, |view| view.term);
                for (id, view) in world.nodes() {
                    if view.running && view.role == Role::Leader && view.term > known_in {
                        check(view, view.term, entry.id.index, entry.id.term)
                            .map_err(|found| format!("commits {:?}, but node {id} {found}", entry.id))?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
