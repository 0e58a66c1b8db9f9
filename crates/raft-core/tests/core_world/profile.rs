//! How one seed's world behaves. Every seed draws its own mixture (swarm testing): a cluster that is stormy all the
//! time never gets far enough to meet the interesting states.

use raft_core::core::{Config, NodeId};

use super::random::Random;

/// Weights of the things that happen, and limits of the nodes.
pub(crate) struct Profile {
    pub(crate) steps: usize,
    pub(crate) deliver: usize,
    pub(crate) tick: usize,
    pub(crate) store: usize,
    pub(crate) apply: usize,
    pub(crate) propose: usize,
    pub(crate) read: usize,
    pub(crate) flush: usize,
    pub(crate) snapshot: usize,
    pub(crate) transfer: usize,
    pub(crate) crash: usize,
    pub(crate) restart: usize,
    pub(crate) partition: usize,
    pub(crate) heal: usize,
    pub(crate) release: usize,
    /// Percent of deliveries that are losses.
    pub(crate) loss: u32,
    /// Percent of deliveries that leave a copy in the network.
    pub(crate) duplication: u32,
    /// Percent of deliveries that take any message instead of the oldest.
    pub(crate) reorder: u32,
    /// Percent of messages that are kept for very long.
    pub(crate) late: u32,
    /// Percent of losses that the sender hears of.
    pub(crate) reported: u32,
    /// Percent of steps whose effects are taken at once.
    pub(crate) eager: u32,
    /// A snapshot is worth taking after this many entries.
    pub(crate) snapshot_every: u64,
    /// Whether leaders check for a majority and candidates ask first; otherwise each node draws for itself.
    guarded: Option<bool>,
}

impl Profile {
    pub(crate) fn draw(random: &mut Random) -> Profile {
        match random.below(4) {
            0 => Profile::deposed_leaders(random),
            1 => Profile::short_reigns(random),
            _ => Profile::mixture(random),
        }
    }

    /// Leaders that are cut off and do not notice, clients that go on reading from them, and answers to their earlier
    /// heartbeats that are still on their way: what a read must not be confirmed by.
    fn deposed_leaders(random: &mut Random) -> Profile {
        Profile {
            guarded: Some(false),
            // Elections must come through: fast network, fast disks.
            deliver: 500,
            store: 200,
            tick: 80,
            propose: 30,
            read: 50,
            partition: 2,
            heal: 1,
            crash: 0,
            loss: 0,
            duplication: 0,
            late: 10,
            release: 40,
            ..Profile::mixture(random)
        }
    }

    /// Leaders that crash soon after they were elected, with entries on some other nodes: Figure 8 of the paper.
    fn short_reigns(random: &mut Random) -> Profile {
        Profile {
            guarded: Some(false),
            deliver: 80,
            tick: 150,
            store: 150,
            propose: 20,
            crash: 12,
            restart: 20,
            loss: 30,
            snapshot: 0,
            ..Profile::mixture(random)
        }
    }

    fn mixture(random: &mut Random) -> Profile {
        let calm = random.percent(30);
        Profile {
            steps: 1500 + random.below(3000),
            deliver: random.pick(&[80, 200, 500]),
            tick: random.pick(&[30, 80, 150]),
            store: random.pick(&[40, 100, 300]),
            apply: random.pick(&[30, 100]),
            propose: random.pick(&[10, 40, 100]),
            read: random.pick(&[5, 20]),
            flush: 60,
            snapshot: random.pick(&[0, 20, 60]),
            transfer: random.pick(&[0, 0, 2]),
            crash: if calm { 0 } else { random.pick(&[1, 4, 8]) },
            restart: 12,
            partition: if calm { 0 } else { random.pick(&[0, 2, 6]) },
            heal: 4,
            release: random.pick(&[2, 10]),
            loss: random.pick(&[0, 5, 20]),
            duplication: random.pick(&[0, 5, 20]),
            reorder: random.pick(&[0, 30, 100]),
            late: random.pick(&[0, 3, 20]),
            reported: 30,
            eager: random.pick(&[100, 70]),
            snapshot_every: random.pick(&[2, 5, 15]),
            guarded: None,
        }
    }

    /// A configuration with small limits, so that every limit is met.
    pub(crate) fn config(&self, random: &mut Random, id: NodeId, voters: &[NodeId]) -> Config {
        let mut config = Config::new(id, voters.to_vec());
        config.heartbeat_ticks = random.pick(&[1, 2, 3]);
        config.election_ticks = config.heartbeat_ticks + random.pick(&[3, 6]);
        config.pre_vote = self.guarded.unwrap_or(random.percent(70));
        config.check_quorum = self.guarded.unwrap_or(random.percent(70));
        config.max_append_bytes = random.pick(&[1, 100, 1000]);
        config.max_inflight_messages = random.pick(&[1, 3, 100]);
        config.max_inflight_bytes = random.pick(&[100, 10_000]);
        config.max_uncommitted_bytes = random.pick(&[300, 3000, 1_000_000]);
        config.max_waiting_reads = random.pick(&[2, 1000]);
        config.max_apply_bytes = random.pick(&[1, 120, 100_000]);
        config.trailing_entries = random.pick(&[0, 2, 20]);
        config.trailing_bytes = random.pick(&[100, 100_000]);
        config.seed = random.next();
        config
    }
}
