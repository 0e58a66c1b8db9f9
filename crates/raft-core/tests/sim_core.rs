//! Thousands of faulty runs of the pure core, each from one seed.
//!
//! `MOON_SEED=n` runs that seed alone; `MOON_SEEDS=n` runs so many.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use raft_core::sim::bare::{Options, Summary, run};
use raft_core::sim::seeds::for_each_seed;

fn swarm(nodes: usize, seeds: u64) {
    let mut total = Summary::default();
    let runs = for_each_seed(seeds, |seed| {
        let summary = run(&Options::swarm(nodes, seed), seed).map_err(|violation| violation.to_string())?;
        total.acknowledged += summary.acknowledged;
        total.reads += summary.reads;
        total.committed += summary.committed;
        total.leaders += summary.leaders;
        total.crashes += summary.crashes;
        total.installed += summary.installed;
        Ok(())
    });
    println!("{runs} runs of {nodes} cores: {total:?}");
    if runs >= 100 {
        // The runs must have something to say.
        assert!(total.acknowledged > runs * 20, "{total:?}");
        assert!(total.reads > runs * 5, "{total:?}");
        assert!(total.leaders > runs * 2, "{total:?}");
        assert!(total.crashes > runs && total.installed > runs / 10, "{total:?}");
    }
}

#[test]
fn three_cores_stay_safe_and_recover() {
    swarm(3, 1000);
}

#[test]
fn five_cores_stay_safe_and_recover() {
    swarm(5, 400);
}

#[test]
fn one_core_is_a_cluster() {
    swarm(1, 50);
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let options = Options::swarm(3, seed);
        assert_eq!(run(&options, seed).unwrap(), run(&options, seed).unwrap());
    }
    let different = (0..20).map(|seed| run(&Options::swarm(3, seed), seed).unwrap().trace_hash);
    assert_eq!(different.collect::<std::collections::BTreeSet<_>>().len(), 20);
}
