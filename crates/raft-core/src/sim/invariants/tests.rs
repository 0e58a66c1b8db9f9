//! Each property holds for a run of Raft and is broken by the run it forbids.

use bytes::Bytes;

use super::{Observation, World};
use crate::core::{Entry, EntryId, EntryKind, Index, NodeId, Role, Term};

fn entry(term: Term, index: Index, data: &'static str) -> Entry {
    Entry { id: EntryId { term, index }, kind: EntryKind::Command, data: Bytes::from_static(data.as_bytes()) }
}

/// Three nodes without a log.
fn world() -> World {
    let mut world = World::new();
    for node in 1..=3 {
        let nothing = Observation::Started { term: 0, snapshot: EntryId::default(), entries: &[] };
        world.observe(NodeId(node), &nothing);
    }
    world
}

trait Story {
    fn leads(&mut self, node: u64, term: Term);
    fn appends(&mut self, node: u64, entries: &[Entry]);
    fn commits(&mut self, node: u64, entry: &Entry);
    fn property(&self) -> Option<&str>;
}

impl Story for World {
    fn leads(&mut self, node: u64, term: Term) {
        self.observe(NodeId(node), &Observation::RoleChanged { role: Role::Leader, term });
    }

    fn appends(&mut self, node: u64, entries: &[Entry]) {
        self.observe(NodeId(node), &Observation::Appended { entries });
    }

    fn commits(&mut self, node: u64, entry: &Entry) {
        self.observe(NodeId(node), &Observation::Committed { entry });
    }

    fn property(&self) -> Option<&str> {
        self.violation().map(|violation| violation.property.as_str())
    }
}

#[test]
fn ordinary_run_breaks_nothing() {
    let mut world = world();
    world.leads(1, 1);
    let log = [entry(1, 1, "a"), entry(1, 2, "b")];
    world.appends(1, &log);
    world.appends(2, &log);
    world.commits(1, &log[0]);
    world.commits(2, &log[0]);
    world.leads(2, 2);
    world.appends(2, &[entry(2, 3, "c")]);
    world.commits(2, &log[1]);
    // Node 1 follows now: what only it had may go.
    world.observe(NodeId(1), &Observation::RoleChanged { role: Role::Follower, term: 2 });
    world.appends(1, &[entry(2, 3, "c")]);
    assert_eq!(world.violation(), None);
    assert_eq!(world.last_committed(), 2);
}

#[test]
fn two_leaders_of_one_term_break_election_safety() {
    let mut world = world();
    world.leads(1, 1);
    world.leads(1, 1);
    assert_eq!(world.property(), None);
    world.leads(2, 1);
    assert_eq!(world.property(), Some("Election Safety"));
}

#[test]
fn leader_that_overwrites_breaks_leader_append_only() {
    let mut world = world();
    world.leads(1, 1);
    world.appends(1, &[entry(1, 1, "a")]);
    world.appends(1, &[entry(1, 1, "a")]);
    assert_eq!(world.property(), Some("Leader Append-Only"));
}

#[test]
fn different_payloads_at_one_position_break_log_matching() {
    let mut world = world();
    world.appends(1, &[entry(1, 1, "a")]);
    world.appends(2, &[entry(1, 1, "b")]);
    assert_eq!(world.property(), Some("Log Matching"));
}

#[test]
fn different_predecessors_of_one_entry_break_log_matching() {
    let mut world = world();
    world.appends(1, &[entry(1, 1, "a"), entry(3, 2, "c")]);
    world.appends(2, &[entry(2, 1, "b"), entry(3, 2, "c")]);
    assert_eq!(world.property(), Some("Log Matching"));
}

#[test]
fn leader_without_a_committed_entry_breaks_leader_completeness() {
    let mut world = world();
    world.leads(1, 1);
    world.appends(1, &[entry(1, 1, "a")]);
    world.commits(1, &entry(1, 1, "a"));
    world.leads(2, 2);
    assert_eq!(world.property(), Some("Leader Completeness"));
}

#[test]
fn commit_that_a_later_leader_lacks_breaks_leader_completeness() {
    let mut world = world();
    world.leads(1, 1);
    world.appends(1, &[entry(1, 1, "a")]);
    world.leads(2, 2);
    assert_eq!(world.property(), None);
    world.commits(1, &entry(1, 1, "a"));
    assert_eq!(world.property(), Some("Leader Completeness"));
}

#[test]
fn different_entries_applied_at_one_index_break_state_machine_safety() {
    let mut world = world();
    world.commits(1, &entry(1, 1, "a"));
    world.commits(2, &entry(1, 1, "b"));
    assert_eq!(world.property(), Some("State Machine Safety"));
}

#[test]
fn skipped_index_breaks_state_machine_safety() {
    let mut world = world();
    world.commits(1, &entry(1, 1, "a"));
    world.commits(2, &entry(1, 2, "b"));
    assert_eq!(world.property(), Some("State Machine Safety"));
}

#[test]
fn snapshot_of_something_else_breaks_state_machine_safety() {
    let mut world = world();
    world.commits(1, &entry(1, 1, "a"));
    let last = EntryId { term: 2, index: 1 };
    world.observe(NodeId(2), &Observation::Installed { last });
    assert_eq!(world.property(), Some("State Machine Safety"));
}

#[test]
fn restarted_node_applies_again_from_its_snapshot() {
    let mut world = world();
    let log = [entry(1, 1, "a"), entry(1, 2, "b")];
    world.appends(1, &log);
    world.commits(1, &log[0]);
    world.commits(1, &log[1]);
    world.observe(NodeId(1), &Observation::Crashed);
    let snapshot = log[0].id;
    world.observe(NodeId(1), &Observation::Started { term: 1, snapshot, entries: &log[1..] });
    world.commits(1, &log[1]);
    assert_eq!(world.violation(), None);
}
