//! A map that keeps the past: every key has a chain of versions, newest first, in one skip list.
//!
//! ```text
//!   ("a", 9) "x"   ("a", 4) "w"   ("b", 7) gone   ("b", 2) "v"   ("c", 5) "u"
//!   a read at revision 6:  a -> "w" (first version not newer than 6),  b -> "v",  c -> "u"
//! ```
//!
//! One writer inserts and removes; readers run at the same time without a lock. No entry of the skip list leaves this
//! file: an entry pins an epoch of its thread and must not live across a suspension.

use std::cmp::Reverse;
use std::ops::Bound;

use crossbeam_skiplist::SkipMap;

/// A key at a revision. Ordered by key, then newest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot<K> {
    key: K,
    revision: Reverse<u64>,
}

/// The chains of all keys. `None` is a tombstone: the key was removed at that revision.
///
/// # Invariants
/// Revisions are at least 1.
pub(super) struct Versions<K, V> {
    slots: SkipMap<Slot<K>, Option<V>>,
}

impl<K, V> std::fmt::Debug for Versions<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Versions").field("len", &self.slots.len()).finish()
    }
}

impl<K, V> Versions<K, V>
where
    K: Ord + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    pub(super) fn new() -> Versions<K, V> {
        Versions { slots: SkipMap::new() }
    }

    /// Versions of all keys, tombstones included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds a version, or replaces the one of the same revision.
    pub(super) fn insert(&self, key: K, revision: u64, value: Option<V>) {
        assert!(revision > 0, "revision 0 is before every version");
        self.slots.insert(Slot { key, revision: Reverse(revision) }, value);
    }

    /// Removes one version. Readers that may still want it are the caller's concern.
    pub(super) fn remove(&self, key: &K, revision: u64) {
        self.slots.remove(&Slot { key: key.clone(), revision: Reverse(revision) });
    }

    /// The newest version that is not newer than `at`, with its revision.
    pub(super) fn newest(&self, key: &K, at: u64) -> Option<(u64, Option<V>)> {
        let from = Slot { key: key.clone(), revision: Reverse(at) };
        let entry = self.slots.lower_bound(Bound::Included(&from))?;
        if entry.key().key != *key {
            return None;
        }
        Some((entry.key().revision.0, entry.value().clone()))
    }

    /// The value at revision `at`.
    pub(super) fn get(&self, key: &K, at: u64) -> Option<V> {
        self.newest(key, at).and_then(|(_, value)| value)
    }

    /// Calls `visit(key, revision, value)` for each key that exists at revision `at`, in ascending order from
    /// `from`, until it returns false.
    pub(super) fn visit(&self, from: Bound<&K>, at: u64, mut visit: impl FnMut(&K, u64, &V) -> bool) {
        let slot = |key: &K, revision| Slot { key: key.clone(), revision: Reverse(revision) };
        let from = match from {
            Bound::Unbounded => Bound::Unbounded,
            // A chain runs from revision u64::MAX down to 1: 0 is past its end.
            Bound::Included(key) => Bound::Included(slot(key, u64::MAX)),
            Bound::Excluded(key) => Bound::Excluded(slot(key, 0)),
        };
        let mut decided: Option<K> = None;
        for entry in self.slots.range((from, Bound::Unbounded)) {
            let Slot { key, revision: Reverse(revision) } = entry.key();
            if *revision > at || decided.as_ref() == Some(key) {
                continue;
            }
            decided = Some(key.clone());
            if let Some(value) = entry.value()
                && !visit(key, *revision, value)
            {
                return;
            }
        }
    }
}
