//! Log Matching: if two logs contain an entry with the same index and term, then the logs are identical in all
//! entries up through the given index (paper §5.3, Figure 3).
//!
//! Comparing whole logs after every step would cost their length each time. It is enough to remember, for every
//! (index, term) that was ever in any log, the payload and the term of the entry before it: if every log agrees with
//! that record, two logs that share an entry share the record of the one before it, and so on down to the first.

use std::collections::BTreeMap;

use crate::core::{Entry, EntryKind, Index, Term};

use super::{Observation, Property, Seen, ShadowLog, World};

/// What the first log that contained an entry had there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    kind: EntryKind,
    payload: u64,
    previous_term: Term,
}

/// Remembers the record of every entry.
#[derive(Default)]
pub(super) struct LogMatching {
    records: BTreeMap<(Index, Term), Record>,
}

impl LogMatching {
    fn check(&mut self, entries: &[Entry], mut previous_term: Option<Term>) -> Result<(), String> {
        for entry in entries {
            if let Some(previous_term) = previous_term {
                let found = Record { kind: entry.kind, payload: fingerprint(&entry.data), previous_term };
                let first = *self.records.entry((entry.id.index, entry.id.term)).or_insert(found);
                if first != found {
                    return Err(format!("{:?} is {found:x?} here and was {first:x?} elsewhere", entry.id));
                }
            }
            previous_term = Some(entry.id.term);
        }
        Ok(())
    }
}

impl Property for LogMatching {
    fn name(&self) -> &'static str {
        "Log Matching"
    }

    fn observe(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let before =
            |log: &ShadowLog, entries: &[Entry]| log.term_at(entries.first()?.id.index.checked_sub(1)?);
        match seen.observation {
            Observation::Started { snapshot, entries, .. } => {
                self.check(entries, before(&ShadowLog::new(*snapshot), entries))
            }
            Observation::Appended { entries } => {
                let view = world.node(seen.node);
                self.check(entries, view.and_then(|view| before(&view.log, entries)))
            }
            _ => Ok(()),
        }
    }
}

/// A number that differs for different payloads, but for a coincidence (FNV-1a).
pub(super) fn fingerprint(payload: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    payload.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
