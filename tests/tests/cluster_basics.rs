//! A cluster of three processes at peace: every door of every node, and what a node costs when nothing happens.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::process::Command;
use std::time::Duration;

use moon_tests::cluster::{Cluster, Options, PATIENCE};
use moon_tests::http;
use moon_tests::process::program;
use moon_tests::resp::Reply;
use moon_tests::wait::wait_until;

const SECOND: Duration = Duration::from_secs(1);

/// Runs `kvctl` against the cluster and gives its exit code and what it printed.
fn kvctl(cluster: &Cluster, arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(program("kvctl")).arg("-f").arg(cluster.conf()).args(arguments).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

#[test]
fn every_door_of_every_node_serves() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    let leader = cluster.wait_for_leader();

    // Redis clients: what one node was told every node tells.
    for writer in 0..3 {
        let key = format!("key{writer}");
        assert_eq!(cluster.client(writer).call(&["SET", &key, "value"]).unwrap(), Reply::Simple("OK".into()));
        for reader in 0..3 {
            let reply = cluster.client(reader).call(&["GET", &key]).unwrap();
            assert_eq!(reply.text().as_deref(), Some("value"), "{key} on node {reader}");
        }
    }
    assert_eq!(cluster.client(leader).call(&["GET", "nothing"]).unwrap(), Reply::Bulk(None));

    // A pipeline sees its own writes, on a follower as well.
    let follower = (leader + 1) % 3;
    let commands: [&[&[u8]]; 4] =
        [&[b"SET", b"p", b"1"], &[b"INCR", b"p"], &[b"APPEND", b"p", b"0"], &[b"GET", b"p"]];
    let replies = cluster.client(follower).pipeline(&commands).unwrap();
    let expected =
        [Reply::Simple("OK".into()), Reply::Integer(2), Reply::Integer(2), Reply::Bulk(Some(b"20".to_vec()))];
    assert_eq!(replies, expected);

    // The clerk.
    assert_eq!(kvctl(&cluster, &["put", "greeting", "hello"]).0, 0);
    assert_eq!(kvctl(&cluster, &["append", "greeting", " world"]).0, 0);
    let (code, text) = kvctl(&cluster, &["get", "greeting"]);
    assert_eq!((code, text.trim()), (0, "hello world"));
    assert_ne!(kvctl(&cluster, &["get", "nothing"]).0, 0);
    let (code, status) = kvctl(&cluster, &["status"]);
    assert_eq!(code, 0, "{status}");
    assert!(
        status.to_lowercase().contains("leader") && status.to_lowercase().contains("follower"),
        "{status}"
    );

    // Status, health and metrics.
    for node in 0..3 {
        let at = cluster.addresses(node).http;
        for (path, expected) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/nothing-here", 404)]
        {
            let (code, body) = http::get(at, path, 5 * SECOND).unwrap();
            assert_eq!(code, expected, "{path} of node {node}: {body}");
        }
        let (_, metrics) = http::get(at, "/metrics", 5 * SECOND).unwrap();
        assert!(metrics.lines().any(|line| line.starts_with("# TYPE ")), "{metrics}");
        let status = cluster.status(node).unwrap();
        assert_eq!(status.number("id"), node as u64);
        assert_eq!(status.number("leader_id"), leader as u64);
        assert_eq!(status.is_leader(), node == leader);
        assert_eq!(status.number("pid"), u64::from(cluster.process(node).pid()));
        for field in ["term", "commit_index", "applied_index", "last_log_index", "fsyncs"] {
            assert!(status.number(field) > 0, "{field} of node {node}: {}", status.0);
        }
    }
    cluster.wait_for_agreement();
}

#[test]
fn node_stops_cleanly_on_sigterm() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    cluster.client(0).call(&["SET", "a", "1"]).unwrap();
    for node in 0..3 {
        cluster.process(node).signal("TERM");
        let status = cluster.process(node).wait_for_end(PATIENCE);
        assert!(status.success(), "node {node}: {status}");
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    let leader = cluster.wait_for_leader();
    assert_eq!(cluster.client(leader).call(&["GET", "a"]).unwrap().text().as_deref(), Some("1"));
}

#[test]
fn idle_leader_uses_next_to_nothing() {
    const SPAN: Duration = Duration::from_secs(5);
    let mut cluster = Cluster::start(&Options::nodes(3));
    let leader = cluster.wait_for_leader();
    for number in 0..100 {
        cluster.client(leader).call(&["SET", &format!("key{number}"), "value"]).unwrap();
    }
    cluster.wait_for_agreement();
    // The caches fill in the first second.
    std::thread::sleep(SECOND);
    let before = cluster.process(leader).cpu_time();
    let memory = cluster.process(leader).status_field("VmRSS");
    let threads = cluster.process(leader).status_field("Threads");
    std::thread::sleep(SPAN);
    let used = cluster.process(leader).cpu_time() - before;
    let grown = cluster.process(leader).status_field("VmRSS").saturating_sub(memory);
    let share = used.as_secs_f64() / SPAN.as_secs_f64() * 100.0;
    println!(
        "idle leader: {share:.1} % of a core, {memory} KiB resident, {grown} KiB more after {SPAN:?}, {threads} threads"
    );
    assert!(share < 2.0, "an idle leader used {used:?} in {SPAN:?}");
    assert!(grown < 1024, "an idle leader grew by {grown} KiB in {SPAN:?}");
    assert_eq!(cluster.process(leader).status_field("Threads"), threads);
    assert_eq!(cluster.leader(), Some(leader), "nothing happened, so the leader stays");
}

#[test]
fn values_of_every_size_come_back_whole() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    let leader = cluster.wait_for_leader();
    let mut follower = cluster.client((leader + 1) % 3);
    for size in [0, 1, 1 << 10, 64 << 10, 1 << 20, 7 << 20] {
        let value: Vec<u8> = (0..size).map(|place: usize| (place * 31 % 251) as u8).collect();
        let reply = follower.call_bytes(&[b"SET", b"blob", &value]).unwrap();
        assert!(reply.is_ok(), "SET of {size} bytes: {reply:?}");
        let reply = cluster.client(leader).call(&["GET", "blob"]).unwrap();
        assert!(reply == Reply::Bulk(Some(value)), "GET of {size} bytes differs");
    }
    let mut client = cluster.client(leader);
    let refused = client.call_bytes(&[b"SET", b"blob", &vec![0; 9 << 20]]);
    assert!(!matches!(&refused, Ok(reply) if reply.is_ok()), "a value above the limit was taken");
    wait_until("the cluster to serve after the refusal", PATIENCE, || {
        cluster.client(leader).call(&["SET", "after", "1"]).is_ok_and(|reply| reply.is_ok())
    });
}
