//! Elections beyond the paper's Figure 2: PreVote (thesis §9.6), CheckQuorum and leader stickiness (§6.2), leadership
//! transfer (§3.10).

mod core_harness;

use core_harness::{
    Cluster, Node, accepted, append, ask_pre_vote, ask_vote, at, bodies, echo, entry, heartbeat, id, plain,
    pre_vote, stored, vote, voters,
};
use raft_core::core::{Body, Config, Event, RejectReason, RequestVote, Restored, Role};

/// The defaults of the crate, with short timeouts: PreVote and CheckQuorum are on.
fn defaults(n: u64, count: u64) -> Config {
    let mut config = Config::new(id(n), voters(count));
    config.heartbeat_ticks = 1;
    config.election_ticks = 10;
    assert!(config.pre_vote && config.check_quorum);
    config
}

fn default_node(count: u64) -> Node {
    Node::new(defaults(1, count), Restored::default())
}

fn default_cluster(count: u64) -> Cluster {
    Cluster::of((1..=count).map(|n| (defaults(n, count), Restored::default())))
}

#[test]
fn a_pre_candidate_asks_about_the_next_term_and_changes_nothing() {
    let mut node = Node::new(defaults(1, 3), stored(4, &[1, 4]));
    node.step(Event::Campaign);
    assert_eq!((node.core.role(), node.core.term()), (Role::PreCandidate, 4));
    assert!(node.writes.is_empty(), "a question is not written");
    let sent = node.take_sent();
    assert!(sent.iter().all(|message| message.term == 5));
    assert_eq!(bodies(sent), [ask_pre_vote(at(4, 2)), ask_pre_vote(at(4, 2))]);
}

#[test]
fn a_pre_candidate_campaigns_when_a_majority_would_vote_for_it() {
    let mut node = default_node(5);
    node.step(Event::Campaign);
    node.receive(2, 1, pre_vote(true));
    assert_eq!((node.core.role(), node.core.term()), (Role::PreCandidate, 0));
    node.receive(3, 1, pre_vote(true));
    assert_eq!((node.core.role(), node.core.term()), (Role::Candidate, 1));
    node.sent.clear();
    node.persist();
    assert_eq!(bodies(node.take_sent()), vec![ask_vote(at(0, 0)); 4]);
}

#[test]
fn a_pre_candidate_gives_up_when_a_majority_would_not() {
    let mut node = Node::new(defaults(1, 3), stored(4, &[]));
    node.step(Event::Campaign);
    node.receive(2, 4, pre_vote(false));
    node.receive(3, 4, pre_vote(false));
    assert_eq!((node.core.role(), node.core.term()), (Role::Follower, 4));
}

#[test]
fn a_pre_candidate_learns_a_newer_term_from_a_refusal() {
    let mut node = default_node(3);
    node.step(Event::Campaign);
    node.receive(2, 6, pre_vote(false));
    assert_eq!((node.core.role(), node.core.term()), (Role::Follower, 6));
}

#[test]
fn a_pre_vote_is_given_by_the_log_alone_and_not_remembered() {
    let mut restored = stored(2, &[1, 2]);
    restored.hard_state.voted_for = Some(id(3));
    let mut node = Node::new(defaults(1, 3), restored);
    for _ in 0..2 {
        let answers = node.answer(2, 3, ask_pre_vote(at(2, 2)));
        assert_eq!((answers[0].term, &answers[0].body), (3, &pre_vote(true)));
    }
    assert_eq!(bodies(node.answer(2, 3, ask_pre_vote(at(1, 9)))), [pre_vote(false)]);
    assert_eq!(bodies(node.answer(2, 2, ask_pre_vote(at(2, 2)))), [pre_vote(false)], "that term has begun");
    assert_eq!((node.core.term(), node.core.status().voted_for), (2, Some(id(3))));
    assert!(node.writes.is_empty());
}

#[test]
fn a_pre_vote_of_an_older_term_is_refused_with_the_newer_term() {
    let mut node = Node::new(defaults(1, 3), stored(7, &[]));
    let answers = node.answer(2, 3, ask_pre_vote(at(0, 0)));
    assert_eq!((answers[0].term, &answers[0].body), (7, &pre_vote(false)));
}

#[test]
fn a_late_pre_vote_answer_is_no_vote() {
    let mut node = default_node(5);
    node.step(Event::Campaign);
    node.receive(2, 1, pre_vote(true));
    node.receive(3, 1, pre_vote(true));
    node.persist();
    node.receive(4, 1, pre_vote(true));
    node.receive(5, 1, pre_vote(true));
    assert_eq!((node.core.role(), node.core.term()), (Role::Candidate, 1));
}

#[test]
fn a_node_that_was_cut_off_does_not_disturb_the_cluster_when_it_returns() {
    let mut cluster = default_cluster(3);
    assert!(cluster.campaign(1));
    cluster.isolate(3);
    cluster.tick(60);
    cluster.propose(1, "set");
    assert_eq!(cluster.node(3).core.term(), 1, "it asked, and raised no term");
    cluster.heal();
    cluster.tick(20);
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.node(1).core.term(), 1);
    assert_eq!(cluster.node(3).core.leader(), Some(id(1)));
    assert_eq!(cluster.commits(), [2, 2, 2]);
}

#[test]
fn a_leader_that_hears_no_majority_steps_down() {
    let mut node = Node::new(defaults(1, 5), Restored::default());
    node.lead_steadily();
    node.tick(10); // what was heard before counts once
    node.receive(2, 1, echo(0));
    node.tick(9);
    assert_eq!(node.core.role(), Role::Leader);
    node.tick(1);
    assert_eq!((node.core.role(), node.core.leader(), node.core.term()), (Role::Follower, None, 1));
}

#[test]
fn a_leader_that_hears_a_majority_stays() {
    let mut node = Node::new(defaults(1, 5), Restored::default());
    node.lead_steadily();
    for _ in 0..10 {
        node.tick(9);
        node.receive(2, 1, echo(0));
        node.receive(4, 1, echo(0));
        node.tick(1);
    }
    assert_eq!(node.core.role(), Role::Leader);
}

#[test]
fn a_leader_without_check_quorum_stays_alone() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.tick(100);
    assert_eq!(node.core.role(), Role::Leader);
}

#[test]
fn a_cluster_of_one_hears_its_majority() {
    let mut node = Node::new(defaults(1, 1), Restored::default());
    node.step(Event::Campaign);
    node.persist();
    node.tick(100);
    assert_eq!(node.core.role(), Role::Leader);
}

#[test]
fn a_follower_that_hears_a_leader_ignores_candidates_of_newer_terms() {
    let mut node = default_node(3);
    node.follow(2, 1);
    assert_eq!(node.answer(3, 5, ask_vote(at(9, 9))), []);
    assert_eq!(node.answer(3, 5, ask_pre_vote(at(9, 9))), []);
    assert_eq!(node.core.term(), 1);
    node.tick(9);
    assert_eq!(node.answer(3, 5, ask_vote(at(9, 9))), []);
    assert_eq!(node.core.term(), 1);
}

#[test]
fn a_follower_that_no_longer_hears_its_leader_listens_to_candidates() {
    let mut config = defaults(1, 3);
    config.seed = (0..100)
        .find(|seed| {
            // A seed whose first timeout after following is longer than the shortest one.
            let mut node = Node::new(Config { seed: *seed, ..defaults(1, 3) }, Restored::default());
            node.follow(2, 1);
            node.tick(10);
            node.core.role() == Role::Follower
        })
        .expect("some seed draws more than the minimum");
    let mut node = Node::new(config, Restored::default());
    node.follow(2, 1);
    node.tick(10);
    node.receive(3, 2, ask_vote(at(0, 0)));
    node.persist();
    assert_eq!(bodies(node.take_sent()), [vote(true)]);
}

#[test]
fn a_leader_with_check_quorum_ignores_candidates() {
    let mut node = default_node(3);
    node.lead_steadily();
    assert_eq!(node.answer(3, 9, ask_vote(at(9, 9))), []);
    assert_eq!((node.core.role(), node.core.term()), (Role::Leader, 1));
}

/// A node with a newer term (from an election that failed) is not heard by the others' followers; without a way out it
/// could neither follow nor win.
#[test]
fn a_node_stuck_at_a_newer_term_makes_the_leader_start_over() {
    let mut cluster = Cluster::of([
        (defaults(1, 3), Restored::default()),
        (defaults(2, 3), Restored::default()),
        (defaults(3, 3), stored(8, &[])),
    ]);
    cluster.isolate(3);
    assert!(cluster.campaign(1));
    cluster.propose(1, "set");
    cluster.heal();
    cluster.tick(60);
    let leader = cluster.leader().expect("a leader in a newer term");
    assert!(cluster.node(leader.0).core.term() > 8);
    cluster.propose(leader.0, "set");
    cluster.tick(2);
    let commits = cluster.commits();
    assert!(commits[0] >= 4 && commits.iter().all(|commit| *commit == commits[0]), "{commits:?}");
}

#[test]
fn a_transfer_makes_a_caught_up_peer_the_leader_at_once() {
    let mut cluster = default_cluster(3);
    assert!(cluster.campaign(1));
    cluster.node(1).step(Event::TransferLeadership { to: id(2) });
    cluster.settle();
    assert_eq!(cluster.leader(), Some(id(2)));
    assert_eq!(cluster.node(2).core.term(), 2);
    assert_eq!(cluster.node(1).core.role(), Role::Follower);
}

#[test]
fn a_transfer_waits_until_the_peer_has_the_whole_log() {
    let mut node = default_node(3);
    node.lead_steadily();
    node.propose(1, "set");
    node.persist();
    node.sent.clear();
    node.step(Event::TransferLeadership { to: id(2) });
    assert_eq!(node.take_sent(), []);
    node.receive(3, 1, accepted(2));
    assert!(!bodies(node.take_sent()).contains(&Body::TimeoutNow));
    node.receive(2, 1, accepted(2));
    let sent = node.take_sent();
    assert_eq!((sent[0].to, &sent[0].body), (id(2), &Body::TimeoutNow));
}

#[test]
fn commands_are_refused_during_a_transfer_and_taken_after_it_was_given_up() {
    let mut node = default_node(3);
    node.lead_steadily();
    node.propose(1, "behind");
    node.step(Event::TransferLeadership { to: id(2) });
    assert_eq!(node.core.status().transferring, Some(id(2)));
    node.propose(2, "set");
    assert_eq!(node.rejections, [(2, RejectReason::Transferring { to: id(2) })]);
    for _ in 0..10 {
        node.receive(3, 1, echo(0));
        node.tick(1);
    }
    assert_eq!(node.core.status().transferring, None);
    node.propose(3, "set");
    assert_eq!(node.appended.last().map(|(tag, ..)| *tag), Some(3));
}

#[test]
fn a_newer_transfer_replaces_an_older_one() {
    let mut node = default_node(3);
    node.lead_steadily();
    node.propose(1, "behind");
    node.step(Event::TransferLeadership { to: id(2) });
    node.step(Event::TransferLeadership { to: id(3) });
    assert_eq!(node.core.status().transferring, Some(id(3)));
}

#[test]
fn a_transfer_to_itself_or_a_stranger_is_ignored() {
    let mut node = default_node(3);
    node.lead_steadily();
    node.step(Event::TransferLeadership { to: id(1) });
    node.step(Event::TransferLeadership { to: id(9) });
    assert_eq!((node.core.status().transferring, node.take_sent()), (None, vec![]));
}

#[test]
fn a_follower_told_to_campaign_skips_pre_vote_and_the_lease() {
    let mut node = default_node(3);
    node.follow(2, 1);
    node.receive(2, 1, Body::TimeoutNow);
    assert_eq!((node.core.role(), node.core.term()), (Role::Candidate, 2));
    node.persist();
    let request = RequestVote { last: at(0, 0), pre_vote: false, leader_transfer: true };
    assert_eq!(bodies(node.take_sent()), vec![Body::RequestVote(request); 2]);
    // And its request is heard by somebody who hears the old leader.
    let mut other = default_node(3);
    other.follow(2, 1);
    other.receive(3, 2, Body::RequestVote(request));
    other.persist();
    assert_eq!(bodies(other.take_sent()), [vote(true)]);
}

#[test]
fn only_the_leader_may_tell_a_follower_to_campaign() {
    let mut node = default_node(3);
    node.follow(2, 1);
    node.receive(3, 1, Body::TimeoutNow);
    assert_eq!((node.core.role(), node.core.term()), (Role::Follower, 1));
    let mut leader = default_node(3);
    leader.lead_steadily();
    leader.receive(3, 1, Body::TimeoutNow);
    assert_eq!(leader.core.role(), Role::Leader);
}

#[test]
fn a_late_order_to_campaign_is_ignored() {
    let mut node = default_node(3);
    node.follow(2, 3);
    assert_eq!(node.answer(2, 2, Body::TimeoutNow), []);
    assert_eq!((node.core.role(), node.core.term()), (Role::Follower, 3));
}

#[test]
fn a_leader_does_not_campaign() {
    let mut node = default_node(3);
    node.lead_steadily();
    node.step(Event::Campaign);
    assert_eq!((node.core.role(), node.core.term()), (Role::Leader, 1));
}

#[test]
fn votes_that_come_late_or_from_strangers_change_nothing() {
    let mut node = default_node(3);
    node.lead_steadily();
    node.receive(2, 1, vote(true));
    node.receive(2, 1, vote(false));
    assert_eq!(node.core.role(), Role::Leader);
    let mut node = Node::fresh(3);
    node.step(Event::Campaign);
    node.persist();
    node.receive(9, 1, vote(true));
    node.receive(1, 1, vote(true));
    assert_eq!(node.core.role(), Role::Candidate);
}

#[test]
fn terms_no_honest_cluster_reaches_are_ignored() {
    let mut node = default_node(3);
    for body in
        [ask_vote(at(0, 0)), heartbeat(0, 0), append(at(0, 0), vec![], 0), vote(false), Body::TimeoutNow]
    {
        assert_eq!(node.answer(2, u64::MAX, body), []);
    }
    assert_eq!((node.core.term(), node.fatal), (0, None));
}

#[test]
fn every_change_of_role_term_or_leader_is_told_once() {
    let mut node = default_node(3);
    node.lead_steadily();
    node.tick(3);
    node.receive(2, 4, heartbeat(0, 0));
    node.receive(2, 4, append(at(0, 0), vec![entry(4, 1)], 0));
    assert_eq!(
        node.roles,
        [
            (Role::PreCandidate, 0, None),
            (Role::Candidate, 1, None),
            (Role::Leader, 1, Some(id(1))),
            (Role::Follower, 4, Some(id(2))),
        ]
    );
}

#[test]
fn a_member_that_is_not_in_the_snapshots_membership_does_not_campaign() {
    let mut meta = core_harness::snapshot(1, 5, 3);
    meta.conf.voters = vec![id(2), id(3)];
    let restored = Restored { snapshot: Some(meta), applied: 5, ..stored(1, &[]) };
    let mut node = Node::new(plain(1, 3), restored);
    node.tick(100);
    assert_eq!((node.core.role(), node.core.term()), (Role::Follower, 1));
    // It still answers those who lead it.
    node.receive(2, 1, append(at(1, 5), vec![entry(1, 6)], 5));
    node.persist();
    assert_eq!(bodies(node.take_sent()), [accepted(5), accepted(6)]);
}
