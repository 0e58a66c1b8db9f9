//! Nodes that die and nodes that sleep, under load: nothing acknowledged is missing afterwards.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::time::{Duration, Instant};

use moon_tests::cluster::{Cluster, Options, PATIENCE};
use moon_tests::wait::wait_until;
use moon_tests::workload::{Load, assert_all_present};

const SECOND: Duration = Duration::from_secs(1);

/// What a failover may take on a busy machine. The aim at default timeouts is one second.
const FAILOVER: Duration = Duration::from_secs(3);

/// The pool for blocking work may start a thread or two; a thread for each message that a sleeper does not take, as the
/// original had it, is another matter.
#[track_caller]
fn assert_few_new_threads(cluster: &mut Cluster, node: usize, before: u64) {
    let threads = cluster.process(node).status_field("Threads");
    assert!(threads <= before + 2, "node {node} had {before} threads and has {threads}");
}

#[test]
fn killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    let leader = cluster.wait_for_leader();
    let survivors: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let load = Load::start(&cluster, &survivors, 4, "failover", 64);
    wait_until("some writes", PATIENCE, || load.acknowledged() > 200);

    let killed = Instant::now();
    cluster.kill(leader);
    let before = load.acknowledged();
    wait_until("writes after the kill", PATIENCE, || load.acknowledged() > before + 200);
    let report = load.stop();
    let gap = report.longest_gap(killed);
    println!("kill -9 of the leader: writes stood still for {gap:?}; {report}");
    assert!(gap < FAILOVER, "writes stood still for {gap:?}");

    let successor = cluster.wait_for_leader();
    assert_ne!(successor, leader);
    assert_all_present(&cluster, successor, &report.acknowledged);
    // The killed node comes back and catches up.
    cluster.start_node(leader);
    cluster.wait_for_answer(leader);
    cluster.wait_for_agreement();
    assert_all_present(&cluster, leader, &report.acknowledged);
}

#[test]
fn all_nodes_killed_under_load_keep_every_acknowledged_key() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..2 {
        cluster.wait_for_leader();
        let load = Load::start(&cluster, &[0, 1, 2], 4, &format!("round{round}"), 200);
        wait_until("some writes", PATIENCE, || load.acknowledged() > 300);
        for node in 0..3 {
            cluster.kill(node);
        }
        let report = load.stop();
        println!("round {round}: {report}");
        expected.extend(report.acknowledged);
        for node in 0..3 {
            cluster.start_node(node);
        }
        let leader = cluster.wait_for_leader();
        assert_all_present(&cluster, leader, &expected);
    }
    cluster.wait_for_agreement();
    for node in 0..3 {
        assert_all_present(&cluster, node, &expected);
    }
}

#[test]
fn paused_follower_catches_up_by_snapshot_and_costs_the_leader_nothing() {
    // A log so short that a few seconds of writes leave nothing for the sleeper but a snapshot.
    let options = Options::nodes(3)
        .set("snapshot_log_bytes", 128 << 10)
        .set("trailing_entries", 100)
        .set("trailing_bytes", 64 << 10);
    let mut cluster = Cluster::start(&options);
    let leader = cluster.wait_for_leader();
    let sleeper = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|node| *node != sleeper).collect();

    // Warm up, so that buffers have their size.
    let load = Load::start(&cluster, &others, 4, "before", 500);
    wait_until("some writes", PATIENCE, || load.acknowledged() > 500);
    let mut expected = load.stop().acknowledged;

    cluster.process(sleeper).pause();
    let asleep_at = cluster.status(leader).unwrap().number("applied_index");
    let threads = cluster.process(leader).status_field("Threads");
    let memory = cluster.process(leader).status_field("VmRSS");
    let load = Load::start(&cluster, &others, 4, "asleep", 500);
    let paused = Instant::now();
    wait_until("more writes than the log keeps", PATIENCE, || {
        let snapshot = cluster.status(leader).map_or(0, |status| status.number("snapshot_index"));
        paused.elapsed() > 4 * SECOND && snapshot > asleep_at + 200 && load.acknowledged() > 1000
    });
    let report = load.stop();
    let grown = cluster.process(leader).status_field("VmRSS").saturating_sub(memory);
    let data =
        report.acknowledged.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64 >> 10;
    println!(
        "asleep for {:?}: {report}; the leader grew by {grown} KiB for {data} KiB of data",
        paused.elapsed()
    );
    assert_few_new_threads(&mut cluster, leader, threads);
    assert!(grown < 8 * data + (16 << 10), "the leader grew by {grown} KiB for {data} KiB of new data");
    expected.extend(report.acknowledged);

    cluster.process(sleeper).resume();
    cluster.wait_for_agreement();
    let status = cluster.status(sleeper).unwrap();
    println!(
        "the sleeper is at {}, its snapshot at {}",
        status.number("applied_index"),
        status.number("snapshot_index")
    );
    assert!(status.number("snapshot_index") > asleep_at, "it caught up without a snapshot: {}", status.0);
    assert_few_new_threads(&mut cluster, leader, threads);
    for node in 0..3 {
        assert_all_present(&cluster, node, &expected);
    }
}

#[test]
fn woken_leader_serves_no_stale_read() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    let sleeper = cluster.wait_for_leader();
    let mut client = cluster.client(sleeper);
    assert!(client.call(&["SET", "key", "old"]).unwrap().is_ok());
    cluster.process(sleeper).pause();
    let successor = cluster.wait_for_leader();
    assert_ne!(successor, sleeper);
    assert!(cluster.client(successor).call(&["SET", "key", "new"]).unwrap().is_ok());
    cluster.process(sleeper).resume();
    // It may refuse or forward, but never answer from what it remembers.
    for _ in 0..200 {
        if let Ok(reply) = client.call(&["GET", "key"])
            && let Some(value) = reply.text()
        {
            assert_eq!(value, "new", "a node that slept through an election answered from its memory");
        }
    }
    cluster.wait_for_agreement();
}
