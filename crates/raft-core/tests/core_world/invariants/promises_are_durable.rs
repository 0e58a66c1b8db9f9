//! Promises Are Durable: a vote or an acknowledgement leaves a node only after what it says is on that node's disk
//! (paper Figure 2: "updated on stable storage before responding to RPCs").

use raft_core::core::{AppendResponse, Body, Core, EntryId, Index, Message, Role};

use super::super::disk::Disk;
use super::{Verdict, require};

const NAME: &str = "Promises Are Durable";

/// `message` leaves the node of `core` and `disk`.
pub(crate) fn check_promise(
    core: &Core,
    disk: &Disk,
    message: &Message,
    committed: impl Fn(Index) -> Option<EntryId>,
) -> Verdict {
    let (term, stored) = (message.term, disk.hard_state);
    match &message.body {
        Body::VoteResponse(response) if response.granted && !response.pre_vote => {
            let kept = stored.term > term || (stored.term == term && stored.voted_for == Some(message.to));
            require(kept, NAME, || format!("vote {message:?} leaves, stored is {stored:?}"))
        }
        Body::RequestVote(request) if !request.pre_vote => {
            let kept = stored.term > term || (stored.term == term && stored.voted_for == Some(message.from));
            require(kept, NAME, || format!("candidate {message:?} asks, stored is {stored:?}"))
        }
        Body::AppendResponse(AppendResponse::Accepted { match_index }) if core.role() == Role::Follower => {
            let index = *match_index;
            // What the log no longer has in memory is committed.
            let log = core.term_at(index).map(|term| EntryId { term, index }).or(committed(index));
            let durable =
                index == 0 || disk.snapshot_index() >= index || log.is_some_and(|id| disk.holds(id));
            require(durable && stored.term >= term, NAME, || {
                format!(
                    "{message:?} leaves, log has {log:?}, disk has term {:?} and {stored:?}",
                    disk.term_at(index)
                )
            })
        }
        _ => Ok(()),
    }
}
