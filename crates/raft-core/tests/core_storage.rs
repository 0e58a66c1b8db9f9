//! What must be durable before it is said, and what a restart finds (paper Figure 2: "persistent state ... updated on
//! stable storage before responding to RPCs").

mod core_harness;

use core_harness::{
    Node, accepted, append, ask_vote, at, bodies, entry, heartbeat, id, log, plain, snapshot, stored, vote,
};
use raft_core::core::{Core, Event, HardState, Restored, Role, SnapshotMeta};

#[test]
fn a_vote_is_not_sent_before_it_is_durable() {
    let mut node = Node::fresh(3);
    assert_eq!(node.answer(2, 1, ask_vote(at(0, 0))), []);
    let stored = node.writes[0].hard_state.expect("the vote is written");
    assert_eq!((stored.term, stored.voted_for), (1, Some(id(2))));
    assert!(node.writes[0].must_sync);
    node.persist();
    assert_eq!(bodies(node.take_sent()), [vote(true)]);
}

#[test]
fn a_repeated_vote_request_does_not_get_around_the_disk() {
    let mut node = Node::fresh(3);
    assert_eq!(node.answer(2, 1, ask_vote(at(0, 0))), []);
    assert_eq!(node.answer(2, 1, ask_vote(at(0, 0))), []);
    node.persist();
    assert_eq!(bodies(node.take_sent()), [vote(true), vote(true)]);
    // Once durable it is answered at once.
    assert_eq!(bodies(node.answer(2, 1, ask_vote(at(0, 0)))), [vote(true)]);
}

#[test]
fn a_vote_of_a_term_that_is_over_is_not_sent() {
    let mut node = Node::fresh(3);
    node.receive(2, 1, ask_vote(at(0, 0)));
    node.receive(3, 2, ask_vote(at(0, 0)));
    node.persist();
    let sent = node.take_sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].to, sent[0].term), (id(3), 2));
}

#[test]
fn a_candidate_asks_for_votes_only_when_its_own_vote_is_durable() {
    let mut node = Node::fresh(3);
    node.step(Event::Campaign);
    assert_eq!((node.core.role(), node.sent.len()), (Role::Candidate, 0));
    node.persist();
    assert_eq!(node.sent.len(), 2);
}

#[test]
fn a_candidate_that_crashed_before_its_vote_was_durable_asked_nobody() {
    let mut node = Node::new(plain(1, 3), stored(3, &[1, 3]));
    node.step(Event::Campaign);
    // The crash loses the write: the next campaign is in the same term, but no vote of the first one can be around.
    assert_eq!(node.take_sent(), []);
    let mut node = Node::new(plain(1, 3), stored(3, &[1]));
    node.step(Event::Campaign);
    assert_eq!(node.core.term(), 4);
}

#[test]
fn a_cluster_of_one_leads_and_commits_only_with_its_disk() {
    let mut node = Node::fresh(1);
    node.step(Event::Campaign);
    assert_eq!(node.core.role(), Role::Candidate);
    node.persist_one();
    assert_eq!((node.core.role(), node.core.commit_index()), (Role::Leader, 0));
    node.persist_one();
    assert_eq!(node.core.commit_index(), 1);
    node.propose(1, "set");
    assert_eq!(node.core.commit_index(), 1);
    node.persist_one();
    assert_eq!(node.core.commit_index(), 2);
}

#[test]
fn an_acknowledgement_is_not_sent_before_the_entries_are_durable() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    assert_eq!(node.answer(2, 1, append(at(0, 0), log(&[1, 1]), 0)), []);
    node.persist();
    assert_eq!(bodies(node.take_sent()), [accepted(2)]);
}

#[test]
fn an_acknowledgement_covers_only_what_is_durable() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    node.receive(2, 1, append(at(0, 0), log(&[1, 1]), 0));
    node.receive(2, 1, append(at(1, 2), vec![entry(1, 3)], 0));
    node.persist_one();
    assert_eq!(bodies(node.take_sent()), [accepted(2)]);
    node.persist_one();
    assert_eq!(bodies(node.take_sent()), [accepted(3)]);
}

#[test]
fn an_acknowledgement_waits_for_the_term_even_if_the_entries_are_old() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1]));
    assert_eq!(node.answer(2, 2, append(at(1, 2), vec![], 0)), []);
    node.persist();
    assert_eq!(bodies(node.take_sent()), [accepted(2)]);
}

#[test]
fn appends_of_one_batch_share_a_write_and_an_acknowledgement() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    for index in 1..=3 {
        let body = append(at(u64::from(index > 1), index - 1), vec![entry(1, index)], 0);
        let message = raft_core::core::Message { from: id(2), to: id(1), term: 1, body };
        node.core.step(Event::Message(message));
    }
    node.flush();
    assert_eq!(node.writes.len(), 1);
    assert_eq!(node.writes[0].entries, log(&[1, 1, 1]));
    node.persist();
    assert_eq!(bodies(node.take_sent()), [accepted(3)]);
}

/// The ABA race: entries 2 and 3 are written, overwritten by the leader of term 2, and brought back by the leader of
/// term 3, all before the first write is reported. The report of the first write must not make them count: a crash after
/// it may still find the log of term 2.
#[test]
fn a_report_does_not_cover_entries_that_were_overwritten_and_came_back() {
    let mut node = Node::fresh(3);
    node.receive(2, 1, append(at(0, 0), log(&[1, 1, 1]), 0)); // tickets 1
    node.receive(3, 2, append(at(1, 1), vec![entry(2, 2)], 0)); // 2
    node.receive(2, 3, append(at(1, 1), vec![entry(1, 2), entry(1, 3)], 0)); // 3
    assert_eq!(node.terms(), [1, 1, 1]);
    assert_eq!(node.writes.len(), 3);
    node.persist_one();
    assert_eq!(node.core.status().persisted_index, 1);
    node.persist_one();
    assert_eq!(node.core.status().persisted_index, 1);
    assert_eq!(node.take_sent(), []);
    node.persist_one();
    let sent = node.take_sent();
    assert_eq!((sent[0].to, sent[0].term, &sent[0].body), (id(2), 3, &accepted(3)));
}

#[test]
fn an_acknowledgement_for_an_overwritten_suffix_is_never_sent() {
    let mut node = Node::fresh(3);
    node.follow(2, 1);
    node.receive(2, 1, append(at(0, 0), log(&[1, 1, 1]), 0));
    node.receive(3, 2, append(at(1, 1), vec![entry(2, 2)], 0));
    node.persist();
    let sent = node.take_sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].to, sent[0].term, &sent[0].body), (id(3), 2, &accepted(2)));
}

/// Thesis §10.2.1: the leader's disk is one of the voters.
#[test]
fn a_leader_counts_itself_only_when_its_own_write_is_done() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.propose(1, "set");
    node.receive(2, 1, accepted(2));
    assert_eq!(node.core.commit_index(), 1);
    node.persist();
    assert_eq!(node.core.commit_index(), 2);
}

#[test]
fn a_leader_commits_without_its_disk_but_applies_with_it() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.propose(1, "set");
    node.receive(2, 1, accepted(2));
    node.receive(3, 1, accepted(2));
    assert_eq!((node.core.commit_index(), node.applied.len()), (2, 1));
    node.persist();
    assert_eq!(node.applied.len(), 2);
}

#[test]
fn a_report_after_the_leadership_ended_commits_nothing() {
    let mut node = Node::fresh(3);
    node.lead();
    node.propose(1, "set");
    node.receive(3, 2, heartbeat(0, 0));
    node.persist();
    assert_eq!((node.core.role(), node.core.commit_index()), (Role::Follower, 0));
    assert_eq!(node.core.status().persisted_index, 2);
}

#[test]
fn the_commit_index_alone_is_written_once_a_tick_and_not_synced() {
    let mut node = Node::fresh(3);
    node.receive(2, 1, append(at(0, 0), log(&[1, 1, 1]), 0));
    node.persist();
    for commit in 1..=3 {
        node.receive(2, 1, heartbeat(commit, 0));
        assert!(node.writes.is_empty());
    }
    node.tick(1);
    assert_eq!(node.writes.len(), 1);
    let write = &node.writes[0];
    assert_eq!((write.hard_state.map(|state| state.commit_index), write.must_sync), (Some(3), false));
    node.persist();
    node.tick(1);
    assert!(node.writes.is_empty(), "nothing is new");
}

/// Simulation, seed 1887 of three nodes: the write that replaces entry 2 was torn after its hard state, and the stored
/// commit index then spoke of the old entry 2.
#[test]
fn the_stored_commit_index_never_speaks_of_entries_that_are_not_durable() {
    let mut node = Node::new(plain(1, 3), stored(1, &[1, 1]));
    node.receive(2, 2, append(at(1, 1), vec![entry(2, 2)], 2));
    assert_eq!(node.core.commit_index(), 2);
    let state = node.writes[0].hard_state.expect("a new term");
    assert_eq!(state.commit_index, 1);
    node.persist();
    node.tick(1);
    assert_eq!(node.writes[0].hard_state.map(|state| state.commit_index), Some(2));
}

#[test]
fn votes_do_not_wait_for_writes_that_are_not_synced() {
    let mut node = Node::fresh(3);
    node.receive(2, 1, append(at(0, 0), log(&[1]), 1));
    node.persist();
    node.tick(1);
    assert!(!node.writes[0].must_sync);
    // Nothing new is promised here: the log and the term are durable.
    assert_eq!(bodies(node.answer(2, 1, append(at(0, 0), log(&[1]), 1))), [accepted(1)]);
}

#[test]
fn a_report_that_comes_twice_is_ignored() {
    let mut node = Node::fresh(3);
    node.receive(2, 1, append(at(0, 0), log(&[1]), 0));
    node.persist();
    node.sent.clear();
    node.step(Event::Persisted { ticket: 1 });
    assert_eq!((node.sent.len(), node.fatal), (0, None));
}

#[test]
fn a_report_of_a_write_that_was_never_asked_for_is_fatal() {
    let mut node = Node::fresh(3);
    node.step(Event::Persisted { ticket: 9 });
    assert_eq!(node.fatal.as_deref(), Some("ticket 9 is reported, but only 0 was issued"));
    // Nothing happens any more.
    node.step(Event::Campaign);
    assert_eq!((node.core.role(), node.writes.len()), (Role::Follower, 0));
}

#[test]
fn more_applied_than_handed_out_is_fatal() {
    let mut node = Node::fresh(3);
    node.step(Event::Applied { index: 1 });
    assert_eq!(node.fatal.as_deref(), Some("1 is reported as applied, but only 0 was handed out"));
}

#[test]
fn a_restart_keeps_term_vote_and_log() {
    let mut restored = stored(3, &[1, 2, 3]);
    restored.hard_state = HardState { term: 3, voted_for: Some(id(3)), commit_index: 2 };
    let mut node = Node::new(plain(1, 3), restored);
    let status = node.core.status();
    assert_eq!((status.term, status.role, status.last), (3, Role::Follower, at(3, 3)));
    assert_eq!((status.commit_index, status.persisted_index), (2, 3));
    // The vote of the term is given.
    assert_eq!(bodies(node.answer(2, 3, ask_vote(at(3, 3)))), [vote(false)]);
    assert_eq!(bodies(node.answer(3, 3, ask_vote(at(3, 3)))), [vote(true)]);
    assert_eq!(node.applied, log(&[1, 2]));
}

#[test]
fn a_restart_applies_again_what_the_state_machine_does_not_have() {
    let mut restored = stored(1, &[1, 1, 1]);
    restored.hard_state.commit_index = 3;
    restored.applied = 1;
    let mut node = Node::new(plain(1, 3), restored);
    node.flush();
    assert_eq!(node.applied, log(&[1, 1, 1])[1..]);
}

#[test]
fn a_stored_commit_index_past_the_log_is_not_believed() {
    let mut restored = stored(1, &[1, 1]);
    restored.hard_state.commit_index = 9;
    assert_eq!(Node::new(plain(1, 3), restored).core.commit_index(), 2);
}

#[test]
fn a_snapshot_ahead_of_the_stored_term_raises_the_term_without_a_vote() {
    let restored = Restored {
        hard_state: HardState { term: 2, voted_for: Some(id(3)), commit_index: 1 },
        snapshot: Some(snapshot(4, 7, 3)),
        entries: vec![],
        applied: 7,
    };
    let mut node = Node::new(plain(1, 3), restored);
    let status = node.core.status();
    assert_eq!((status.term, status.voted_for, status.last), (4, None, at(4, 7)));
    assert_eq!((status.commit_index, status.applied_index), (7, 7));
    // The new term is written with the next write; nothing is promised before.
    assert_eq!(node.answer(2, 4, append(at(4, 7), vec![], 7)), []);
    node.persist();
    assert_eq!(bodies(node.take_sent()), [accepted(7)]);
}

#[test]
fn stored_state_that_contradicts_itself_is_refused_with_its_reason() {
    let refused =
        |restored: Restored| Core::new(plain(1, 3), restored).expect_err("a contradiction").to_string();
    let gap = Restored { entries: vec![entry(1, 1), entry(1, 3)], ..stored(1, &[]) };
    assert!(refused(gap).contains("does not follow"));
    let backwards = Restored { entries: vec![entry(2, 1), entry(1, 2)], ..stored(2, &[]) };
    assert!(refused(backwards).contains("does not follow"));
    assert!(refused(stored(1, &[1, 2])).contains("stored term 1 does not suit"));
    let ahead = Restored { applied: 5, ..stored(1, &[1]) };
    assert!(refused(ahead).contains("applied up to 5"));
    let snapshot = Some(SnapshotMeta { last: at(1, 4), ..snapshot(1, 4, 3) });
    let detached = Restored { snapshot, entries: vec![entry(1, 2)], ..stored(1, &[]) };
    assert!(refused(detached).contains("does not follow"));
}
