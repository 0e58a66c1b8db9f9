//! Log Matching: if two logs contain an entry with the same index and term, then the logs are identical in all entries
//! up through that index (paper §5.3).
//!
//! By induction it is enough that every entry ever written with some index and term has the same content and the same
//! entry before it, everywhere.

use std::collections::HashMap;

use raft_core::core::{Core, Entry, Index, Term};

use super::super::machine::fingerprint;
use super::{Verdict, require};

#[derive(Default)]
pub(crate) struct LogMatching {
    entries: HashMap<(Term, Index), (Option<Term>, u64)>,
}

impl LogMatching {
    /// Entries that a node gives to its disk.
    pub(crate) fn check(&mut self, core: &Core, entries: &[Entry]) -> Verdict {
        let Some(first) = entries.first() else { return Ok(()) };
        let mut before = core.term_at(first.id.index - 1);
        for entry in entries {
            let found = (before, fingerprint(entry));
            let known = *self.entries.entry((entry.id.term, entry.id.index)).or_insert(found);
            // A log that was compacted right before the entry no longer tells what came before.
            let same = known.1 == found.1 && (known.0 == found.0 || known.0.is_none() || found.0.is_none());
            require(same, "Log Matching", || {
                format!("entry {:?} follows term {:?} here and {:?} elsewhere", entry.id, found.0, known.0)
            })?;
            before = Some(entry.id.term);
        }
        Ok(())
    }
}
