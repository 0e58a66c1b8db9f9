//! What goes wrong in a simulation, and how often.

use std::ops::Range;
use std::time::Duration;

use crate::core::{AppendResponse, Body, Message};

use super::rng::Rng;

/// The faults of one run. Everything is drawn from the run's seed.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultOptions {
    /// Share of the messages that never arrive.
    pub loss: f64,
    /// Share of the messages that arrive twice.
    pub duplication: f64,
    /// How long an ordinary message travels. A wide range reorders.
    pub delay: Range<Duration>,
    /// Share of the messages that travel much longer, so that they overtake whole elections.
    pub straggling: f64,
    /// How long those travel.
    pub straggling_delay: Range<Duration>,
    /// Mean time from one partition to the next; `None` for no partitions.
    pub partition_every: Option<Duration>,
    /// Mean time until a partition heals.
    pub partition_for: Duration,
    /// Share of the partitions that cut links in one direction only.
    pub one_way: f64,
    /// Mean time from one crash to the next; `None` for no crashes.
    pub crash_every: Option<Duration>,
    /// Mean time until a crashed node starts again.
    pub down_for: Duration,
    /// Share of the crashes that hit the leader, if there is one.
    pub leader_share: f64,
    /// Share of the crashes that take the whole cluster down.
    pub blackout: f64,
    /// Share of the votes given right after which the voter crashes: its vote must be on its disk by then.
    pub crash_after_vote: f64,
    /// Share of the acknowledged appends right after which the node crashes: the entries must be on its disk by then.
    pub crash_after_append: f64,
    /// Share of the appends with entries right after which the leader that sends them crashes.
    pub crash_after_entries: f64,
    /// How long a sync of the disk takes.
    pub sync: Range<Duration>,
    /// Share of the syncs that take fifty times as long.
    pub slow_sync: f64,
    /// Mean time from one leadership transfer to the next; `None` for none.
    pub transfer_every: Option<Duration>,
}

impl FaultOptions {
    /// A network and disks that do what they should.
    pub fn none() -> FaultOptions {
        let ms = Duration::from_millis;
        FaultOptions {
            loss: 0.0,
            duplication: 0.0,
            delay: Duration::from_micros(200)..ms(1),
            straggling: 0.0,
            straggling_delay: ms(100)..ms(1000),
            partition_every: None,
            partition_for: ms(500),
            one_way: 0.0,
            crash_every: None,
            down_for: ms(300),
            leader_share: 0.4,
            blackout: 0.0,
            crash_after_vote: 0.0,
            crash_after_append: 0.0,
            crash_after_entries: 0.0,
            sync: Duration::from_micros(200)..ms(2),
            slow_sync: 0.0,
            transfer_every: None,
        }
    }

    /// The probability that the sender crashes right after sending `message`.
    pub fn crash_after(&self, message: &Message) -> f64 {
        match &message.body {
            Body::VoteResponse(vote) if vote.granted && !vote.pre_vote => self.crash_after_vote,
            Body::AppendResponse(AppendResponse::Accepted { .. }) => self.crash_after_append,
            Body::AppendEntries(append) if !append.entries.is_empty() => self.crash_after_entries,
            _ => 0.0,
        }
    }

    /// A random mix: every kind of fault is absent, rare or frequent, so that runs differ in kind and not only in
    /// detail ("swarm testing", Groce et al. 2012). A mix of everything at once rarely gets anywhere.
    pub fn swarm(seed: u64) -> FaultOptions {
        let mut rng = Rng::new(seed, "swarm");
        if rng.chance(0.2) {
            return FaultOptions::leader_churn(&mut rng);
        }
        let ms = Duration::from_millis;
        let share = |rng: &mut Rng, most: f64| if rng.chance(0.5) { rng.unit() * most } else { 0.0 };
        let every = |rng: &mut Rng, range: Range<Duration>| rng.chance(0.6).then(|| rng.duration(&range));
        let slowest = *rng.pick(&[ms(1), ms(5), ms(20), ms(60)]);
        FaultOptions {
            loss: share(&mut rng, 0.25),
            duplication: share(&mut rng, 0.2),
            delay: Duration::from_micros(100)..slowest,
            straggling: share(&mut rng, 0.05),
            straggling_delay: ms(100)..ms(1500),
            partition_every: every(&mut rng, ms(300)..ms(1500)),
            partition_for: rng.duration(&(ms(100)..ms(1000))),
            one_way: share(&mut rng, 1.0),
            crash_every: every(&mut rng, ms(150)..ms(1500)),
            down_for: *rng.pick(&[ms(2), ms(30), ms(300), ms(800)]),
            leader_share: rng.unit(),
            blackout: share(&mut rng, 0.5),
            crash_after_vote: *rng.pick(&[0.0, 0.0, 0.2, 0.5]),
            crash_after_append: *rng.pick(&[0.0, 0.0, 0.002, 0.02]),
            crash_after_entries: *rng.pick(&[0.0, 0.0, 0.0, 0.005]),
            sync: Duration::from_micros(100)..*rng.pick(&[ms(1), ms(5), ms(30), ms(120)]),
            slow_sync: share(&mut rng, 0.05),
            transfer_every: if rng.chance(0.3) { Some(rng.duration(&(ms(200)..ms(1000)))) } else { None },
        }
    }

    /// Leaders that crash soon after they were elected, on a network that loses much: entries of many terms stand
    /// half replicated in the logs, as in Figure 8 of the paper.
    fn leader_churn(rng: &mut Rng) -> FaultOptions {
        let ms = Duration::from_millis;
        FaultOptions {
            loss: 0.1 + rng.unit() * 0.4,
            delay: Duration::from_micros(100)..*rng.pick(&[ms(2), ms(10), ms(30)]),
            crash_every: Some(rng.duration(&(ms(100)..ms(400)))),
            leader_share: 1.0,
            crash_after_entries: *rng.pick(&[0.01, 0.05, 0.15]),
            down_for: *rng.pick(&[ms(2), ms(50), ms(150)]),
            ..FaultOptions::none()
        }
    }
}
