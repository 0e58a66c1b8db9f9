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

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;

/// A key at a revision. Ordered by key, then newest first.
///
/// A search compares some twenty slots that lie all over the memory. The prefix decides most comparisons without
/// following the key's pointer, which would be one more cache miss each: half of a leader's time under random writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot<K> {
    prefix: (u64, u64),
    key: K,
    revision: Reverse<u64>,
}

impl<K: Prefixed> Slot<K> {
    fn new(key: K, revision: u64) -> Slot<K> {
        Slot { prefix: key.prefix(), key, revision: Reverse(revision) }
    }
}

/// Keys with a prefix of fixed size, ordered as the keys are: of two keys with different prefixes the one with the
/// smaller prefix is the smaller key.
pub(super) trait Prefixed {
    fn prefix(&self) -> (u64, u64);
}

impl Prefixed for Bytes {
    /// The first 16 bytes, padded with zeros. Keys that only the padding makes equal are told apart by the keys.
    fn prefix(&self) -> (u64, u64) {
        let mut first = [0; 16];
        let length = self.len().min(16);
        first[..length].copy_from_slice(&self[..length]);
        u128::from_be_bytes(first).prefix()
    }
}

impl Prefixed for u128 {
    fn prefix(&self) -> (u64, u64) {
        ((*self >> 64) as u64, *self as u64)
    }
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
    K: Ord + Clone + Prefixed + Send + 'static,
    V: Clone + Send + 'static,
{
    pub(super) fn new() -> Versions<K, V> {
        Versions { slots: SkipMap::new() }
    }

    /// Versions of all keys, tombstones included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds a version, or replaces the one of the same revision. Gives the version that is newest below it.
    pub(super) fn insert(&self, key: K, revision: u64, value: Option<V>) -> Option<(u64, Option<V>)> {
        assert!(revision > 0, "revision 0 is before every version");
        let entry = self.slots.insert(Slot::new(key, revision), value);
        // The chain runs from new to old, so what is below comes next.
        let below = entry.next()?;
        let same = below.key().key == entry.key().key;
        same.then(|| (below.key().revision.0, below.value().clone()))
    }

    /// Removes one version. Readers that may still want it are the caller's concern.
    pub(super) fn remove(&self, key: K, revision: u64) {
        self.slots.remove(&Slot::new(key, revision));
    }

    /// The newest version that is not newer than `at`, with its revision.
    pub(super) fn newest(&self, key: &K, at: u64) -> Option<(u64, Option<V>)> {
        let entry = self.slots.lower_bound(Bound::Included(&Slot::new(key.clone(), at)))?;
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
        let slot = |key: &K, revision| Slot::new(key.clone(), revision);
        let from = match from {
            Bound::Unbounded => Bound::Unbounded,
            // A chain runs from revision u64::MAX down to 1: 0 is past its end.
            Bound::Included(key) => Bound::Included(slot(key, u64::MAX)),
            Bound::Excluded(key) => Bound::Excluded(slot(key, 0)),
        };
        let mut decided: Option<K> = None;
        for entry in self.slots.range((from, Bound::Unbounded)) {
            let Slot { key, revision: Reverse(revision), .. } = entry.key();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_ordered_as_their_keys() {
        let long = "0123456789abcdef";
        let mut keys: Vec<Bytes> = ["", "\0", "a", "a\0", "a\0\0", "ab", "b", long]
            .into_iter()
            .map(str::to_owned)
            .chain(["", "\0", "0", "\u{ff}"].map(|tail| format!("{long}{tail}")))
            .chain([format!("{}\0", &long[..15]), long[..15].to_owned()])
            .map(Bytes::from)
            .collect();
        keys.push(Bytes::from(vec![0xff; 20]));
        for a in &keys {
            for b in &keys {
                let by_slot = Slot::new(a.clone(), 5).cmp(&Slot::new(b.clone(), 5));
                assert_eq!(by_slot, a.cmp(b), "{a:?} and {b:?}");
            }
            assert!(Slot::new(a.clone(), 5) < Slot::new(a.clone(), 4), "newest first");
        }
        for (a, b) in [(0_u128, 1), (u128::from(u64::MAX), 1 << 64), (5 << 100, u128::MAX)] {
            assert!(Slot::new(a, 1) < Slot::new(b, 1), "{a} and {b}");
        }
    }

    #[test]
    fn insert_gives_what_is_below() {
        let versions: Versions<Bytes, u32> = Versions::new();
        let key = |text: &'static str| Bytes::from(text);
        assert_eq!(versions.insert(key("b"), 3, Some(1)), None);
        assert_eq!(versions.insert(key("a"), 4, Some(2)), None);
        assert_eq!(versions.insert(key("b"), 5, None), Some((3, Some(1))));
        assert_eq!(versions.insert(key("b"), 7, Some(3)), Some((5, None)));
        assert_eq!(versions.insert(key("b"), 7, Some(4)), Some((5, None)));
        assert_eq!(versions.newest(&key("b"), 6), Some((5, None)));
        assert_eq!(versions.get(&key("b"), 9), Some(4));
    }
}
