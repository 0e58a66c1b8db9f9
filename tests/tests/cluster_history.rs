//! Clients of a real cluster under faults see a linearizable history.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::time::{Duration, Instant};

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
