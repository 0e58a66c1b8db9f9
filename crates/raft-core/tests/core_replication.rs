//! How a leader feeds its followers: back-off after conflicts, pipelining, windows, limits, and what late, doubled, lost
//! or malformed messages do (nothing bad).

mod core_harness;

use bytes::Bytes;
use core_harness::{
    Cluster, Node, accepted, append, at, bodies, echo, entry, heartbeat, id, log, plain, rejected, snapshot,
    stored,
};
use raft_core::core::{
    Body, Entry, Event, Index, Message, NodeId, RejectReason, ReplicationState, Restored, Term,
};

/// A command of this many bytes.
fn command(bytes: usize) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}

/// What an entry with a payload of this many bytes counts for.
fn size(bytes: usize) -> usize {
    Entry { data: command(bytes), ..entry(1, 1) }.size()
}

fn propose(node: &mut Node, tag: u64, bytes: usize) {
    node.step(Event::Propose { tag, commands: vec![command(bytes)] });
}

fn peer(node: &Node, n: u64) -> raft_core::core::PeerStatus {
    *node.core.status().peers.iter().find(|peer| peer.id == id(n)).expect("a peer")
}

/// Last indices of the appends that were sent to node 2.
fn lasts(node: &mut Node) -> Vec<Index> {
    let lasts =
        node.appends_to(2).iter().map(|append| append.prev.index + append.entries.len() as u64).collect();
    node.sent.clear();
    lasts
}

// ---- conflicts ----

/// Round trips until the logs of these terms agree.
fn round_trips(leader: &[Term], follower: &[Term]) -> usize {
    let last = *leader.iter().chain(follower).max().expect("not empty");
    let mut one = Node::new(plain(1, 2), stored(last, leader));
    let mut two = Node::new(plain(2, 2), stored(last, follower));
    one.lead();
    let mut trips = 0;
    loop {
        let Some(sent) =
            one.take_sent().into_iter().rfind(|message| matches!(message.body, Body::AppendEntries(_)))
        else {
            break;
        };
        trips += 1;
        two.step(Event::Message(sent));
        two.persist();
        for message in two.take_sent() {
            one.step(Event::Message(message));
        }
    }
    assert_eq!(one.terms(), two.terms());
    assert_eq!(one.core.commit_index(), leader.len() as u64 + 1);
    trips
}

/// Paper §5.3: "the leader can decrement nextIndex to bypass all of the conflicting entries in that term".
#[test]
fn a_whole_term_of_conflicts_is_skipped_in_one_round_trip() {
    let long = |prefix: &[Term], term: Term, count: usize| [prefix, &vec![term; count]].concat();
    // The follower's extra term 2 is newer than the leader's entries below it: skipped by the leader's side.
    assert_eq!(round_trips(&long(&[1], 5, 50), &long(&[1], 2, 50)), 2);
    // The leader's extra terms are skipped by the follower's side.
    assert_eq!(round_trips(&[1, 1, 2, 2, 3, 3, 4, 4, 5, 5], &[1, 1, 1, 1, 1, 1, 1]), 2);
    // Alternating terms cost a round trip for each of them, not for each entry.
    let leader = [1, 1, 1, 3, 3, 3, 3, 3, 5, 5, 5, 5];
    let follower = [1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4];
    assert!(round_trips(&leader, &follower) <= 4);
    // A follower that only lacks the end costs one rejection.
    assert_eq!(round_trips(&long(&[], 1, 100), &long(&[], 1, 3)), 2);
    assert_eq!(round_trips(&long(&[], 1, 100), &[]), 2);
}

#[test]
fn a_rejection_names_the_largest_position_that_may_still_match() {
    let mut node = Node::new(plain(1, 3), stored(5, &[1, 1, 2, 2, 5]));
    node.follow(2, 6);
    for (prev, hint) in [
        (at(6, 9), at(5, 5)), // past the end: the end
        (at(4, 5), at(2, 4)), // the follower's term 5 is too new
        (at(1, 4), at(1, 2)), // so is term 2
        (at(0, 3), at(0, 0)), // cannot come from a leader, and is ignored below
    ] {
        let answers = bodies(node.answer(2, 6, append(prev, vec![], 0)));
        if prev.term == 0 {
            assert_eq!(answers, []);
        } else {
            assert_eq!(answers, [rejected(prev.index, hint)], "append after {prev:?}");
        }
    }
}

#[test]
fn a_late_rejection_does_not_take_a_streaming_peer_back() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.propose(1, "a");
    node.receive(2, 1, accepted(2));
    node.receive(2, 1, rejected(1, at(0, 0)));
    let two = peer(&node, 2);
    assert_eq!((two.state, two.match_index, two.next_index), (ReplicationState::Replicate, 2, 3));
}

#[test]
fn a_late_rejection_of_another_probe_is_ignored() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1; 10]));
    node.lead();
    node.receive(2, 2, rejected(10, at(1, 5)));
    assert_eq!(peer(&node, 2).next_index, 6);
    // The same answer again, and an absurd one.
    node.receive(2, 2, rejected(10, at(1, 2)));
    node.receive(2, 2, rejected(u64::MAX, at(u64::MAX, u64::MAX)));
    assert_eq!(peer(&node, 2).next_index, 6);
}

#[test]
fn a_rejection_never_takes_a_peer_below_what_it_acknowledged() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1; 10]));
    node.lead();
    node.receive(2, 2, accepted(8));
    node.receive(2, 2, rejected(10, at(1, 3)));
    let two = peer(&node, 2);
    assert_eq!((two.match_index, two.next_index), (8, 9));
}

// ---- late, doubled and lost messages ----

#[test]
fn a_late_shorter_append_takes_nothing_back() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    node.receive(2, 1, append(at(0, 0), log(&[1, 1, 1]), 0));
    node.persist();
    node.sent.clear();
    assert_eq!(bodies(node.answer(2, 1, append(at(0, 0), log(&[1]), 0))), [accepted(3)]);
    assert_eq!(bodies(node.answer(2, 1, append(at(1, 1), vec![], 0))), [accepted(3)]);
    assert_eq!(node.terms(), [1, 1, 1]);
    assert!(node.writes.is_empty());
}

#[test]
fn a_doubled_append_is_acknowledged_again_because_the_first_answer_may_be_lost() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    node.receive(2, 1, append(at(0, 0), log(&[1, 1]), 0));
    node.persist();
    node.sent.clear();
    assert_eq!(bodies(node.answer(2, 1, append(at(0, 0), log(&[1, 1]), 0))), [accepted(2)]);
}

#[test]
fn an_append_from_before_the_commit_index_is_acknowledged_up_to_it() {
    let mut restored = stored(1, &[1, 1, 1]);
    restored.hard_state.commit_index = 3;
    let mut node = Node::new(plain(1, 3), restored);
    node.follow(2, 2);
    assert_eq!(bodies(node.answer(2, 2, append(at(0, 0), log(&[1]), 0))), [accepted(3)]);
    // What goes past the commit index is taken.
    node.receive(2, 2, append(at(1, 1), vec![entry(1, 2), entry(1, 3), entry(2, 4)], 3));
    assert_eq!(node.terms(), [1, 1, 1, 2]);
}

#[test]
fn a_lost_append_is_noticed_by_the_next_heartbeat() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.propose(1, "lost");
    node.sent.clear();
    node.tick(1);
    node.sent.clear();
    node.receive(2, 1, echo(0));
    // An append without entries, after the lost one: the follower will reject it.
    assert_eq!(node.appends_to(2)[0].prev, at(1, 2));
    node.sent.clear();
    node.receive(2, 1, rejected(2, at(1, 1)));
    assert_eq!(node.appends_to(2)[0].entries.len(), 1);
}

#[test]
fn a_lost_probe_is_repeated_after_the_next_heartbeat() {
    let mut node = Node::fresh(3);
    node.lead();
    assert_eq!(lasts(&mut node), [1]);
    node.propose(1, "a");
    assert_eq!(lasts(&mut node), [], "one probe at a time");
    node.tick(1);
    node.receive(2, 1, echo(0));
    assert_eq!(lasts(&mut node), [2]);
}

#[test]
fn a_peer_that_cannot_be_reached_is_probed_again_after_its_next_sign_of_life() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.propose(1, "a");
    node.sent.clear();
    node.step(Event::Unreachable { peer: id(2) });
    assert_eq!(peer(&node, 2).state, ReplicationState::Probe);
    node.propose(2, "b");
    assert_eq!(lasts(&mut node), []);
    node.tick(1);
    node.receive(2, 1, echo(0));
    assert_eq!(lasts(&mut node), [3]);
}

#[test]
fn everything_twice_and_in_reverse_order_ends_in_equal_logs() {
    let mut cluster = Cluster::new(3);
    assert!(cluster.campaign(1));
    for command in ["a", "b", "c"] {
        cluster.node(1).propose(0, command);
    }
    for _ in 0..50 {
        cluster.collect();
        let sent: Vec<Message> = cluster.network.drain(..).rev().collect();
        for message in sent.iter().chain(&sent) {
            cluster.node(message.to.0).step(Event::Message(message.clone()));
        }
        cluster.nodes.values_mut().for_each(|node| node.step(Event::Tick));
    }
    assert_eq!(cluster.commits(), [4, 4, 4]);
    assert_eq!(cluster.applied()[1], cluster.applied()[0]);
    assert_eq!(cluster.applied()[2], cluster.applied()[0]);
}

// ---- pipelining and windows ----

#[test]
fn appends_are_pipelined_until_the_window_of_messages_is_full() {
    let mut config = plain(1, 3);
    config.max_inflight_messages = 3;
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    for tag in 0..5 {
        node.propose(tag, "x");
    }
    assert_eq!(lasts(&mut node), [2, 3, 4]);
    assert_eq!(peer(&node, 2).inflight, 3);
    // An answer frees what it covers, and the rest goes out as one append.
    node.receive(2, 1, accepted(3));
    assert_eq!(lasts(&mut node), [6]);
    assert_eq!(peer(&node, 2).inflight, 2);
}

#[test]
fn appends_are_pipelined_until_the_window_of_bytes_is_full() {
    let mut config = plain(1, 3);
    config.max_inflight_bytes = 2 * size(100);
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    for tag in 0..4 {
        propose(&mut node, tag, 100);
    }
    assert_eq!(lasts(&mut node), [2, 3]);
    node.receive(2, 1, accepted(2));
    assert_eq!(lasts(&mut node), [5]);
}

#[test]
fn an_append_carries_no_more_bytes_than_allowed_but_always_an_entry() {
    let mut config = plain(1, 3);
    config.max_append_bytes = 2 * size(100);
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    let commands = [100, 100, 100, 5000, 10].map(command).to_vec();
    node.step(Event::Propose { tag: 1, commands });
    assert_eq!(lasts(&mut node), [3, 4, 5, 6]);
}

/// The first acknowledgement of a new follower tells that the probe matched, before the probe's entries are durable.
#[test]
fn what_a_probe_carried_is_not_sent_again_when_it_matched() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1]));
    node.lead();
    assert_eq!(lasts(&mut node), [3]);
    node.receive(2, 2, accepted(2));
    assert_eq!(lasts(&mut node), []);
    let two = peer(&node, 2);
    assert_eq!((two.state, two.next_index, two.inflight), (ReplicationState::Replicate, 4, 1));
    node.receive(2, 2, accepted(3));
    assert_eq!(peer(&node, 2).inflight, 0);
}

#[test]
fn proposals_of_one_batch_share_a_write_and_an_append() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    for tag in 1..=3 {
        node.core.step(Event::Propose { tag, commands: vec![command(1), command(1)] });
    }
    node.flush();
    assert_eq!(node.appended, [(1, at(1, 2), 2), (2, at(1, 4), 2), (3, at(1, 6), 2)]);
    assert_eq!(node.writes.len(), 1);
    assert_eq!(node.writes[0].entries.len(), 6);
    assert_eq!(lasts(&mut node), [7]);
}

#[test]
fn a_proposal_without_commands_appends_nothing() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.step(Event::Propose { tag: 1, commands: vec![] });
    assert_eq!(node.appended, [(1, at(1, 2), 0)]);
    assert_eq!(node.core.last(), at(1, 1));
}

/// Simulation, seed 241 of three nodes: the only append the window allowed was lost, the leader compacted past it, and
/// then neither entries nor an empty append could be sent.
#[test]
fn a_window_full_of_lost_appends_over_compacted_entries_ends_in_a_snapshot() {
    let mut config = plain(1, 3);
    config.max_inflight_messages = 1;
    config.trailing_entries = 0;
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    for tag in 0..4 {
        node.propose(tag, "x");
        node.persist();
        node.receive(3, 1, accepted(2 + tag));
        node.apply();
    }
    assert_eq!(node.core.commit_index(), 5);
    node.step(Event::SnapshotSaved { meta: snapshot(1, 5, 3) });
    node.tick(1);
    node.receive(2, 1, echo(0));
    assert_eq!(node.snapshots_asked, [(id(2), 1)]);
}

#[test]
fn an_idle_leader_tells_a_new_commit_index_within_a_tick() {
    let mut config = plain(1, 3);
    config.heartbeat_ticks = 5;
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    node.tick(5);
    node.propose(1, "a");
    node.persist();
    node.receive(2, 1, accepted(2));
    node.receive(3, 1, accepted(2));
    node.sent.clear();
    node.tick(1);
    assert_eq!(bodies(node.take_sent()), [heartbeat(2, 0), heartbeat(2, 0)]);
    node.tick(3);
    assert_eq!(node.take_sent(), []);
}

// ---- limits ----

#[test]
fn proposals_beyond_the_uncommitted_bytes_are_rejected_until_some_are_done() {
    let mut config = plain(1, 3);
    config.max_uncommitted_bytes = 3 * size(100);
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    for tag in 1..=4 {
        propose(&mut node, tag, 100);
    }
    assert_eq!(node.rejections, [(4, RejectReason::Overloaded)]);
    assert_eq!(node.core.last(), at(1, 4));
    // Committed is not enough: durable and applied as well.
    node.receive(2, 1, accepted(4));
    node.receive(3, 1, accepted(4));
    assert_eq!(node.core.commit_index(), 4);
    propose(&mut node, 5, 100);
    node.persist();
    propose(&mut node, 6, 100);
    assert_eq!(node.rejections.len(), 3);
    node.apply();
    propose(&mut node, 7, 100);
    assert_eq!((node.rejections.len(), node.core.last()), (3, at(1, 5)));
}

#[test]
fn a_proposal_larger_than_the_limit_is_taken_when_nothing_waits() {
    let mut config = plain(1, 3);
    config.max_uncommitted_bytes = 100;
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    propose(&mut node, 1, 10_000);
    assert_eq!(node.core.last(), at(1, 2));
    propose(&mut node, 2, 1);
    assert_eq!(node.rejections, [(2, RejectReason::Overloaded)]);
}

#[test]
fn committed_entries_are_handed_out_in_bounded_pieces_as_they_are_applied() {
    let mut config = plain(1, 3);
    config.max_apply_bytes = 2 * size(3);
    let mut node = Node::new(config, Restored::default());
    node.receive(2, 1, append(at(0, 0), log(&[1; 7]), 7));
    node.persist();
    assert_eq!(node.applied.len(), 2);
    node.apply();
    assert_eq!(node.applied.len(), 4);
    // A part of a piece makes room for the next.
    node.step(Event::Applied { index: 3 });
    assert_eq!(node.applied.len(), 6);
    node.apply();
    assert_eq!(node.applied, log(&[1; 7]));
}

#[test]
fn a_follower_whose_state_machine_is_far_behind_takes_no_more_entries_until_it_caught_up() {
    let mut config = plain(1, 3);
    config.max_uncommitted_bytes = 2 * size(3);
    let mut node = Node::new(config, Restored::default());
    node.receive(2, 1, append(at(0, 0), log(&[1; 4]), 4));
    node.persist();
    node.sent.clear();
    assert_eq!(node.answer(2, 1, append(at(1, 4), vec![entry(1, 5)], 4)), []);
    assert_eq!(node.core.last(), at(1, 4));
    node.apply();
    node.receive(2, 1, append(at(1, 4), vec![entry(1, 5)], 4));
    assert_eq!(node.core.last(), at(1, 5));
}

// ---- what must not hurt ----

#[test]
fn malformed_appends_are_ignored() {
    let mut node = Node::new(plain(1, 3), stored(2, &[1, 2]));
    node.follow(2, 3);
    for (prev, entries) in [
        (at(2, 2), vec![entry(3, 4)]),              // a gap after prev
        (at(2, 2), vec![entry(3, 3), entry(3, 5)]), // a gap between entries
        (at(2, 2), vec![entry(1, 3)]),              // terms go back
        (at(2, 2), vec![entry(3, 3), entry(2, 4)]), // terms go back later
        (at(2, 2), vec![entry(4, 3)]),              // newer than the leader
        (at(9, 2), vec![]),                         // prev newer than the leader
        (at(0, 0), vec![entry(0, 1)]),              // no term
        (at(3, u64::MAX), vec![entry(3, 0)]),       // indices overflow
        (at(0, 2), vec![]),                         // an index without a term
        (at(1, 0), vec![entry(1, 1)]),              // a term without an index
    ] {
        assert_eq!(node.answer(2, 3, append(prev, entries.clone(), 9)), [], "{prev:?} {entries:?}");
    }
    assert_eq!((node.terms(), node.core.commit_index(), node.fatal), (vec![1, 2], 0, None));
}

#[test]
fn a_commit_index_past_the_log_commits_only_what_is_there() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1, 1]));
    node.follow(2, 1);
    // An append speaks for what it verified only.
    node.receive(2, 1, append(at(1, 1), vec![entry(1, 2)], u64::MAX));
    assert_eq!(node.core.commit_index(), 2);
    node.receive(2, 1, heartbeat(u64::MAX, 0));
    assert_eq!((node.core.commit_index(), node.fatal), (3, None));
}

#[test]
fn an_acknowledgement_of_entries_that_were_never_sent_is_ignored() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.receive(2, 1, accepted(u64::MAX));
    node.receive(2, 1, accepted(2));
    assert_eq!((node.core.commit_index(), peer(&node, 2).match_index), (1, 1));
}

#[test]
fn messages_of_strangers_and_for_others_are_ignored() {
    let mut node = Node::fresh(3);
    node.receive(7, 3, append(at(0, 0), log(&[3]), 1));
    node.receive(1, 3, append(at(0, 0), log(&[3]), 1));
    let body = append(at(0, 0), log(&[3]), 1);
    node.step(Event::Message(Message { from: id(2), to: NodeId(3), term: 3, body }));
    assert_eq!((node.core.term(), node.core.last()), (0, at(0, 0)));
}

#[test]
fn answers_to_a_node_that_does_not_lead_are_ignored() {
    let mut node = Node::new(plain(1, 3), stored(2, &[1, 2]));
    node.follow(2, 2);
    for body in [accepted(2), rejected(2, at(1, 1)), echo(5)] {
        assert_eq!(node.answer(3, 2, body), []);
    }
    assert_eq!(node.core.commit_index(), 0);
}

#[test]
fn a_leader_whose_entry_contradicts_a_committed_one_is_fatal() {
    let mut restored = stored(2, &[1, 2, 2]);
    restored.hard_state.commit_index = 3;
    let mut node = Node::new(plain(1, 3), restored);
    node.follow(2, 3);
    node.receive(2, 3, append(at(1, 1), vec![entry(3, 2)], 0));
    assert!(node.fatal.is_some_and(|message| message.contains("replaces a committed one")));
}

#[test]
fn two_leaders_in_one_term_are_fatal() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    node.receive(3, 1, heartbeat(0, 0));
    assert_eq!(node.fatal.as_deref(), Some("term 1 has two leaders: 2 and 3"));
}
