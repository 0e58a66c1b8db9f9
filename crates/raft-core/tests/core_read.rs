//! Linearizable reads without log entries (ReadIndex, thesis §6.4).

mod core_harness;

use core_harness::{Cluster, Node, accepted, echo, heartbeat, id, plain, stored};
use raft_core::core::{Event, RejectReason, Restored, Role};

fn read(node: &mut Node, tag: u64) {
    node.step(Event::Read { tag });
}

/// The tokens of the heartbeats that were sent to node 2.
fn tokens(node: &mut Node) -> Vec<u64> {
    let sent = node.take_sent().into_iter().filter(|message| message.to == id(2));
    sent.filter_map(|message| match message.body {
        raft_core::core::Body::Heartbeat(heartbeat) => Some(heartbeat.read_token),
        _ => None,
    })
    .collect()
}

#[test]
fn a_read_is_ready_after_a_majority_has_echoed_its_token() {
    let mut node = Node::new(plain(1, 5), Restored::default());
    node.lead_steadily();
    read(&mut node, 7);
    assert_eq!(tokens(&mut node), [1]);
    node.receive(2, 1, echo(1));
    assert_eq!(node.ready, []);
    node.receive(2, 1, echo(1));
    assert_eq!(node.ready, [], "an echo that comes twice is one echo");
    node.receive(3, 1, echo(1));
    assert_eq!(node.ready, [(7, 1)]);
}

#[test]
fn a_read_in_a_cluster_of_one_is_ready_at_once() {
    let mut node = Node::fresh(1);
    node.lead_steadily();
    read(&mut node, 7);
    assert_eq!(node.ready, [(7, 1)]);
}

#[test]
fn a_read_before_the_first_commit_of_the_term_waits_for_it() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1]));
    node.lead();
    read(&mut node, 7);
    node.tick(1);
    node.receive(2, 2, echo(0));
    assert_eq!((node.ready.len(), node.core.commit_index()), (0, 0));
    node.sent.clear();
    node.receive(2, 2, accepted(3));
    assert_eq!(tokens(&mut node), [1]);
    node.receive(2, 2, echo(1));
    assert_eq!(node.ready, [(7, 3)]);
}

#[test]
fn reads_of_one_batch_share_a_round() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    for tag in 1..=3 {
        node.core.step(Event::Read { tag });
    }
    node.flush();
    assert_eq!(tokens(&mut node), [1]);
    node.receive(3, 1, echo(1));
    assert_eq!(node.ready, [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn reads_that_come_during_a_round_share_the_next_one() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    read(&mut node, 1);
    read(&mut node, 2);
    read(&mut node, 3);
    assert_eq!(tokens(&mut node), [1]);
    node.receive(2, 1, echo(1));
    assert_eq!(node.ready, [(1, 1)]);
    assert_eq!(tokens(&mut node), [2]);
    node.receive(2, 1, echo(2));
    assert_eq!(node.ready, [(1, 1), (2, 1), (3, 1)]);
}

/// etcd-io/raft pull request 397: a late answer to an older read's round confirmed a newer read there.
#[test]
fn a_late_echo_of_an_older_round_does_not_confirm_a_newer_read() {
    let mut node = Node::new(plain(1, 5), Restored::default());
    node.lead_steadily();
    read(&mut node, 1);
    node.receive(2, 1, echo(1));
    node.receive(3, 1, echo(1));
    read(&mut node, 2);
    node.receive(2, 1, echo(2));
    for peer in [3, 4, 5] {
        node.receive(peer, 1, echo(1));
        node.receive(peer, 1, echo(0));
    }
    assert_eq!(node.ready, [(1, 1)]);
    node.receive(4, 1, echo(2));
    assert_eq!(node.ready, [(1, 1), (2, 1)]);
}

#[test]
fn an_echo_of_a_token_that_was_never_made_is_ignored() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.receive(2, 1, echo(50));
    read(&mut node, 1);
    assert_eq!((node.ready.len(), &node.fatal), (0, &None));
    node.receive(2, 1, echo(1));
    assert_eq!(node.ready, [(1, 1)]);
}

#[test]
fn an_echo_of_an_older_term_is_ignored() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.step(Event::Campaign); // a leader does not campaign
    assert_eq!(node.core.role(), Role::Leader);
    node.receive(3, 2, heartbeat(0, 0));
    node.persist();
    node.lead_steadily();
    assert_eq!(node.core.term(), 3);
    read(&mut node, 1);
    node.receive(2, 1, echo(1));
    assert_eq!(node.ready, []);
    node.receive(2, 3, echo(1));
    assert_eq!(node.ready.len(), 1);
}

#[test]
fn a_round_that_was_lost_is_repeated_with_the_next_heartbeat() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    read(&mut node, 1);
    read(&mut node, 2);
    node.sent.clear();
    node.tick(1);
    // The heartbeat takes the reads along that came after the lost round.
    assert_eq!(tokens(&mut node), [2]);
    node.receive(2, 1, echo(2));
    assert_eq!(node.ready, [(1, 1), (2, 1)]);
}

#[test]
fn a_read_gets_the_commit_index_of_when_it_began() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    read(&mut node, 1);
    node.propose(9, "set");
    node.persist();
    node.receive(2, 1, accepted(2));
    read(&mut node, 2);
    node.receive(2, 1, echo(1));
    node.receive(2, 1, echo(2));
    assert_eq!(node.ready, [(1, 1), (2, 2)]);
}

#[test]
fn reads_that_wait_are_rejected_when_the_leadership_ends() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    read(&mut node, 1);
    node.receive(3, 2, heartbeat(0, 0));
    assert_eq!(node.rejections, [(1, RejectReason::NotLeader { leader: Some(id(3)) })]);
    assert_eq!(node.ready, []);
}

#[test]
fn early_reads_are_rejected_when_the_leadership_ends() {
    let mut node = Node::fresh(3);
    node.lead();
    read(&mut node, 1);
    node.receive(3, 2, heartbeat(0, 0));
    assert_eq!(node.rejections.len(), 1);
}

#[test]
fn a_node_that_does_not_lead_rejects_reads() {
    let mut node = Node::fresh(3);
    node.follow(3, 1);
    read(&mut node, 1);
    assert_eq!(node.rejections, [(1, RejectReason::NotLeader { leader: Some(id(3)) })]);
}

#[test]
fn reads_beyond_the_limit_are_rejected_as_overload() {
    let mut config = plain(1, 3);
    config.max_waiting_reads = 2;
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    for tag in 1..=3 {
        read(&mut node, tag);
    }
    assert_eq!(node.rejections, [(3, RejectReason::Overloaded)]);
    node.receive(2, 1, echo(1));
    read(&mut node, 4);
    assert_eq!(node.rejections.len(), 1);
}

#[test]
fn a_leader_that_was_replaced_unnoticed_confirms_no_read() {
    let mut cluster = Cluster::new(3);
    assert!(cluster.campaign(1));
    cluster.isolate(1);
    assert!(cluster.campaign(2));
    cluster.propose(2, "newer");
    assert_eq!(cluster.node(1).core.role(), Role::Leader);
    read(cluster.node(1), 1);
    cluster.settle();
    assert_eq!(cluster.node(1).ready, []);
    cluster.heal();
    cluster.tick(3);
    assert_eq!(cluster.node(1).ready, []);
    assert_eq!(cluster.node(1).rejections.len(), 1);
}
