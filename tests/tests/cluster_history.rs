//! Clients of a real cluster under faults see a linearizable history.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvserver::clerk::{BlockingClerk, ClerkConfig, ClerkError};
use moon_tests::cluster::{Cluster, Options, PATIENCE};
use moon_tests::linearizability::{Limits, check};
use moon_tests::models::Kv;
use moon_tests::wait::wait_until;
use moon_tests::workload::Recorded;

#[test]
fn history_under_kills_and_pauses_is_linearizable() {
    const SPAN: Duration = Duration::from_secs(12);
    let mut cluster =
        Cluster::start(&Options::nodes(3).set("snapshot_log_bytes", 64 << 10).set("trailing_entries", 50));
    cluster.wait_for_leader();
    let seed = std::env::var("MOON_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    println!("seed {seed}");
    let clients = Recorded::start(&cluster, 6, 4, seed);
    let started = Instant::now();
    let mut round = seed;
    while started.elapsed() < SPAN {
        round += 1;
        let so_far = clients.len();
        let victim = match round % 3 {
            0 => (round / 3) as usize % 3,
            _ => cluster.leader().unwrap_or(0),
        };
        if round.is_multiple_of(2) {
            cluster.kill(victim);
        } else {
            cluster.process(victim).pause();
        }
        // Long enough for an election, and for the others to go on.
        std::thread::sleep(Duration::from_millis(900));
        if round.is_multiple_of(2) {
            cluster.start_node(victim);
        } else {
            cluster.process(victim).resume();
        }
        wait_until("operations after the fault", PATIENCE, || clients.len() > so_far + 100);
    }
    let history = clients.stop();
    let tally = history.tally();
    println!("{tally:?} in {:?}", started.elapsed());
    assert!(tally.returned > 500, "{tally:?}");
    check::<Kv>(&history, Limits::default()).assert_linearizable();
    cluster.wait_for_leader();
    cluster.wait_for_agreement();
}

#[test]
fn history_under_partitions_is_linearizable() {
    let mut cluster = Cluster::start(&Options::nodes(3).behind_proxies());
    cluster.wait_for_leader();
    let clients = Recorded::start(&cluster, 6, 4, 7);
    for round in 0..4 {
        let so_far = clients.len();
        let alone = if round == 2 { 0 } else { cluster.leader().unwrap_or(round % 3) };
        cluster.isolate(alone);
        // Long enough for the others to elect a leader while this one still believes that it leads.
        std::thread::sleep(Duration::from_millis(1200));
        cluster.heal();
        wait_until("operations after the partition", PATIENCE, || clients.len() > so_far + 100);
    }
    let history = clients.stop();
    let tally = history.tally();
    println!("{tally:?}");
    assert!(tally.returned > 300, "{tally:?}");
    check::<Kv>(&history, Limits::default()).assert_linearizable();
    cluster.wait_for_leader();
    cluster.wait_for_agreement();
}

#[test]
fn clerk_counts_every_increment_once_across_failovers() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    cluster.wait_for_leader();
    let endpoints = (0..3).map(|node| cluster.addresses(node).rpc).collect();
    let clerk =
        BlockingClerk::new(endpoints, ClerkConfig { timeout: PATIENCE, ..ClerkConfig::default() }).unwrap();
    let (done, unknown, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match clerk.increment("counter", 1) {
                        Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                        Err(ClerkError::OutcomeUnknown { .. }) => unknown.fetch_add(1, Ordering::Relaxed),
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
        for _ in 0..2 {
            let so_far = done.load(Ordering::Relaxed);
            wait_until("increments", PATIENCE, || done.load(Ordering::Relaxed) > so_far + 200);
            let leader = cluster.wait_for_leader();
            cluster.kill(leader);
            cluster.wait_for_leader();
            cluster.start_node(leader);
        }
        let so_far = done.load(Ordering::Relaxed);
        wait_until("increments", PATIENCE, || done.load(Ordering::Relaxed) > so_far + 200);
        stop.store(true, Ordering::Relaxed);
    });
    let (done, unknown) = (done.load(Ordering::Relaxed), unknown.load(Ordering::Relaxed));
    let counter = clerk.get("counter").unwrap().unwrap();
    let counter: u64 = std::str::from_utf8(&counter).unwrap().parse().unwrap();
    println!("{done} increments acknowledged, {unknown} unknown, the counter says {counter}");
    assert!(
        (done..=done + unknown).contains(&counter),
        "{done} acknowledged, {unknown} unknown, {counter} counted"
    );
    cluster.wait_for_agreement();
}
