//! The terms of the stored log as runs: which entry is where, without the entries.

use std::collections::VecDeque;

use crate::core::{EntryId, Index, Term};

/// Terms by index, from some first index to the last.
///
/// # Invariants
/// Runs ascend in index and in term; `first <= last + 1`.
#[derive(Clone, Debug, Default)]
pub(super) struct TermRuns {
    /// (index the run starts at, its term).
    runs: VecDeque<(Index, Term)>,
    first: Index,
    last: Index,
}

impl TermRuns {
    /// An empty log that continues after `last`.
    pub(super) fn after(last: Index) -> TermRuns {
        TermRuns { runs: VecDeque::new(), first: last + 1, last }
    }

    /// Position of the last entry; `None` if no entry is held.
    pub(super) fn last(&self) -> Option<EntryId> {
        let (_, term) = *self.runs.back()?;
        Some(EntryId { term, index: self.last })
    }

    /// Index of the last entry, held or not.
    pub(super) fn last_index(&self) -> Index {
        self.last
    }

    /// The term at `index`, if that entry is held.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        if index < self.first || index > self.last {
            return None;
        }
        let run = self.runs.partition_point(|&(start, _)| start <= index);
        Some(self.runs[run - 1].1)
    }

    /// Cuts at `id.index` if it is not past the end, then appends `id`.
    pub(super) fn append(&mut self, id: EntryId) {
        assert!(id.index <= self.last + 1, "append of {} after {} leaves a gap", id.index, self.last);
        if id.index <= self.last {
            self.cut(id.index);
        }
        if self.runs.back().is_none_or(|&(_, term)| term != id.term) {
            self.runs.push_back((id.index, id.term));
        }
        self.last = id.index;
    }

    fn cut(&mut self, from: Index) {
        while self.runs.back().is_some_and(|&(start, _)| start >= from) {
            self.runs.pop_back();
        }
        self.first = self.first.min(from);
        self.last = from - 1;
    }

    /// Forgets everything up to and including `index`.
    pub(super) fn compact(&mut self, index: Index) {
        if index < self.first {
            return;
        }
        if index >= self.last {
            *self = TermRuns::after(index.max(self.last));
            return;
        }
        while self.runs.len() > 1 && self.runs[1].0 <= index + 1 {
            self.runs.pop_front();
        }
        self.first = index + 1;
        self.runs[0].0 = index + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: Term, index: Index) -> EntryId {
        EntryId { term, index }
    }

    #[test]
    fn runs_agree_with_a_plain_list() {
        let mut runs = TermRuns::after(0);
        let mut list: Vec<Term> = Vec::new();
        let mut gone = 0;
        let mut state = 7u64;
        for step in 0..5000u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let roll = state >> 33;
            let last = list.len() as u64;
            match roll % 10 {
                0 if last > gone => {
                    gone += 1 + roll / 16 % (last - gone);
                    runs.compact(gone);
                }
                1 | 2 if last > gone => {
                    let index = gone + 1 + roll / 16 % (last - gone);
                    list.truncate(index as usize - 1);
                    list.push(step);
                    runs.append(at(step, index));
                }
                _ => {
                    let term = list.last().copied().unwrap_or(0).max(step / 50);
                    list.push(term);
                    runs.append(at(term, list.len() as u64));
                }
            }
            assert_eq!(runs.last_index(), list.len() as u64);
            for index in 0..list.len() as u64 + 2 {
                let expected = (index > gone).then(|| list.get(index as usize - 1).copied()).flatten();
                assert_eq!(runs.term(index), expected, "step {step}, index {index}, gone {gone}");
            }
        }
    }
}
