//! Nodes of one cluster as fibers of one process: real sockets, real files.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fiber_runtime::{Runtime, time};
use raft_core::core::NodeId;
use tempfile::TempDir;

use super::process::{NodeError, Running, start};
use crate::clerk::{Clerk, ClerkConfig};
use crate::command::{
    Backend, KvError, NodeStatus, Outcome, Read, ReadOutcome, Refusal, Request, Response, Role, Write,
};
use crate::config::Config;

const PATIENCE: Duration = Duration::from_secs(20);

/// Nodes that were started, some of which may have been stopped since.
struct Cluster {
    config: Config,
    nodes: Vec<Option<Running>>,
    _data: TempDir,
}

impl Cluster {
    fn start(count: usize, settings: &[(&str, &str)]) -> Cluster {
        let data = tempfile::tempdir().unwrap();
        let free: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut text = format!("data={}\n", data.path().display());
        for (id, listener) in free.iter().enumerate() {
            let port = listener.local_addr().unwrap().port();
            text += &format!("node{id}ip=127.0.0.1\nnode{id}port={port}\n");
        }
        for (key, value) in settings {
            text += &format!("{key}={value}\n");
        }
        drop(free);
        let (config, _) = Config::parse("test.conf".as_ref(), &text, [], []).unwrap();
        let nodes = (0..count).map(|id| Some(start(config.clone(), NodeId(id as u64)).unwrap())).collect();
        Cluster { config, nodes, _data: data }
    }

    fn node(&self, id: usize) -> &Arc<super::Node> {
        self.nodes[id].as_ref().expect("the node runs").node()
    }

    fn running(&self) -> impl Iterator<Item = &Arc<super::Node>> {
        self.nodes.iter().flatten().map(Running::node)
    }

    fn stop(&mut self, id: usize) {
        self.nodes[id].take().expect("the node runs").stop(Duration::from_secs(2));
    }

    fn restart(&mut self, id: usize) {
        self.nodes[id] = Some(start(self.config.clone(), NodeId(id as u64)).unwrap());
    }

    fn leader(&self) -> usize {
        let node = wait("a leader", || {
            self.running().map(|node| node.status()).find(|status| status.role == Role::Leader)
        });
        node.id as usize
    }

    fn follower(&self) -> usize {
        let leader = self.leader();
        self.running().map(|node| node.status().id as usize).find(|id| *id != leader).expect("a follower")
    }

    /// Waits until all running nodes have applied the same entries, and compares their states.
    fn assert_equal_states(&self) {
        let states = wait("equal applied indices", || {
            let states: Vec<NodeStatus> = self.running().map(|node| node.status()).collect();
            let equal = |status: &NodeStatus| {
                status.applied_index == states[0].applied_index
                    && status.applied_index == status.last_log_index
            };
            states.iter().all(equal).then_some(states)
        });
        for state in &states {
            assert_eq!(state.state_hash, states[0].state_hash, "{states:#?}");
        }
    }

    fn endpoints(&self) -> Vec<SocketAddr> {
        self.config.nodes.values().map(|node| node.rpc).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.drain(..).flatten() {
            node.stop(Duration::ZERO);
        }
    }
}

/// Looks again and again until there is something.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        time::sleep(Duration::from_millis(5));
    }
}

fn in_runtime(test: impl FnOnce() + Send + 'static) {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.block_on(test);
    runtime.stop(Duration::from_secs(5));
}

fn put(key: &str, value: &str) -> Request {
    let write = Write::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    Request::Write(write.into())
}

fn append(key: &'static str, value: &'static str) -> Request {
    Request::Write(Write::Append { key: Bytes::from(key), value: Bytes::from(value) }.into())
}

fn get(key: &str) -> Request {
    Request::Read(Read::Get { key: Bytes::copy_from_slice(key.as_bytes()) })
}

fn value(text: &str) -> Result<Response, KvError> {
    Ok(Response::Read(ReadOutcome::Value(Some(Bytes::copy_from_slice(text.as_bytes())))))
}

#[track_caller]
fn execute(node: &super::Node, batch: Vec<Request>) -> Vec<Result<Response, KvError>> {
    node.execute(batch, time::now() + PATIENCE)
}

#[track_caller]
fn execute_one(node: &super::Node, request: Request) -> Result<Response, KvError> {
    let mut answers = execute(node, vec![request]);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[test]
fn every_node_serves_what_any_node_wrote() {
    in_runtime(|| {
        let cluster = Cluster::start(3, &[]);
        cluster.leader();
        for writer in 0..3 {
            let key = format!("key{writer}");
            let answer = execute_one(cluster.node(writer), put(&key, "v"));
            assert!(matches!(answer, Ok(Response::Written(Outcome::Done { .. }))), "{answer:?}");
            for reader in 0..3 {
                assert_eq!(execute_one(cluster.node(reader), get(&key)), value("v"), "node {reader}");
            }
        }
        cluster.assert_equal_states();
    });
}

/// RedisRaft #13: an applied command was taken for a new one and proposed again, for ever.
#[test]
fn one_append_through_a_follower_is_one_entry() {
    in_runtime(|| {
        let cluster = Cluster::start(3, &[]);
        let follower = cluster.follower();
        execute_one(cluster.node(follower), append("k", "a")).unwrap();
        let before = cluster.node(cluster.leader()).status().last_log_index;
        for _ in 0..10 {
            execute_one(cluster.node(follower), append("k", "a")).unwrap();
        }
        let after = cluster.node(cluster.leader()).status().last_log_index;
        assert_eq!(after - before, 10);
        assert_eq!(execute_one(cluster.node(follower), get("k")), value("aaaaaaaaaaa"));
    });
}

#[test]
fn requests_of_a_batch_see_the_writes_before_them() {
    in_runtime(|| {
        let cluster = Cluster::start(3, &[("max_key_bytes", "10")]);
        for node in [cluster.leader(), cluster.follower()] {
            let batch = vec![
                put("k", "1"),
                get("k"),
                get("a key that is too long"),
                put("k", "2"),
                append("k", "3"),
                get("k"),
                get("missing"),
            ];
            let answers = execute(cluster.node(node), batch);
            assert_eq!(answers[1], value("1"));
            assert!(matches!(&answers[2], Err(KvError::Invalid { .. })), "{:?}", answers[2]);
            assert_eq!(answers[4], Ok(Response::Written(Outcome::Length(2))));
            assert_eq!(answers[5], value("23"));
            assert_eq!(answers[6], Ok(Response::Read(ReadOutcome::Value(None))));
        }
    });
}

#[test]
fn without_forwarding_a_follower_names_the_leader() {
    in_runtime(|| {
        let cluster = Cluster::start(3, &[("forward", "off")]);
        let leader = cluster.leader();
        let follower = cluster.follower();
        let refusal = wait("refusal that names the leader", || {
            match execute_one(cluster.node(follower), put("k", "v")) {
                Err(KvError::NotAppended { reason: Refusal::NotLeader, leader }) => leader,
                Err(KvError::NotAppended { .. }) => None,
                other => panic!("a follower that does not forward answered {other:?}"),
            }
        });
        assert_eq!(refusal, NodeId(leader as u64));
    });
}

#[test]
fn without_forwarding_a_clerk_still_finds_the_leader() {
    in_runtime(|| {
        let cluster = Cluster::start(3, &[("forward", "off")]);
        let follower = cluster.follower();
        let only = vec![cluster.endpoints()[follower]];
        let clerk = Clerk::new(only, ClerkConfig { timeout: PATIENCE, ..ClerkConfig::default() }).unwrap();
        clerk.put("k", "v").unwrap();
        assert_eq!(clerk.get("k"), Ok(Some(Bytes::from("v"))));
    });
}

#[test]
fn without_a_majority_nothing_is_done_and_nothing_is_promised() {
    in_runtime(|| {
        let mut cluster = Cluster::start(3, &[]);
        execute_one(cluster.node(0), put("k", "old")).unwrap();
        let leader = cluster.leader();
        for id in 0..3 {
            if id != leader {
                cluster.stop(id);
            }
        }
        let node = cluster.node(leader);
        let soon = || time::now() + Duration::from_millis(300);
        let answers = node.execute(vec![put("k", "new")], soon());
        assert!(answers[0].is_err(), "{answers:?}");
        // A read must not be answered either: somebody else may lead by now.
        let answers = node.execute(vec![get("k")], soon());
        assert!(matches!(&answers[0], Err(KvError::NotAppended { .. })), "{answers:?}");
    });
}

#[test]
fn a_restarted_node_has_every_acknowledged_key() {
    in_runtime(|| {
        let mut cluster = Cluster::start(1, &[]);
        for number in 0..100 {
            execute_one(cluster.node(0), put(&format!("key{number}"), &number.to_string())).unwrap();
        }
        let before = cluster.node(0).status();
        cluster.stop(0);
        cluster.restart(0);
        for number in 0..100 {
            assert_eq!(
                execute_one(cluster.node(0), get(&format!("key{number}"))),
                value(&number.to_string())
            );
        }
        let after = cluster.node(0).status();
        assert_eq!(after.state_hash, before.state_hash);
        assert!(after.term > before.term);
    });
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    in_runtime(|| {
        let cluster = Cluster::start(1, &[]);
        let mut other = cluster.config.clone();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        other.nodes.get_mut(&0).unwrap().rpc = free;
        let error = start(other, NodeId(0)).err().expect("the directory is in use");
        assert!(matches!(&error, NodeError::Recover { .. }), "{error}");
        execute_one(cluster.node(0), put("k", "v")).unwrap();
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    in_runtime(|| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let data = tempfile::tempdir().unwrap();
        let port = address.port();
        let text = format!("data={}\nnode0ip=127.0.0.1\nnode0port={port}\n", data.path().display());
        let (config, _) = Config::parse("test.conf".as_ref(), &text, [], []).unwrap();
        let error = start(config, NodeId(0)).err().expect("the port is taken").to_string();
        assert!(error.starts_with(&format!("cannot listen on {address} (rpc): ")), "{error}");
    });
}

/// The leader is stopped in the middle of increments; each is applied exactly once all the same.
#[test]
fn a_clerk_writes_exactly_once_across_a_change_of_leader() {
    in_runtime(|| {
        let mut cluster = Cluster::start(3, &[]);
        cluster.leader();
        let config = ClerkConfig { timeout: PATIENCE, ..ClerkConfig::default() };
        let clerk = Clerk::new(cluster.endpoints(), config).unwrap();
        let fibers: Vec<_> = (0..4)
            .map(|_| {
                let clerk = clerk.clone();
                fiber_runtime::spawn(move || {
                    for _ in 0..100 {
                        clerk.increment("n", 1).unwrap();
                    }
                })
            })
            .collect();
        wait("some increments", || {
            let value = clerk.get("n").unwrap()?;
            (std::str::from_utf8(&value).unwrap().parse::<u64>().unwrap() > 20).then_some(())
        });
        let leader = cluster.leader();
        cluster.stop(leader);
        for fiber in fibers {
            fiber.join().unwrap();
        }
        assert_eq!(clerk.get("n"), Ok(Some(Bytes::from("400"))));
        cluster.restart(leader);
        cluster.assert_equal_states();
    });
}

#[test]
fn a_follower_that_missed_everything_catches_up_by_snapshot() {
    in_runtime(|| {
        let settings =
            &[("snapshot_log_bytes", "64KiB"), ("trailing_entries", "10"), ("trailing_bytes", "1KiB")];
        let mut cluster = Cluster::start(3, settings);
        let follower = cluster.follower();
        cluster.stop(follower);
        let leader = cluster.leader();
        let big = "v".repeat(2_000);
        let snapshot = wait("a snapshot past the follower's log", || {
            for number in 0..20 {
                execute_one(cluster.node(leader), put(&format!("key{number}"), &big)).unwrap();
            }
            let status = cluster.node(leader).status();
            (status.snapshot_index > 100).then_some(status.snapshot_index)
        });
        cluster.restart(follower);
        wait("the follower's snapshot", || {
            (cluster.node(follower).status().snapshot_index >= snapshot).then_some(())
        });
        cluster.assert_equal_states();
    });
}
