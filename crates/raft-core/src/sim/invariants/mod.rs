//! The safety properties of the paper (Figure 3), checked while a simulation runs.
//!
//! ```text
//!   replica of node 2 --- stepped ---> [World] --- each Observation ---> five properties, one file each
//!                                         |                                     |
//!                                         '- views of all nodes, as they were    '- Err(text): the first violation
//!                                            before this observation                of a run is kept and shown
//! ```
//!
//! A property sees an observation and the world before it. It keeps whatever it needs to compare across time.

mod election_safety;
mod leader_append_only;
mod leader_completeness;
mod log_matching;
mod state_machine_safety;
mod world;

#[cfg(test)]
mod tests;

pub use world::{NodeView, Observation, Seen, ShadowLog, Violation, World};

use election_safety::ElectionSafety;
use leader_append_only::LeaderAppendOnly;
use leader_completeness::LeaderCompleteness;
use log_matching::LogMatching;
use state_machine_safety::StateMachineSafety;

/// A statement that must hold in every state the cluster can reach.
pub trait Property: Send {
    /// Its name in the paper.
    fn name(&self) -> &'static str;

    /// Looks at the next observation; `world` is how things were before it.
    ///
    /// # Errors
    /// When the statement does not hold: what was found, with the operands.
    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String>;
}

/// All of them.
fn properties() -> Vec<Box<dyn Property>> {
    vec![
        Box::new(ElectionSafety::default()),
        Box::new(LeaderAppendOnly),
        Box::new(LogMatching::default()),
        Box::new(LeaderCompleteness),
        Box::new(StateMachineSafety::default()),
    ]
}
