//! What somebody else plugs in: the state that the log is about.

use std::io;

use bytes::Bytes;

use crate::core::{EntryId, Index};

/// A deterministic state machine (paper §2). One fiber, the apply fiber, owns it and calls it.
///
/// Equal commands in equal order must give equal states on every node, byte for byte: no clock, no randomness, no
/// order of a hash map.
pub trait StateMachine: Send + 'static {
    /// What a command answers to the client that proposed it.
    type Output: Send + 'static;

    /// Applies one committed command. Must not block.
    fn apply(&mut self, id: EntryId, command: Bytes) -> Self::Output;

    /// Everything up to `index` is applied, entries that are no commands included. Called after each batch, before
    /// clients hear of it: the place to show the new state to readers.
    fn applied(&mut self, index: Index) {
        let _ = index;
    }

    /// The state as it is now, to be written while [`StateMachine::apply`] goes on. Should take constant time.
    fn freeze(&mut self) -> Box<dyn FrozenState>;

    /// Replaces the whole state by the one a [`FrozenState`] wrote, here or on another node. The bytes were verified.
    ///
    /// # Errors
    /// If they are not such a state. The replica stops then.
    fn restore(&mut self, source: &mut dyn io::Read) -> io::Result<()>;
}

/// A state at one point of the log.
pub trait FrozenState: Send {
    /// Writes it. Runs on a thread of the blocking pool.
    ///
    /// # Errors
    /// Those of `sink`.
    fn write_to(self: Box<Self>, sink: &mut dyn io::Write) -> io::Result<()>;
}
