//! A look over the owner fiber's shoulder, for the simulator: what the core was given and what it wants done.

use std::fmt::Debug;

use crate::core::{Effect, Restored};

/// Sees every step of one replica's core, on the owner fiber, before its effects are carried out. Must not block.
///
/// The simulator checks the safety properties of the paper with it. A replica without an observer pays for one branch a
/// batch.
pub trait Observer: Send + Sync + Debug + 'static {
    /// The core is about to start from this.
    fn started(&self, restored: &Restored);

    /// The core wants this done. All effects of one [`Core::take_effects`](crate::core::Core::take_effects), in order.
    fn stepped(&self, effects: &[Effect]);
}
