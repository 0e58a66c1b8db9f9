//! Linearizable Reads: a confirmed read sees every entry that any node had committed when the read began; every read and
//! every proposal is answered exactly once.

use std::collections::HashMap;

use raft_core::core::{Index, NodeId, Tag};

use super::{Verdict, require};

/// Requests that wait for an answer: where, and for a read the highest commit index of the cluster when it began.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: HashMap<Tag, (NodeId, Option<Index>)>,
    next: Tag,
    ready: u64,
}

impl Reads {
    /// A new request's tag.
    pub(crate) fn begin(&mut self, node: NodeId, read_at: Option<Index>) -> Tag {
        self.next += 1;
        self.waiting.insert(self.next, (node, read_at));
        self.next
    }

    fn answer(&mut self, node: NodeId, tag: Tag) -> Result<Option<Index>, super::Violation> {
        let found = self.waiting.remove(&tag);
        require(found.is_some_and(|(at, _)| at == node), "One Answer", || {
            format!("{node} answers request {tag}, which waits as {found:?}")
        })?;
        Ok(found.and_then(|(_, read_at)| read_at))
    }

    /// The request was rejected, or is a proposal that was appended.
    pub(crate) fn end(&mut self, node: NodeId, tag: Tag) -> Verdict {
        self.answer(node, tag).map(|_| ())
    }

    /// The read may be served once `index` is applied.
    pub(crate) fn ready(&mut self, node: NodeId, tag: Tag, index: Index) -> Verdict {
        let read_at = self.answer(node, tag)?;
        self.ready += 1;
        require(read_at.is_some_and(|committed| index >= committed), "Linearizable Reads", || {
            format!("read {tag} of {node} gets index {index}, committed was {read_at:?} when it began")
        })
    }

    /// The node crashed; its clients get no answer.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.waiting.retain(|_, (at, _)| *at != node);
    }

    /// Reads that were confirmed.
    pub(crate) fn confirmed(&self) -> u64 {
        self.ready
    }

    /// Requests without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.waiting.len()
    }
}
