//! `SCAN` cursors: numbers that stand for the last key of a page.
//!
//! Redis clients insist on a number, a key does not fit into one, so the server remembers a bounded number of keys.
//! A cursor that was forgotten, or comes from another node, is an error and never a silent end of the scan.

use std::collections::VecDeque;

use bytes::Bytes;
use fiber_runtime::sync::Spin;

/// Cursors that are remembered; the oldest goes first.
const KEPT: usize = 4096;

/// The cursors of one server.
pub(super) struct Cursors {
    kept: Spin<Kept>,
}

struct Kept {
    /// The number of the next cursor.
    next: u64,
    /// Cursors in the order of their numbers, without gaps.
    keys: VecDeque<Bytes>,
}

impl Cursors {
    /// Cursors whose numbers begin at `first`, which should differ between servers so that a cursor taken to the wrong
    /// one is noticed.
    pub(super) fn new(first: u64) -> Self {
        Cursors { kept: Spin::new(Kept { next: first.max(1), keys: VecDeque::new() }) }
    }

    /// Remembers where a scan goes on.
    pub(super) fn keep(&self, last: Bytes) -> u64 {
        // The key may share a large buffer; a copy is all that is kept alive.
        let last = Bytes::copy_from_slice(&last);
        let (cursor, dropped) = self.kept.lock(|kept| {
            let dropped = if kept.keys.len() == KEPT { kept.keys.pop_front() } else { None };
            kept.keys.push_back(last);
            kept.next += 1;
            (kept.next - 1, dropped)
        });
        drop(dropped);
        cursor
    }

    /// The key behind a cursor.
    pub(super) fn find(&self, cursor: u64) -> Option<Bytes> {
        self.kept.lock(|kept| {
            let first = kept.next - kept.keys.len() as u64;
            let index = usize::try_from(cursor.checked_sub(first)?).ok()?;
            kept.keys.get(index).cloned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_stand_for_keys_until_they_are_forgotten() {
        let cursors = Cursors::new(100);
        let first = cursors.keep(Bytes::from_static(b"a"));
        assert_eq!(first, 100);
        assert_eq!(cursors.find(first).unwrap(), "a");
        for number in 0..KEPT as u64 {
            cursors.keep(Bytes::from(number.to_string()));
        }
        assert_eq!(cursors.find(first), None);
        assert_eq!(cursors.find(101).unwrap(), "0");
        assert_eq!(cursors.find(100 + KEPT as u64).unwrap(), (KEPT - 1).to_string());
        assert_eq!(cursors.find(101 + KEPT as u64), None);
        assert_eq!(cursors.find(7), None);
    }
}
