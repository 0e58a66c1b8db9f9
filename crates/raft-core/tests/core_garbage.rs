//! Whatever peers send, a core does not panic: it ignores, answers, or says that the protocol is broken.

mod core_harness;

use core_harness::{Node, at, entry, id, plain, snapshot, stored};
use raft_core::core::{
    AppendEntries, AppendRejection, AppendResponse, Body, Entry, EntryId, Event, Heartbeat,
    HeartbeatResponse, Message, NodeId, RequestVote, Role, VoteResponse,
};

/// Draws mostly numbers that are close to what a small cluster uses, and some that are close to the end of the type.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn number(&mut self) -> u64 {
        match self.next() % 8 {
            0 => u64::MAX - self.next() % 3,
            1 => (1 << 62) - 1 + self.next() % 3,
            _ => self.next() % 8,
        }
    }

    fn flag(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn position(&mut self) -> EntryId {
        at(self.number(), self.number())
    }

    fn entries(&mut self) -> Vec<Entry> {
        let first = self.position();
        (0..self.next() % 4)
            .map(|step| {
                let loose = self.next().is_multiple_of(4);
                let id = if loose { self.position() } else { at(first.term, first.index.wrapping_add(step)) };
                entry(id.term, id.index)
            })
            .collect()
    }

    fn body(&mut self) -> Body {
        match self.next() % 8 {
            0 => Body::RequestVote(RequestVote {
                last: self.position(),
                pre_vote: self.flag(),
                leader_transfer: self.flag(),
            }),
            1 => Body::VoteResponse(VoteResponse { granted: self.flag(), pre_vote: self.flag() }),
            2 | 3 => Body::AppendEntries(AppendEntries {
                prev: self.position(),
                entries: self.entries(),
                commit_index: self.number(),
            }),
            4 => Body::AppendResponse(AppendResponse::Accepted { match_index: self.number() }),
            5 => Body::AppendResponse(AppendResponse::Rejected(AppendRejection {
                rejected_index: self.number(),
                hint: self.position(),
            })),
            6 => Body::Heartbeat(Heartbeat { commit_index: self.number(), read_token: self.number() }),
            _ => match self.next() % 3 {
                0 => Body::TimeoutNow,
                _ => Body::HeartbeatResponse(HeartbeatResponse { read_token: self.number() }),
            },
        }
    }

    /// What only a leader says comes from the leader of the term, if it has one: a second one would end the run.
    fn event(&mut self, term: u64, leader: Option<NodeId>) -> Event {
        let anybody = id(self.next() % 5);
        let mut body = self.body();
        let from = match (&body, leader) {
            (Body::AppendEntries(_) | Body::Heartbeat(_), Some(NodeId(1)))
                if !self.next().is_multiple_of(64) =>
            {
                body = Body::AppendResponse(AppendResponse::Accepted { match_index: self.number() });
                anybody
            }
            (Body::AppendEntries(_) | Body::Heartbeat(_), _) => leader.unwrap_or(id(2)),
            _ => anybody,
        };
        // Messages of the current term get furthest.
        let term = if self.next().is_multiple_of(3) { self.number() } else { term };
        match self.next() % 20 {
            0 => Event::Tick,
            1 if leader != Some(id(1)) => Event::SnapshotReceived {
                from: leader.unwrap_or(id(2)),
                term,
                meta: snapshot(self.number(), self.number(), 3),
            },
            2 => Event::SnapshotSent { to: from, meta: Some(snapshot(self.number(), self.number(), 3)) },
            3 => Event::Unreachable { peer: from },
            4 => Event::TransferLeadership { to: from },
            5 => Event::Read { tag: self.number() },
            _ => Event::Message(Message { from, to: id(1), term, body }),
        }
    }
}

/// What only a broken protocol can show, and garbage may pretend.
const PRETENDED: [&str; 2] = ["has two leaders", "replaces a committed one"];

#[test]
fn no_message_of_a_peer_panics_in_any_role() {
    let mut fatal = 0;
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let mut config = plain(1, 3);
        config.pre_vote = dice.flag();
        config.check_quorum = dice.flag();
        config.max_inflight_messages = 2;
        let mut node = Node::new(config, stored(2, &[1, 1, 2]));
        match seed % 4 {
            0 => node.follow(2, 3),
            1 => node.step(Event::Campaign),
            2 => node.lead(),
            _ => node.lead_steadily(),
        }
        for _ in 0..60 {
            let event = dice.event(node.core.term(), node.core.leader());
            node.step(event);
            if dice.flag() {
                node.persist();
                node.apply();
            }
            assert!(node.core.commit_index() <= node.core.last().index);
        }
        if let Some(message) = &node.fatal {
            assert!(PRETENDED.iter().any(|known| message.contains(known)), "{message}");
            fatal += 1;
        }
        node.sent.clear();
    }
    assert!(fatal < 1000, "most runs go on: {fatal} ended early");
}

#[test]
fn events_that_do_not_fit_the_role_are_ignored() {
    let mut node = Node::new(plain(1, 3), stored(2, &[1, 2]));
    for event in [
        Event::SnapshotSent { to: id(2), meta: None },
        Event::Unreachable { peer: id(2) },
        Event::TransferLeadership { to: id(2) },
    ] {
        node.step(event);
    }
    assert_eq!((node.core.role(), node.take_sent(), node.fatal), (Role::Follower, vec![], None));
}
