//! The extended Raft paper, sentence by sentence: each test quotes what it shows and names the section.

mod core_harness;

use core_harness::{
    Cluster, Node, accepted, append, ask_vote, at, bodies, entry, heartbeat, id, log, plain, rejected,
    stored, vote,
};
use raft_core::core::{Body, EntryKind, Event, NodeId, Restored, Role};

/// Puts a fresh node of a cluster of three into this role, in term 1.
fn in_role(role: Role) -> Node {
    let mut node = Node::fresh(3);
    match role {
        Role::Follower => node.follow(2, 1),
        Role::PreCandidate | Role::Candidate => {
            node.step(Event::Campaign);
            node.persist();
        }
        Role::Leader => node.lead(),
    }
    node.sent.clear();
    node
}

/// "If one server's current term is smaller than the other's, then it updates its current term to the larger value. If a
/// candidate or leader discovers that its term is out of date, it immediately reverts to follower state." (§5.1)
#[test]
fn every_role_takes_over_a_larger_term_and_follows() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut node = in_role(role);
        node.receive(2, 7, append(at(0, 0), vec![], 0));
        assert_eq!((node.core.term(), node.core.role()), (7, Role::Follower), "{role:?}");
        assert_eq!(node.core.leader(), Some(id(2)));
    }
}

/// The same sentence for an answer instead of a request (§5.1).
#[test]
fn every_role_takes_over_a_larger_term_from_an_answer() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut node = in_role(role);
        node.receive(2, 7, vote(false));
        assert_eq!((node.core.term(), node.core.role()), (7, Role::Follower), "{role:?}");
        assert_eq!(node.core.leader(), None);
    }
}

/// "If a server receives a request with a stale term number, it rejects the request." (§5.1)
#[test]
fn requests_of_a_stale_term_are_rejected_with_the_newer_term() {
    let mut node = Node::new(plain(1, 3), stored(5, &[1, 5]));
    for (request, expected) in
        [(append(at(1, 1), vec![entry(2, 2)], 2), rejected(1, at(0, 0))), (ask_vote(at(9, 9)), vote(false))]
    {
        let answers = node.answer(2, 4, request);
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].term, &answers[0].body), (5, &expected));
    }
    assert_eq!(node.terms(), [1, 5]);
    assert_eq!(node.core.commit_index(), 0);
}

/// "When servers start up, they begin as followers." (§5.2)
#[test]
fn servers_start_as_followers() {
    let node = Node::fresh(3);
    assert_eq!(node.core.role(), Role::Follower);
    assert_eq!(node.core.leader(), None);
}

/// "Leaders send periodic heartbeats to all followers in order to maintain their authority." (§5.2)
#[test]
fn a_leader_sends_heartbeats_to_everybody_at_every_interval() {
    let mut config = plain(1, 3);
    config.heartbeat_ticks = 2;
    let mut node = Node::new(config, Restored::default());
    node.lead_steadily();
    // The first one after the commit comes early, to tell of it.
    node.tick(2);
    node.sent.clear();
    for _ in 0..3 {
        node.tick(1);
        assert_eq!(bodies(node.take_sent()), []);
        node.tick(1);
        let receivers: Vec<NodeId> = node.sent.iter().map(|message| message.to).collect();
        assert_eq!(receivers, [id(2), id(3)]);
        assert_eq!(bodies(node.take_sent()), [heartbeat(1, 0), heartbeat(1, 0)]);
    }
}

/// "If a follower receives no communication over a period of time called the election timeout, then it assumes there is
/// no viable leader and begins an election to choose a new leader." (§5.2)
#[test]
fn a_follower_that_hears_nothing_starts_an_election() {
    starts_election_in(Role::Follower);
}

/// "The third possible outcome is that a candidate neither wins nor loses the election ... each candidate will time out and
/// start a new election by incrementing its term and initiating another round of RequestVote RPCs." (§5.2)
#[test]
fn a_candidate_that_neither_wins_nor_loses_starts_over() {
    starts_election_in(Role::Candidate);
}

/// "To begin an election, a follower increments its current term and transitions to candidate state. It then votes for
/// itself and issues RequestVote RPCs in parallel to each of the other servers in the cluster." (§5.2)
fn starts_election_in(role: Role) {
    let mut node = in_role(role);
    let term = node.core.term();
    node.tick(20);
    assert!(node.core.term() > term);
    assert_eq!(node.core.role(), Role::Candidate);
    assert_eq!(node.core.status().voted_for, Some(id(1)));
    node.persist();
    // One timeout may have followed another; the newest election counts.
    let term = node.core.term();
    let asked: Vec<_> = node.take_sent().into_iter().filter(|message| message.term == term).collect();
    assert_eq!(asked.iter().map(|message| message.to).collect::<Vec<_>>(), [id(2), id(3)]);
    assert_eq!(bodies(asked), [ask_vote(at(0, 0)), ask_vote(at(0, 0))]);
}

/// "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the same
/// term." (§5.2)
#[test]
fn a_candidate_wins_with_a_majority_of_the_full_cluster() {
    for (size, granted, refused, expected) in [
        (1, 0, 0, Role::Leader),
        (3, 2, 0, Role::Leader),
        (3, 1, 1, Role::Leader),
        (3, 1, 0, Role::Leader),
        (5, 4, 0, Role::Leader),
        (5, 3, 1, Role::Leader),
        (5, 2, 2, Role::Leader),
        (5, 1, 1, Role::Candidate),
        (5, 1, 0, Role::Candidate),
        (3, 0, 0, Role::Candidate),
        (5, 0, 0, Role::Candidate),
        (3, 0, 2, Role::Follower),
        (5, 1, 3, Role::Follower),
        (5, 0, 3, Role::Follower),
    ] {
        let mut node = Node::fresh(size);
        node.step(Event::Campaign);
        node.persist();
        for peer in 2..2 + granted {
            node.receive(peer, 1, vote(true));
        }
        for peer in 2 + granted..2 + granted + refused {
            node.receive(peer, 1, vote(false));
        }
        assert_eq!(node.core.role(), expected, "{granted} of {size} granted, {refused} refused");
        assert_eq!(node.core.term(), 1);
    }
}

/// A vote that is doubled on the way is one vote (§5.2).
#[test]
fn a_doubled_vote_counts_once() {
    let mut node = Node::fresh(5);
    node.step(Event::Campaign);
    node.persist();
    node.receive(2, 1, vote(true));
    node.receive(2, 1, vote(true));
    assert_eq!(node.core.role(), Role::Candidate);
}

/// "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis." (§5.2)
#[test]
fn a_follower_votes_for_one_candidate_a_term() {
    for (voted_for, asks, granted) in [
        (None, 2, true),
        (None, 3, true),
        (Some(2), 2, true),
        (Some(3), 3, true),
        (Some(2), 3, false),
        (Some(3), 2, false),
    ] {
        let mut restored = Restored::default();
        restored.hard_state.term = 1;
        restored.hard_state.voted_for = voted_for.map(NodeId);
        let mut node = Node::new(plain(1, 3), restored);
        node.receive(asks, 1, ask_vote(at(0, 0)));
        node.persist();
        assert_eq!(bodies(node.take_sent()), [vote(granted)], "voted for {voted_for:?}, {asks} asks");
    }
}

/// "While waiting for votes, a candidate may receive an AppendEntries RPC from another server claiming to be leader. If
/// the leader's term is at least as large as the candidate's current term, then the candidate recognizes the leader as
/// legitimate and returns to follower state." (§5.2)
#[test]
fn a_candidate_returns_to_follower_when_a_leader_of_its_term_or_later_speaks() {
    for term in [1, 2] {
        let mut node = in_role(Role::Candidate);
        node.receive(2, term, append(at(0, 0), vec![], 0));
        assert_eq!((node.core.role(), node.core.term()), (Role::Follower, term));
        assert_eq!(node.core.leader(), Some(id(2)));
    }
}

/// "Raft uses randomized election timeouts ... chosen randomly from a fixed interval" (§5.2): every tick of `[10, 20)`
/// comes up, and none outside.
#[test]
fn election_timeouts_are_spread_over_the_whole_interval() {
    let mut node = Node::fresh(3);
    let mut seen = [0; 20];
    for _ in 0..500 {
        let term = node.core.term();
        let mut ticks = 0;
        while node.core.term() == term {
            node.tick(1);
            ticks += 1;
        }
        seen[ticks] += 1;
    }
    assert!(seen[..10].iter().all(|count| *count == 0), "{seen:?}");
    assert!(seen[10..].iter().all(|count| *count > 0), "{seen:?}");
}

/// "... so in most cases only a single server will time out" (§5.2): with five servers, the first is alone in at least
/// half of the cases.
#[test]
fn mostly_a_single_server_times_out_first() {
    let mut conflicts = 0;
    for round in 0..500 {
        let mut nodes: Vec<Node> = (1..=5)
            .map(|n| {
                let mut config = plain(n, 5);
                config.seed = round * 5 + n;
                Node::new(config, Restored::default())
            })
            .collect();
        let mut first = 0;
        while first == 0 {
            nodes.iter_mut().for_each(|node| node.tick(1));
            first = nodes.iter().filter(|node| node.core.role() == Role::Candidate).count();
        }
        conflicts += usize::from(first > 1);
    }
    assert!(conflicts < 250, "{conflicts} conflicts in 500 rounds");
}

/// "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of the
/// other servers to replicate the entry." (§5.3) "The leader includes the index and term of the entry in its log that
/// immediately precedes the new entries."
#[test]
fn a_leader_appends_a_command_and_sends_it_to_everybody() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.propose(7, "set");
    assert_eq!(node.appended, [(7, at(1, 2), 1)]);
    assert_eq!(node.core.last(), at(1, 2));
    assert_eq!(node.core.commit_index(), 1);
    for (peer, append) in node.appends() {
        assert!(peer == 2 || peer == 3);
        assert_eq!(append.prev, at(1, 1));
        assert_eq!(append.entries.len(), 1);
        assert_eq!((append.entries[0].id, &append.entries[0].data[..]), (at(1, 2), &b"set"[..]));
    }
    assert_eq!(node.appends().len(), 2);
}

/// "When the entry has been safely replicated, the leader applies the entry to its state machine ... it includes that index
/// in future AppendEntries RPCs (including heartbeats) so that the other servers eventually find out." (§5.3)
#[test]
fn a_leader_applies_a_replicated_entry_and_tells_the_followers() {
    let mut node = Node::fresh(3);
    node.lead_steadily();
    node.propose(7, "set");
    node.persist();
    node.receive(2, 1, accepted(2));
    assert_eq!(node.core.commit_index(), 2);
    assert_eq!(node.applied.last().map(|entry| entry.id), Some(at(1, 2)));
    node.sent.clear();
    node.tick(1);
    // Not past what a follower is known to have.
    assert_eq!(bodies(node.take_sent()), [heartbeat(2, 0), heartbeat(1, 0)]);
}

/// "A log entry is committed once the leader that created the entry has replicated it on a majority of the servers."
/// (§5.3)
#[test]
fn an_entry_is_committed_once_a_majority_holds_it() {
    for (size, acknowledging, committed) in [
        (1, 0, true),
        (3, 0, false),
        (3, 1, true),
        (3, 2, true),
        (5, 0, false),
        (5, 1, false),
        (5, 2, true),
        (5, 3, true),
        (5, 4, true),
    ] {
        let mut node = Node::fresh(size);
        node.lead_steadily();
        node.propose(7, "set");
        node.persist();
        for peer in 2..2 + acknowledging {
            node.receive(peer, 1, accepted(2));
        }
        assert_eq!(node.core.commit_index() == 2, committed, "{acknowledging} of {size} acknowledge");
    }
}

/// "This also commits all preceding entries in the leader's log, including entries created by previous leaders." (§5.3)
#[test]
fn committing_an_entry_commits_everything_before_it() {
    for terms in [&[][..], &[2], &[1, 2], &[1]] {
        let mut node = Node::new(plain(1, 3), stored(2, terms));
        node.lead();
        node.propose(7, "set");
        node.persist();
        let last = terms.len() as u64 + 2;
        node.receive(2, 3, accepted(last));
        node.apply();
        node.flush();
        let applied: Vec<_> = node.applied.iter().map(|entry| entry.id).collect();
        let before = log(terms);
        let mut expected: Vec<_> = before.iter().map(|entry| entry.id).collect();
        expected.extend([at(3, last - 1), at(3, last)]);
        assert_eq!(applied, expected);
        assert_eq!(node.applied[terms.len()].kind, EntryKind::Noop);
    }
}

/// "Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in log order)."
/// (§5.3)
#[test]
fn a_follower_applies_committed_entries_in_log_order() {
    for commit in 1..=3 {
        let mut node = Node::fresh(3);
        node.receive(2, 1, append(at(0, 0), log(&[1, 1, 1]), commit));
        node.persist();
        assert_eq!(node.applied, log(&[1, 1, 1])[..commit as usize]);
        assert_eq!(node.core.commit_index(), commit);
    }
}

/// "If the follower does not find an entry in its log with the same index and term, then it refuses the new entries."
/// (§5.3)
#[test]
fn a_follower_refuses_entries_whose_predecessor_it_lacks() {
    // The follower has 1@1 and 2@2, and knows that 1 is committed.
    for (prev, answer) in [
        (at(0, 0), accepted(1)),
        (at(1, 1), accepted(1)),
        (at(2, 2), accepted(2)),
        (at(1, 2), rejected(2, at(1, 1))),
        (at(3, 3), rejected(3, at(2, 2))),
    ] {
        let mut restored = stored(2, &[1, 2]);
        restored.hard_state.commit_index = 1;
        let mut node = Node::new(plain(1, 3), restored);
        node.follow(2, 3);
        let answers = node.answer(2, 3, append(prev, vec![], 0));
        assert_eq!(bodies(answers), [answer], "append after {prev:?}");
    }
}

/// "If an existing entry conflicts with a new one (same index but different terms), delete the existing entry and all that
/// follow it. Append any new entries not already in the log." (Figure 2, AppendEntries receiver 3 and 4)
#[test]
fn a_follower_replaces_conflicting_entries_and_only_those() {
    for (prev, entries, kept, written) in [
        (at(2, 2), vec![entry(3, 3)], vec![1, 2, 3], 3..=3),
        (at(1, 1), vec![entry(3, 2), entry(4, 3)], vec![1, 3, 4], 2..=3),
        (at(0, 0), vec![entry(1, 1)], vec![1, 2], 0..=0),
        (at(0, 0), vec![entry(3, 1)], vec![3], 1..=1),
    ] {
        let mut node = Node::new(plain(1, 3), stored(2, &[1, 2]));
        node.follow(2, 4);
        node.receive(2, 4, append(prev, entries, 0));
        assert_eq!(node.terms(), kept);
        let indices: Vec<u64> =
            node.writes.iter().flat_map(|write| &write.entries).map(|entry| entry.id.index).collect();
        let expected: Vec<u64> = written.filter(|index| *index > 0).collect();
        assert_eq!(indices, expected, "entries after {prev:?} that reach the disk");
    }
}

/// "To bring a follower's log into consistency with its own, the leader must find the latest log entry where the two logs
/// agree, delete any entries in the follower's log after that point, and send the follower all of the leader's entries
/// after that point." (§5.3, Figure 7)
#[test]
fn a_leader_brings_every_follower_of_figure_7_into_line() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        // Node 3 has nothing and only votes.
        let mut cluster = Cluster::of([
            (plain(1, 3), stored(8, &leader)),
            (plain(2, 3), stored(7, follower)),
            (plain(3, 3), stored(7, &[])),
        ]);
        assert!(cluster.campaign(1), "the leader's log is newer than {follower:?} or node 3's");
        cluster.tick(2);
        let expected: Vec<u64> = leader.iter().copied().chain([9]).collect();
        assert_eq!(cluster.terms(), [expected.clone(), expected.clone(), expected]);
        assert_eq!(cluster.commits(), [11, 11, 11]);
    }
}

/// "The RPC includes information about the candidate's log" (§5.4.1).
#[test]
fn a_vote_request_tells_the_candidates_last_entry() {
    for terms in [&[][..], &[2], &[1, 2, 2]] {
        let mut node = Node::new(plain(1, 3), stored(2, terms));
        node.step(Event::Campaign);
        node.persist();
        let last = log(terms).last().map_or(at(0, 0), |entry| entry.id);
        assert_eq!(bodies(node.take_sent()), [ask_vote(last), ask_vote(last)]);
    }
}

/// "The voter denies its vote if its own log is more up-to-date than that of the candidate. ... If the logs have last
/// entries with different terms, then the log with the later term is more up-to-date. If the logs end with the same term,
/// then whichever log is longer is more up-to-date." (§5.4.1)
#[test]
fn a_voter_denies_its_vote_to_a_log_behind_its_own() {
    for (own, candidate, granted) in [
        (&[1][..], at(1, 1), true),
        (&[1], at(1, 2), true),
        (&[1, 1], at(1, 1), false),
        (&[1], at(2, 1), true),
        (&[1], at(2, 2), true),
        (&[1, 1], at(2, 1), true),
        (&[2], at(1, 1), false),
        (&[2], at(1, 2), false),
        (&[2, 2], at(1, 1), false),
        (&[], at(0, 0), true),
    ] {
        let mut node = Node::new(plain(1, 3), stored(2, own));
        node.receive(2, 3, ask_vote(candidate));
        node.persist();
        assert_eq!(bodies(node.take_sent()), [vote(granted)], "log {own:?}, candidate's {candidate:?}");
    }
}

/// "Only log entries from the leader's current term are committed by counting replicas." (§5.4.2, Figure 8)
#[test]
fn a_leader_commits_by_counting_only_entries_of_its_own_term() {
    for (acknowledged, committed) in [(1, 0), (2, 0), (3, 3)] {
        let mut node = Node::new(plain(1, 3), stored(2, &[1, 2]));
        node.lead();
        node.receive(2, 3, accepted(acknowledged));
        assert_eq!(node.core.commit_index(), committed, "a majority holds {acknowledged} entries");
    }
}

/// "Followers ... redirect" clients: a server that does not lead refuses a command, and says who leads (§8).
#[test]
fn a_server_that_does_not_lead_refuses_commands_and_names_the_leader() {
    let mut node = Node::fresh(3);
    node.follow(3, 1);
    node.propose(7, "set");
    let reason = raft_core::core::RejectReason::NotLeader { leader: Some(id(3)) };
    assert_eq!(node.rejections, [(7, reason)]);
    assert_eq!(node.core.last(), at(0, 0));
}

/// "Raft handles this by having each leader commit a blank no-op entry into the log at the start of its term." (§8)
#[test]
fn a_leader_starts_its_term_with_an_empty_entry() {
    let mut node = Node::fresh(3);
    node.lead();
    let sent: Vec<_> = node.appends().into_iter().flat_map(|(_, append)| append.entries).collect();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|entry| entry.kind == EntryKind::Noop && entry.data.is_empty()));
}

/// "If election timeout elapses without receiving AppendEntries RPC from current leader or granting vote to candidate:
/// convert to candidate" (Figure 2, followers): both start the wait anew, a refused vote does not.
#[test]
fn only_a_leaders_word_or_a_granted_vote_restarts_the_election_timeout() {
    let outcome = |body: Body, term: u64| {
        let mut node = Node::new(plain(1, 3), stored(1, &[1]));
        node.tick(9);
        node.receive(2, term, body);
        node.persist();
        let before = node.core.term();
        node.tick(9);
        node.core.term() == before
    };
    // Whatever was drawn, nine more ticks after a restart of the wait are not enough.
    assert!(outcome(heartbeat(0, 0), 1));
    assert!(outcome(append(at(1, 1), vec![], 0), 1));
    assert!(outcome(ask_vote(at(1, 1)), 2));
    // The wait that was not restarted ends within 19 ticks, for at least this seed within 18.
    assert!(!outcome(ask_vote(at(0, 0)), 2));
}
