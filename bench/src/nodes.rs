//! What the nodes of a cluster say about themselves, read from their `/status` before and after a run.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kvserver::command::NodeStatus;
use serde::Serialize;

/// Time for one node to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads a node's `/status`.
///
/// # Errors
/// The node cannot be reached, or answers something else.
pub fn status(http: SocketAddr) -> io::Result<NodeStatus> {
    let mut stream = TcpStream::connect_timeout(&http, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /status HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(1 << 20).read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .filter(|(head, _)| head.starts_with("HTTP/1.1 200"))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{http} sent no status")))?;
    serde_json::from_str(body).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{http} sent no status: {error}, {head}"))
    })
}

/// All nodes at one moment; those that did not answer are missing.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    nodes: Vec<NodeStatus>,
}

impl Sample {
    /// Asks every node.
    pub fn take(http: &[SocketAddr]) -> Sample {
        Sample { nodes: http.iter().filter_map(|address| status(*address).ok()).collect() }
    }

    /// How many nodes answered.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none did.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What the nodes that are in both samples, and were not restarted between them, did meanwhile.
    pub fn work_until(&self, later: &Sample) -> Work {
        let mut work = Work::default();
        for before in &self.nodes {
            let after = later.nodes.iter().find(|after| after.id == before.id && after.pid == before.pid);
            let Some(after) = after else {
                work.restarted += 1;
                continue;
            };
            work.nodes += 1;
            work.fsyncs += after.fsyncs.saturating_sub(before.fsyncs);
            work.wal_bytes += after.wal_bytes.saturating_sub(before.wal_bytes);
            work.elections = work.elections.max(after.term.saturating_sub(before.term));
        }
        work
    }
}

/// What nodes did during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Nodes that are counted.
    pub nodes: usize,
    /// Nodes that were restarted or did not answer, and are not counted.
    pub restarted: usize,
    /// Syncs of the write-ahead logs, of all nodes together.
    pub fsyncs: u64,
    /// Bytes written to the write-ahead logs, of all nodes together.
    pub wal_bytes: u64,
    /// By how much the term grew.
    pub elections: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, pid: u32, fsyncs: u64) -> NodeStatus {
        NodeStatus { id, pid, fsyncs, wal_bytes: fsyncs * 10, term: fsyncs, ..NodeStatus::default() }
    }

    #[test]
    fn restarted_nodes_are_not_counted() {
        let before = Sample { nodes: vec![node(0, 10, 5), node(1, 11, 5), node(2, 12, 5)] };
        let after = Sample { nodes: vec![node(0, 10, 7), node(1, 99, 1)] };
        let work = before.work_until(&after);
        assert_eq!(work, Work { nodes: 1, restarted: 2, fsyncs: 2, wal_bytes: 20, elections: 2 });
    }
}
