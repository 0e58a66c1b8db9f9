//! What clients may see: acknowledged writes stay, and operations happen in the order of real time.
//!
//! The state machine of a simulation is one totally ordered object, the log itself, so linearizability has a short
//! form. Let `visible` be the highest index that any finished operation has shown to its client. Then an operation
//! that starts now must come after it:
//!
//! ```text
//!   write acknowledged at index 7 |---------|
//!                                              |---- read ----|   must see a state at index 7 or later
//!                                              |---- write ---|   must get an index above 7
//! ```
//!
//! That each index holds one command for all nodes is State Machine Safety, checked elsewhere.

use std::collections::BTreeMap;

use crate::core::{EntryId, Index};

/// The highest index that was visible when an operation started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor(Index);

/// Remembers what clients were told.
#[derive(Debug, Default)]
pub struct Oracle {
    visible: Index,
    acknowledged: BTreeMap<u64, EntryId>,
    reads: u64,
    unknown: u64,
    refused: u64,
}

impl Oracle {
    /// Nothing was told to anybody yet.
    pub fn new() -> Oracle {
        Oracle::default()
    }

    /// Call before an operation starts.
    pub fn start(&self) -> Floor {
        Floor(self.visible)
    }

    /// The command `name`, unique in the run, was acknowledged at `id`.
    ///
    /// # Errors
    /// When it was put before something that was visible before it started.
    pub fn write_acknowledged(&mut self, floor: Floor, name: u64, id: EntryId) -> Result<(), String> {
        if id.index <= floor.0 {
            return Err(format!(
                "write {name:x} got {id:?}, index {} was visible before it started",
                floor.0
            ));
        }
        self.visible = self.visible.max(id.index);
        self.acknowledged.insert(name, id);
        Ok(())
    }

    /// A read was answered from the state at `index`.
    ///
    /// # Errors
    /// When something newer was visible before it started.
    pub fn read_answered(&mut self, floor: Floor, index: Index) -> Result<(), String> {
        if index < floor.0 {
            return Err(format!("a read saw index {index}, index {} was visible before it started", floor.0));
        }
        self.visible = self.visible.max(index);
        self.reads += 1;
        Ok(())
    }

    /// An operation ended without an answer.
    pub fn unknown(&mut self) {
        self.unknown += 1;
    }

    /// An operation was certainly not taken.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// Every acknowledged command and where it stands.
    pub fn acknowledged(&self) -> impl Iterator<Item = (u64, EntryId)> {
        self.acknowledged.iter().map(|(name, id)| (*name, *id))
    }

    /// How many writes were acknowledged, reads answered, operations left unknown, and operations refused.
    pub fn counts(&self) -> (u64, u64, u64, u64) {
        (self.acknowledged.len() as u64, self.reads, self.unknown, self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: Index) -> EntryId {
        EntryId { term: 1, index }
    }

    #[test]
    fn read_after_acknowledged_write_must_see_it() {
        let mut oracle = Oracle::new();
        let before = oracle.start();
        oracle.write_acknowledged(before, 1, at(5)).unwrap();
        let after = oracle.start();
        assert!(oracle.read_answered(after, 4).is_err());
        oracle.read_answered(after, 5).unwrap();
        oracle.read_answered(before, 4).unwrap(); // It ran beside the write.
    }

    #[test]
    fn write_after_a_read_comes_after_what_it_saw() {
        let mut oracle = Oracle::new();
        oracle.read_answered(oracle.start(), 9).unwrap();
        let after = oracle.start();
        assert!(oracle.write_acknowledged(after, 1, at(9)).is_err());
        oracle.write_acknowledged(after, 2, at(10)).unwrap();
    }
}
