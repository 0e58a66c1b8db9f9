//! State Machine Safety: if a server has applied a log entry at a given index to its state machine, no other server will
//! ever apply a different log entry for the same index (paper §5.4.3). Also: every node applies every index once, in
//! order, and equal logs give equal states, snapshots included.

use raft_core::core::{Entry, EntryId, NodeId};

use super::super::machine::Machine;
use super::{Verdict, require};

/// The state after each index.
#[derive(Default)]
pub(crate) struct StateMachineSafety {
    states: Vec<(EntryId, u64)>,
}

impl StateMachineSafety {
    /// `entry` is about to be applied.
    pub(crate) fn check_order(&self, id: NodeId, machine: &Machine, entry: &Entry) -> Verdict {
        require(entry.id.index == machine.last.index + 1, "State Machine Safety", || {
            format!("{id} applies {:?} after {:?}", entry.id, machine.last)
        })
    }

    /// The machine has applied or restored something.
    pub(crate) fn check(&mut self, id: NodeId, machine: &Machine) -> Verdict {
        let found = (machine.last, machine.state);
        let position = machine.last.index as usize - 1;
        match self.states.get(position) {
            Some(known) => require(*known == found, "State Machine Safety", || {
                format!(
                    "{id} has state {:x} after {:?}, another node {:x} after {:?}",
                    found.1, found.0, known.1, known.0
                )
            }),
            None => {
                require(position == self.states.len(), "State Machine Safety", || {
                    format!("{id} has a state after {:?} that nobody applied", machine.last)
                })?;
                self.states.push(found);
                Ok(())
            }
        }
    }
}
