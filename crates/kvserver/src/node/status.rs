//! Where the node stands: `/status`, `/readyz`, and the node's part of `/metrics`.

use fiber_runtime::{Handle, Metrics, WorkerMetrics, time};
use raft_core::core::Role as RaftRole;
use raft_core::replica::ReplicaStatus;

use super::Node;
use crate::command::{NodeStatus, Role};
use crate::metrics::Text;
use crate::metrics::text::labels;

impl Node {
    pub(crate) fn status_now(&self) -> NodeStatus {
        let summary = self.store.summary();
        let mut status = NodeStatus {
            id: self.id.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: time::now().saturating_duration_since(self.started).as_millis() as u64,
            applied_index: summary.applied_index,
            revision: summary.revision,
            keys: summary.keys,
            live_bytes: summary.live_bytes,
            sessions: summary.sessions,
            state_hash: format!("{:016x}", summary.state_hash),
            members: self.members.clone(),
            ..NodeStatus::default()
        };
        if let Some(replica) = self.replica.get() {
            let raft = replica.status();
            status.role = match raft.role {
                RaftRole::Follower => Role::Follower,
                RaftRole::PreCandidate => Role::PreCandidate,
                RaftRole::Candidate => Role::Candidate,
                RaftRole::Leader => Role::Leader,
            };
            status.term = raft.term;
            status.leader_id = raft.leader.map(|leader| leader.0);
            status.commit_index = raft.commit_index;
            status.last_log_index = raft.last_log_index;
            status.snapshot_index = raft.snapshot_index;
            status.fsyncs = raft.fsyncs;
            status.wal_bytes = raft.wal_bytes;
        }
        status
    }

    /// Whether clients can be served: recovered, and a leader is known.
    pub(super) fn readiness(&self) -> Result<(), String> {
        if self.is_stopping() {
            return Err("node is stopping".to_owned());
        }
        let Some(replica) = self.replica.get() else {
            return Err("node is starting".to_owned());
        };
        match replica.status().leader {
            Some(_) => Ok(()),
            None => Err("no leader is known".to_owned()),
        }
    }

    pub(super) fn write_metrics(&self, out: &mut String) {
        self.metrics.encode(out);
        let status = self.status_now();
        let versions = self.store.summary().versions;
        let mut text = Text::new(out);
        let is_leader = u64::from(status.role == Role::Leader);
        text.gauge("kv_raft_is_leader", "1 if this node leads.", is_leader);
        let has_leader = u64::from(status.leader_id.is_some());
        text.gauge("kv_raft_has_leader", "1 if this node knows a leader.", has_leader);
        text.gauge("kv_raft_term", "Current term.", status.term);
        text.gauge("kv_raft_commit_index", "Highest index known to be committed.", status.commit_index);
        text.gauge("kv_raft_applied_index", "Highest applied index.", status.applied_index);
        text.gauge("kv_raft_last_log_index", "Index of the last entry of the log.", status.last_log_index);
        text.gauge("kv_raft_snapshot_index", "Last index of the newest snapshot.", status.snapshot_index);
        text.gauge("kv_keys", "Keys in the store.", status.keys);
        text.gauge("kv_live_bytes", "Bytes of keys and values in the store.", status.live_bytes);
        text.gauge("kv_versions", "Versions in memory, superseded ones included.", versions);
        text.gauge("kv_sessions", "Client sessions in the table.", status.sessions);
        if let Some(replica) = self.replica.get() {
            write_replica(&mut text, &replica.status());
        }
        if let Some(runtime) = Handle::try_current() {
            write_runtime(&mut text, &runtime.metrics());
        }
    }
}

fn write_replica(text: &mut Text<'_>, status: &ReplicaStatus) {
    let (raft, wal) = (&status.counters, &status.wal);
    text.counter("kv_raft_proposed_total", "Commands proposed here and appended.", raft.proposed);
    text.counter("kv_raft_proposals_total", "Batches of commands given to the core.", raft.proposals);
    text.counter("kv_raft_reads_total", "Reads confirmed here.", raft.reads);
    text.counter("kv_raft_messages_sent_total", "Messages sent to peers.", raft.sent);
    text.counter("kv_raft_messages_dropped_total", "Messages the transport did not take.", raft.dropped);
    text.counter("kv_raft_messages_received_total", "Messages received from peers.", raft.received);
    text.counter("kv_raft_messages_refused_total", "Messages refused because too many waited.", raft.refused);
    text.counter("kv_raft_role_changes_total", "Changes of role, term or leader.", raft.role_changes);
    text.counter("kv_raft_snapshots_saved_total", "Own snapshots saved.", raft.snapshots_saved);
    text.counter("kv_raft_snapshots_sent_total", "Snapshots sent to peers.", raft.snapshots_sent);
    text.counter("kv_raft_snapshots_installed_total", "Snapshots installed.", raft.snapshots_installed);
    text.gauge("kv_raft_pending_commands", "Commands that wait for their result.", status.pending_commands);
    text.gauge(
        "kv_raft_backlog_bytes",
        "As a leader: bytes appended and not yet done.",
        status.backlog_bytes,
    );
    text.gauge("kv_raft_waiting_reads", "As a leader: reads that wait.", status.waiting_reads);
    text.counter("kv_wal_fsyncs_total", "Syncs of the write-ahead log.", wal.syncs);
    text.counter("kv_wal_batches_total", "Batches written to the write-ahead log.", wal.batches);
    text.counter("kv_wal_entries_total", "Entries written to the write-ahead log.", wal.entries);
    text.counter("kv_wal_written_bytes_total", "Bytes written to the write-ahead log.", wal.bytes);
    text.gauge("kv_wal_segments", "Segments of the write-ahead log.", wal.segments);
    text.gauge("kv_wal_disk_bytes", "Size of the segments on disk.", wal.disk_bytes);
    if status.peers.is_empty() {
        return;
    }
    text.family("kv_raft_peer_match_index", "As a leader: how far a peer's log agrees.", "gauge");
    for peer in &status.peers {
        let peer_id = peer.id.to_string();
        text.sample("kv_raft_peer_match_index", &labels(&[("peer", &peer_id)]), peer.match_index);
    }
}

fn write_runtime(text: &mut Text<'_>, metrics: &Metrics) {
    let sum = |count: fn(&WorkerMetrics) -> u64| metrics.workers.iter().map(count).sum::<u64>();
    text.gauge("kv_fibers", "Fibers that have not ended.", metrics.alive());
    text.counter("kv_fiber_switches_total", "Times a worker resumed a fiber.", sum(|worker| worker.switches));
    text.counter(
        "kv_fiber_steals_total",
        "Fibers that began on another worker.",
        sum(|worker| worker.stolen),
    );
    text.counter(
        "kv_reactor_polls_total",
        "Times a worker asked the kernel for events.",
        sum(|worker| worker.polls),
    );
    text.counter(
        "kv_reactor_events_total",
        "Events the kernel had for workers.",
        sum(|worker| worker.events),
    );
    text.counter("kv_offloads_total", "Calls done by the blocking pool.", metrics.blocking_done);
}
