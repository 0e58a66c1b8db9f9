//! Majorities: what counts as decided by a set of voters (paper §5.2, §5.3), and by two sets at once (paper §6).
//!
//! Everything a leader decides by counting is one of two questions. *Up to which number has a quorum come?* answers
//! commitment (numbers are match indices) and read confirmation (numbers are read tokens). *Has a quorum said yes,
//! or can it no longer?* answers elections and CheckQuorum. Both are pure functions of the voters and a lookup.
//!
//! The core runs with one majority today; [`Joint`] is what membership changes will run on, and decides like its
//! first half alone while its second half is empty.

use super::types::NodeId;

/// Most voters whose numbers are sorted on the stack.
const STACK_VOTERS: usize = 9;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// A quorum said yes.
    Won,
    /// A quorum can no longer say yes.
    Lost,
    /// Neither, until more answers arrive.
    Pending,
}

/// A set of voters that decides by majority.
///
/// # Invariants
/// - Voters are in ascending order, without duplicates.
/// - The empty set agrees to everything: it commits `u64::MAX` and wins every vote, which makes it neutral in a
///   [`Joint`] quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Majority {
    voters: Vec<NodeId>,
}

impl Majority {
    /// The majority of these voters, given in any order.
    pub fn new(mut voters: Vec<NodeId>) -> Majority {
        voters.sort_unstable();
        voters.dedup();
        Majority { voters }
    }

    /// The voters in ascending order.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Whether `id` votes.
    pub fn contains(&self, id: NodeId) -> bool {
        self.voters.binary_search(&id).is_ok()
    }

    /// The largest number that a majority has reached, where `reached` gives each voter's number; a voter without
    /// one counts as 0.
    ///
    /// ```
    /// # use raft_core::core::{Majority, NodeId};
    /// let cluster = Majority::new(vec![NodeId(1), NodeId(2), NodeId(3)]);
    /// let matches = |id: NodeId| Some([7, 5, 2][id.0 as usize - 1]);
    /// assert_eq!(cluster.committed(matches), 5); // two of three hold 5
    /// ```
    pub fn committed(&self, mut reached: impl FnMut(NodeId) -> Option<u64>) -> u64 {
        let count = self.voters.len();
        if count == 0 {
            return u64::MAX;
        }
        let mut stack = [0; STACK_VOTERS];
        let mut heap = Vec::new();
        let numbers = if count <= STACK_VOTERS {
            &mut stack[..count]
        } else {
            heap.resize(count, 0);
            &mut heap[..]
        };
        for (number, id) in numbers.iter_mut().zip(&self.voters) {
            *number = reached(*id).unwrap_or(0);
        }
        numbers.sort_unstable();
        // In ascending order, the number at this position and all after it are a majority's.
        numbers[(count - 1) / 2]
    }

    /// How the vote stands, where `answer` gives each voter's answer if it has come.
    pub fn vote(&self, mut answer: impl FnMut(NodeId) -> Option<bool>) -> VoteResult {
        let needed = self.voters.len() / 2 + 1;
        let (mut yes, mut missing) = (0, 0);
        for id in &self.voters {
            match answer(*id) {
                Some(true) => yes += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        if yes >= needed || self.voters.is_empty() {
            VoteResult::Won
        } else if yes + missing >= needed {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}

/// Two majorities that must both agree (joint consensus, paper §6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joint {
    /// The voters that are coming.
    pub incoming: Majority,
    /// The voters that are leaving; empty outside of a membership change.
    pub outgoing: Majority,
}

impl Joint {
    /// Whether `id` votes in either half.
    pub fn contains(&self, id: NodeId) -> bool {
        self.incoming.contains(id) || self.outgoing.contains(id)
    }

    /// The largest number that a majority of each half has reached.
    pub fn committed(&self, mut reached: impl FnMut(NodeId) -> Option<u64>) -> u64 {
        self.incoming.committed(&mut reached).min(self.outgoing.committed(&mut reached))
    }

    /// How the vote stands in both halves together: lost in one is lost.
    pub fn vote(&self, mut answer: impl FnMut(NodeId) -> Option<bool>) -> VoteResult {
        match (self.incoming.vote(&mut answer), self.outgoing.vote(&mut answer)) {
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            _ => VoteResult::Pending,
        }
    }
}
