//! Faulty runs of whole replicas, each from one seed: core, log, snapshots and fibers as they ship.
//!
//! `MOON_SEED=n` runs that seed alone; `MOON_SEEDS=n` runs so many.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use raft_core::sim::cluster::Options;
use raft_core::sim::seeds::for_each_seed;
use raft_core::sim::swarm::{Summary, run};

fn swarm(nodes: usize, seeds: u64) {
    let mut total = Summary::default();
    let runs = for_each_seed(seeds, |seed| {
        let summary = run(&Options::swarm(nodes, seed), seed).map_err(|violation| violation.to_string())?;
        total.acknowledged += summary.acknowledged;
        total.reads += summary.reads;
        total.unknown += summary.unknown;
        total.refused += summary.refused;
        total.committed += summary.committed;
        total.crashes += summary.crashes;
        total.installed += summary.installed;
        total.observations += summary.observations;
        total.delivered += summary.delivered;
        Ok(())
    });
    println!("{runs} runs of {nodes} replicas: {total:?}");
    if runs >= 50 {
        // The runs must have something to say.
        assert!(total.acknowledged > runs * 20 && total.reads > runs * 5, "{total:?}");
        assert!(total.crashes > runs && total.installed > runs / 10, "{total:?}");
    }
}

#[test]
fn three_replicas_stay_safe_and_recover() {
    swarm(3, 1000);
}

#[test]
fn five_replicas_stay_safe_and_recover() {
    swarm(5, 400);
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let options = Options::swarm(3, seed);
        assert_eq!(run(&options, seed).unwrap(), run(&options, seed).unwrap(), "seed {seed}");
    }
}

#[test]
fn calm_replicas_serve_everybody() {
    for seed in 0..3 {
        let summary = run(&Options::calm(3), seed).unwrap();
        assert_eq!(
            (summary.crashes, summary.unknown, summary.installed),
            (0, 0, 0),
            "seed {seed}: {summary:?}"
        );
        assert!(summary.acknowledged > 500 && summary.reads > 200, "seed {seed}: {summary:?}");
    }
}
