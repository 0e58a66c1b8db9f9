//! The questions that a single process answers about itself, and what their results mean.

use crate::programs::{Contestant, RUNTIMES};
use crate::table::{Better, Target};

/// One invocation of each contestant, and the rows that come out of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// What the programs are asked; with `--quick`.
    pub(crate) ask: [&'static str; 2],
    /// On how many workers: with one, everything is bound to one processor.
    pub(crate) workers: u32,
    pub(crate) contestants: &'static [Contestant],
    /// Name of a result, what it means, its unit, and what is asked of it.
    pub(crate) metrics: &'static [Metric],
}

/// A result of a program as a row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) target: Option<Target>,
}

const fn metric(
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    target: Option<Target>,
) -> Metric {
    Metric { name, what, unit, better: Better::Lower, target }
}

const fn case(ask: [&'static str; 2], metrics: &'static [Metric]) -> Case {
    Case { ask, workers: 1, contestants: RUNTIMES, metrics }
}

pub(crate) const YIELD: &[Case] = &[
    case(
        ["yield fibers=2 turns=1000000", "yield fibers=2 turns=50000"],
        &[metric("yield", "yield_now, 2 ready fibers", "ns", Some(Target::AtMost(10.0)))],
    ),
    case(
        ["yield fibers=10000 turns=200", "yield fibers=10000 turns=10"],
        &[metric("yield", "yield_now, 10,000 ready fibers", "ns", Some(Target::AtMost(25.0)))],
    ),
];

pub(crate) const SPAWN: &[Case] = &[
    case(
        ["spawn count=500000", "spawn count=50000"],
        &[metric("spawn_join", "spawn + join, empty fiber", "ns", Some(Target::AtMost(100.0)))],
    ),
    case(
        ["spawn_local count=500000", "spawn_local count=50000"],
        &[metric("spawn_join", "spawn_local + join, empty fiber", "ns", Some(Target::AtMost(100.0)))],
    ),
];

pub(crate) const PING_PONG: &[Case] = &[case(
    ["ping_pong count=500000", "ping_pong count=50000"],
    &[metric("round_trip", "channel round trip (two wakes)", "ns", Some(Target::AtMost(60.0)))],
)];

pub(crate) const MEMORY: &[Case] = &[case(
    ["parked count=20000", "parked count=2000"],
    &[
        metric("resident_each", "idle parked fiber, resident", "B", Some(Target::AtMost(4.6 * 1024.0))),
        metric("start_and_park", "start and park, each of 20,000", "ns", None),
        metric("wake_and_join", "wake and join, each of 20,000", "ns", None),
    ],
)];

pub(crate) const MILLION: &[Case] = &[case(
    ["parked count=1000000", "parked count=100000"],
    &[
        Metric {
            name: "alive",
            what: "guarded fibers alive at once, of 1,000,000",
            unit: "",
            better: Better::Higher,
            target: Some(Target::AtLeast(1_000_000.0)),
        },
        metric("resident_total", "  resident with all of them", "GB", Some(Target::AtMost(5.0))),
        metric("start_and_park", "  start and park, each", "ns", None),
        metric("wake_and_join", "  wake and join, each", "ns", None),
    ],
)];

pub(crate) const SKYNET: &[Case] = &[
    case(
        ["skynet leaves=1000000", "skynet leaves=10000"],
        &[
            metric("total", "skynet, 1,000,000 leaves", "ms", Some(Target::Ahead)),
            metric("resident_after", "  resident after it", "MB", None),
        ],
    ),
    case(
        ["skynet leaves=10000", "skynet leaves=10000"],
        &[metric("total", "skynet, 10,000 leaves (as many as may can)", "ms", Some(Target::Ahead))],
    ),
];

pub(crate) const SLEEP: &[Case] = &[case(
    ["sleep fibers=100 turns=200", "sleep fibers=100 turns=20"],
    &[metric("p50", "sleep of 1 ms is late by, p50", "us", None), metric("p99", "  p99", "us", None)],
)];
