//! A whole cluster of pure cores in one thread, driven by one seed: lossy network, slow disks, crashes, partitions,
//! snapshots, transfers. After every step the paper's safety properties (Figure 3) and the promises of this
//! implementation are checked; after the faults end, the cluster must make progress.
//!
//! `MOON_SEED=<n>` runs one seed, `MOON_SEEDS=<n>` that many from 0. A failing seed prints itself.

mod core_world;

use core_world::World;

/// Seeds per cluster size when nothing else is asked for.
const SEEDS: u64 = 5000;

fn run_seeds(nodes: usize) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("MOON_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MOON_SEEDS").unwrap_or(SEEDS),
    };
    let mut total = core_world::Totals::default();
    for seed in seeds {
        let mut world = World::new(nodes, seed);
        if let Err(violation) = world.run() {
            panic!("seed {seed} with {nodes} nodes, step {}: {violation}\n{}", world.steps(), world.trace());
        }
        total.add(world.totals());
    }
    println!("{nodes} nodes: {total:?}");
    // A simulation in which nothing happens proves nothing.
    if std::env::var_os("MOON_SEED").is_none() {
        assert!(total.elections > 0 && total.commits > 0 && total.crashes > 0 && total.reads > 0);
        assert!(total.restores > 0 && total.compactions > 0 && total.dropped > 0);
    }
}

#[test]
fn three_nodes_keep_every_property_under_faults() {
    run_seeds(3);
}

#[test]
fn five_nodes_keep_every_property_under_faults() {
    run_seeds(5);
}
