//! Where the node stands: `/status`, `/readyz`, and the node's part of `/metrics`.

use fiber_runtime::time;
use raft_core::core::Role as RaftRole;

use super::Node;
use crate::command::{NodeStatus, Role};
use crate::metrics::Text;

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
        let versions = self.store.summary().versions;
        let status = self.status_now();
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
        text.counter("kv_wal_fsyncs_total", "Syncs of the write-ahead log.", status.fsyncs);
        text.counter("kv_wal_written_bytes_total", "Bytes written to the write-ahead log.", status.wal_bytes);
        text.gauge("kv_keys", "Keys in the store.", status.keys);
        text.gauge("kv_live_bytes", "Bytes of keys and values in the store.", status.live_bytes);
        text.gauge("kv_versions", "Versions in memory, superseded ones included.", versions);
        text.gauge("kv_sessions", "Client sessions in the table.", status.sessions);
    }
}
