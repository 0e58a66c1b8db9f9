//! Compaction and snapshots (paper §7): what is kept, who is sent one, and how one is taken in.

mod core_harness;

use core_harness::{
    Cluster, Node, accepted, append, at, bodies, echo, entry, id, log, plain, rejected, snapshot, stored,
};
use raft_core::core::{Config, Entry, Event, ReplicationState, Restored, Role};

/// Node 1 of three, keeping nothing behind a snapshot.
fn strict() -> Config {
    let mut config = plain(1, 3);
    config.trailing_entries = 0;
    config
}

/// A leader in term 1 with 5 entries committed and applied, of which node 2 has only the first.
fn leader_with_a_laggard(config: Config) -> Node {
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    for tag in 0..4 {
        node.propose(tag, "x");
    }
    node.persist();
    node.receive(3, 1, accepted(5));
    node.apply();
    assert_eq!(node.core.commit_index(), 5);
    node.sent.clear();
    node
}

/// The same, compacted, and the laggard has rejected what it was sent.
fn leader_that_asks_for_a_snapshot() -> Node {
    let mut node = leader_with_a_laggard(strict());
    node.step(Event::SnapshotSaved { meta: snapshot(1, 5, 3) });
    node.receive(2, 1, rejected(5, at(1, 1)));
    assert_eq!(node.snapshots_asked, [(id(2), 1)]);
    node.sent.clear();
    node
}

fn state(node: &Node) -> (ReplicationState, u64, u64) {
    let peer = node.core.status().peers[0];
    (peer.state, peer.match_index, peer.next_index)
}

// ---- compaction ----

#[test]
fn a_saved_snapshot_lets_the_log_before_it_go() {
    let mut node = leader_with_a_laggard(strict());
    node.step(Event::SnapshotSaved { meta: snapshot(1, 3, 3) });
    assert_eq!((node.core.compacted(), node.terms()), (at(1, 3), vec![1, 1]));
}

#[test]
fn entries_behind_a_snapshot_are_kept_up_to_the_number_and_bytes_allowed() {
    for (entries, bytes, compacted) in [
        (100, 1_000_000, 0),
        (2, 1_000_000, 3),
        (0, 1_000_000, 5),
        (100, 0, 5),
        (100, 2 * Entry { data: "x".into(), ..entry(1, 1) }.size(), 3),
        (1, 2 * Entry { data: "x".into(), ..entry(1, 1) }.size(), 4),
    ] {
        let mut config = plain(1, 3);
        config.trailing_entries = entries;
        config.trailing_bytes = bytes;
        let mut node = leader_with_a_laggard(config);
        node.step(Event::SnapshotSaved { meta: snapshot(1, 5, 3) });
        assert_eq!(node.core.compacted().index, compacted, "{entries} entries, {bytes} bytes");
    }
}

#[test]
fn a_snapshot_that_is_older_than_the_compaction_changes_nothing() {
    let mut node = leader_with_a_laggard(strict());
    node.step(Event::SnapshotSaved { meta: snapshot(1, 4, 3) });
    node.step(Event::SnapshotSaved { meta: snapshot(1, 2, 3) });
    assert_eq!((node.core.compacted(), node.fatal), (at(1, 4), None));
}

#[test]
fn a_snapshot_of_what_was_never_handed_out_is_fatal() {
    let mut node = leader_with_a_laggard(strict());
    node.step(Event::SnapshotSaved { meta: snapshot(1, 6, 3) });
    assert_eq!(node.fatal.as_deref(), Some("a snapshot of 6 is saved, but only 5 was handed out"));
}

#[test]
fn a_laggard_within_the_trailing_entries_needs_no_snapshot() {
    let mut config = strict();
    config.trailing_entries = 4;
    let mut node = leader_with_a_laggard(config);
    node.step(Event::SnapshotSaved { meta: snapshot(1, 5, 3) });
    node.receive(2, 1, rejected(5, at(1, 1)));
    assert_eq!(node.snapshots_asked, []);
    assert_eq!(node.appends_to(2)[0].entries.len(), 4);
}

// ---- sending ----

#[test]
fn a_peer_that_needs_compacted_entries_is_sent_a_snapshot_and_nothing_else() {
    let mut node = leader_that_asks_for_a_snapshot();
    assert_eq!(state(&node).0, ReplicationState::Snapshot);
    node.propose(9, "x");
    node.tick(3);
    node.receive(2, 1, echo(0));
    assert_eq!(node.appends_to(2), []);
    assert_eq!(node.snapshots_asked.len(), 1);
}

#[test]
fn a_peer_that_is_not_heard_is_not_sent_a_snapshot() {
    let mut restored = stored(1, &[]);
    restored.snapshot = Some(snapshot(1, 5, 3));
    restored.applied = 5;
    let mut node = Node::new(plain(1, 3), restored);
    node.lead();
    node.step(Event::Unreachable { peer: id(2) });
    assert_eq!(node.snapshots_asked, []);
    // The first answer tells that it lives, and what it lacks.
    node.receive(2, 2, rejected(5, at(0, 0)));
    assert_eq!(node.snapshots_asked, [(id(2), 2)]);
}

#[test]
fn after_a_transfer_the_peer_is_fed_from_the_snapshot_on() {
    let mut node = leader_that_asks_for_a_snapshot();
    node.propose(9, "x");
    node.step(Event::SnapshotSent { to: id(2), meta: Some(snapshot(1, 5, 3)) });
    assert_eq!(state(&node), (ReplicationState::Probe, 1, 6));
    assert_eq!(node.appends_to(2), [], "not before it answers");
    node.receive(2, 1, accepted(5));
    assert_eq!(node.appends_to(2)[0].prev, at(1, 5));
    assert_eq!(state(&node), (ReplicationState::Replicate, 5, 7));
}

#[test]
fn an_acknowledgement_during_the_transfer_ends_the_wait() {
    let mut node = leader_that_asks_for_a_snapshot();
    node.receive(2, 1, accepted(3));
    assert_eq!(state(&node).0, ReplicationState::Snapshot, "still before the log in memory");
    node.receive(2, 1, accepted(5));
    assert_eq!(state(&node), (ReplicationState::Replicate, 5, 6));
    // The late report of the transfer changes nothing.
    node.step(Event::SnapshotSent { to: id(2), meta: Some(snapshot(1, 5, 3)) });
    assert_eq!(state(&node), (ReplicationState::Replicate, 5, 6));
}

#[test]
fn a_transfer_that_failed_is_tried_again_after_the_next_sign_of_life() {
    let mut node = leader_that_asks_for_a_snapshot();
    node.step(Event::SnapshotSent { to: id(2), meta: None });
    assert_eq!(node.snapshots_asked.len(), 1);
    node.tick(1);
    node.receive(2, 1, echo(0));
    assert_eq!(node.snapshots_asked.len(), 2);
}

#[test]
fn an_acknowledgement_of_the_snapshot_that_is_lost_is_asked_for() {
    let mut node = leader_that_asks_for_a_snapshot();
    node.step(Event::SnapshotSent { to: id(2), meta: Some(snapshot(1, 5, 3)) });
    node.tick(1);
    node.receive(2, 1, echo(0));
    let appends = node.appends_to(2);
    assert_eq!((appends[0].prev, appends[0].entries.len()), (at(1, 5), 0));
    node.receive(2, 1, accepted(5));
    assert_eq!(state(&node), (ReplicationState::Replicate, 5, 6));
}

#[test]
fn a_report_of_a_transfer_to_a_node_that_no_longer_leads_is_ignored() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    node.step(Event::SnapshotSent { to: id(3), meta: Some(snapshot(1, 5, 3)) });
    assert_eq!((node.core.role(), node.take_sent()), (Role::Follower, vec![]));
}

// ---- receiving ----

fn receive(node: &mut Node, from: u64, term: u64, meta: raft_core::core::SnapshotMeta) {
    node.step(Event::SnapshotReceived { from: id(from), term, meta });
}

#[test]
fn a_received_snapshot_replaces_log_and_state_and_is_acknowledged_when_durable() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1]));
    node.follow(2, 3);
    receive(&mut node, 2, 3, snapshot(2, 5, 3));
    assert_eq!(node.restored, [snapshot(2, 5, 3)]);
    let status = node.core.status();
    assert_eq!((status.last, status.compacted, status.commit_index), (at(2, 5), at(2, 5), 5));
    assert_eq!(node.writes[0].snapshot, Some(snapshot(2, 5, 3)));
    assert!(node.writes[0].must_sync && node.writes[0].entries.is_empty());
    assert!(!bodies(node.take_sent()).contains(&accepted(5)));
    node.persist();
    assert_eq!(bodies(node.take_sent()), [accepted(5)]);
}

#[test]
fn entries_after_a_snapshot_that_the_log_matches_are_kept() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1, 1, 1]));
    node.follow(2, 1);
    receive(&mut node, 2, 1, snapshot(1, 2, 3));
    assert_eq!((node.core.compacted(), node.terms()), (at(1, 2), vec![1, 1]));
    node.persist();
    assert_eq!(node.core.status().persisted_index, 4);
}

#[test]
fn entries_after_a_snapshot_that_the_log_contradicts_are_dropped() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1, 1, 1]));
    node.follow(2, 2);
    receive(&mut node, 2, 2, snapshot(2, 2, 3));
    assert_eq!((node.core.last(), node.terms()), (at(2, 2), vec![]));
    node.persist();
    assert_eq!(node.core.status().persisted_index, 2);
}

#[test]
fn a_write_that_a_snapshot_overtook_makes_nothing_durable() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    node.receive(2, 1, append(at(0, 0), log(&[1, 1, 1, 1, 1, 1]), 0));
    receive(&mut node, 3, 2, snapshot(2, 4, 3));
    node.receive(3, 2, append(at(2, 4), vec![entry(2, 5)], 4));
    assert_eq!(node.writes.len(), 3);
    node.persist_one();
    assert_eq!(node.core.status().persisted_index, 0);
    node.persist_one();
    assert_eq!(bodies(node.take_sent()), [accepted(4)]);
    node.persist_one();
    assert_eq!(bodies(node.take_sent()), [accepted(5)]);
}

#[test]
fn a_snapshot_that_is_not_news_is_acknowledged_and_not_installed() {
    let mut restored = stored(1, &[1, 1, 1]);
    restored.hard_state.commit_index = 3;
    let mut node = Node::new(plain(1, 3), restored);
    node.follow(2, 1);
    receive(&mut node, 2, 1, snapshot(1, 2, 3));
    assert_eq!((node.restored.len(), node.terms()), (0, vec![1, 1, 1]));
    assert_eq!(bodies(node.take_sent()), [accepted(3)]);
}

#[test]
fn a_snapshot_of_an_older_term_or_a_stranger_is_ignored() {
    let mut node = Node::new(plain(1, 3), stored(4, &[1]));
    receive(&mut node, 2, 3, snapshot(2, 5, 3));
    receive(&mut node, 9, 4, snapshot(2, 5, 3));
    receive(&mut node, 2, 4, snapshot(5, 5, 3)); // newer than its own leader
    receive(&mut node, 2, 4, snapshot(0, 0, 3)); // of nothing
    assert_eq!((node.restored.len(), node.take_sent(), node.core.last()), (0, vec![], at(1, 1)));
}

#[test]
fn a_snapshot_of_a_newer_term_makes_its_sender_the_leader() {
    let mut node = Node::fresh(3);
    node.step(Event::Campaign);
    receive(&mut node, 3, 5, snapshot(2, 5, 3));
    assert_eq!((node.core.term(), node.core.leader(), node.core.role()), (5, Some(id(3)), Role::Follower));
    assert_eq!(node.restored.len(), 1);
}

#[test]
fn a_leader_takes_no_snapshot_of_its_own_term() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    receive(&mut node, 2, 1, snapshot(1, 9, 3));
    assert!(node.fatal.is_some_and(|message| message.contains("two leaders")));
    assert_eq!(node.restored, []);
}

#[test]
fn entries_that_follow_a_snapshot_are_applied_after_it() {
    let mut node = Node::fresh(3);
    receive(&mut node, 2, 1, snapshot(1, 5, 3));
    node.receive(2, 1, append(at(1, 5), vec![entry(1, 6)], 6));
    assert_eq!(node.applied, [], "not durable yet");
    node.persist();
    assert_eq!(node.applied, [entry(1, 6)]);
    node.apply();
    assert_eq!(node.core.status().applied_index, 6);
}

#[test]
fn the_membership_of_a_snapshot_is_taken_over() {
    let mut node = Node::fresh(3);
    receive(&mut node, 2, 1, snapshot(1, 5, 5));
    assert_eq!(node.core.conf_state(), snapshot(1, 5, 5).conf);
    let restored = Restored { snapshot: Some(snapshot(1, 5, 5)), applied: 5, ..stored(1, &[]) };
    assert_eq!(Node::new(plain(1, 3), restored).core.conf_state(), snapshot(1, 5, 5).conf);
}

#[test]
fn a_follower_that_was_away_for_long_catches_up_by_snapshot_and_entries() {
    let mut cluster = Cluster::with(3, |config| config.trailing_entries = 1);
    assert!(cluster.campaign(1));
    cluster.isolate(3);
    for command in ["a", "b", "c", "d", "e", "f"] {
        cluster.propose(1, command);
    }
    cluster.node(1).step(Event::SnapshotSaved { meta: snapshot(1, 6, 3) });
    assert_eq!(cluster.node(1).core.compacted(), at(1, 5));
    cluster.heal();
    cluster.tick(3);
    assert_eq!(cluster.node(1).snapshots_asked, [(id(3), 1)]);
    receive(cluster.node(3), 1, 1, snapshot(1, 6, 3));
    cluster.node(1).step(Event::SnapshotSent { to: id(3), meta: Some(snapshot(1, 6, 3)) });
    cluster.settle();
    cluster.tick(3);
    assert_eq!(cluster.commits(), [7, 7, 7]);
    assert_eq!(
        cluster.node(3).applied.iter().map(|entry| entry.id).collect::<Vec<_>>(),
        [at(1, 1), at(1, 7)]
    );
    assert_eq!(cluster.node(3).restored, [snapshot(1, 6, 3)]);
}
