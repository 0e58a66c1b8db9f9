//! Election Safety: at most one leader can be elected in a given term (paper §5.2, §5.4.3, Figure 3).

use std::collections::BTreeMap;

use crate::core::{NodeId, Role, Term};

use super::{Observation, Property, Seen, World};

/// Remembers who led each term, for all time: a node that forgets its vote in a crash shows only later.
#[derive(Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
}

impl Property for ElectionSafety {
    fn name(&self) -> &'static str {
        "Election Safety"
    }

    fn observe(&mut self, _: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Observation::RoleChanged { role: Role::Leader, term } = seen.observation else { return Ok(()) };
        let first = *self.leaders.entry(*term).or_insert(seen.node);
        if first == seen.node {
            Ok(())
        } else {
            Err(format!("leads term {term}, which node {first} has led"))
        }
    }
}
