//! The questions that a single process answers about itself, and what their results mean.

use crate::programs::{Contestant, RUNTIMES};
use crate::table::{Better, Target};
use Contestant::{May, Moon, Tokio, TokioMulti};

/// One invocation of each contestant, and the rows that come out of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// What the programs are asked; with `--quick`.
    pub(crate) ask: [&'static str; 2],
    pub(crate) workers: u32,
    /// Whether the program is bound to one processor, as it is where nothing is to run beside its one worker.
    pub(crate) bound: bool,
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
    Case { ask, workers: 1, bound: true, contestants: RUNTIMES, metrics }
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

/// Contestants with worker threads that a plain thread can wait for.
const THREADED: &[Contestant] = &[Moon, May, TokioMulti];

const fn on_two_workers(ask: [&'static str; 2], metrics: &'static [Metric]) -> Case {
    Case { ask, workers: 2, bound: false, contestants: THREADED, metrics }
}

/// may's own benchmarks.
pub(crate) const MAY: &[Case] = &[
    on_two_workers(
        ["may_yield times=200", "may_yield times=10"],
        &[metric("each", "may yield_bench: one fiber alone yields", "ns", None)],
    ),
    on_two_workers(
        ["may_spawn times=100", "may_spawn times=10"],
        &[metric("each", "may spawn_bench_1: 2 threads spawn 500 each and join", "ns", None)],
    ),
    on_two_workers(
        ["may_smoke times=3", "may_smoke times=1"],
        &[metric("each", "may smoke_bench: 5 threads, 200 fibers each, 1,000 yields", "ns", None)],
    ),
    on_two_workers(
        ["may_nested times=5", "may_nested times=1"],
        &[metric("each", "may smoke_bench_3: 100 fibers spawn 100, 4 yields each", "ns", None)],
    ),
];

/// tokio's own benchmarks of its scheduler.
pub(crate) const TOKIO: &[Case] = &[
    on_two_workers(
        ["spawn_many_local times=10", "spawn_many_local times=2"],
        &[metric("each", "tokio spawn_many_local: 10,000 from a fiber", "ns", None)],
    ),
    on_two_workers(
        ["spawn_many_remote times=20", "spawn_many_remote times=2"],
        &[metric("each", "tokio spawn_many_remote: 10,000 from a thread", "ns", None)],
    ),
    on_two_workers(
        ["yield_many times=10", "yield_many times=1"],
        &[metric("each", "tokio yield_many: 200 fibers, 1,000 yields", "ns", None)],
    ),
    on_two_workers(
        ["ping_pong_many times=20", "ping_pong_many times=2"],
        &[metric("each", "tokio ping_pong: 1,000 pairs, two messages", "ns", None)],
    ),
    on_two_workers(
        ["chained_spawn times=100", "chained_spawn times=10"],
        &[metric("each", "tokio chained_spawn: each of 1,000 spawns the next", "ns", None)],
    ),
];

pub(crate) const RING: &[Case] = &[case(
    ["ring fibers=1000 laps=300", "ring fibers=1000 laps=20"],
    &[metric("hop", "a token in a ring of 1,000, each hop", "ns", None)],
)];

/// On as many processors as there are: the waking thread must not run on the sleeping worker's.
pub(crate) const WAKE: &[Case] = &[Case {
    ask: ["wake_latency count=2000", "wake_latency count=200"],
    workers: 1,
    bound: false,
    contestants: RUNTIMES,
    metrics: &[
        metric("p50", "a thread wakes a fiber of a sleeping worker, p50", "us", None),
        metric("p99", "  p99", "us", None),
    ],
}];

pub(crate) const TIMERS: &[Case] = &[
    case(
        ["timeouts count=200000", "timeouts count=20000"],
        &[metric("round_trip", "channel round trip with two deadlines, never reached", "ns", None)],
    ),
    Case {
        ask: ["timers count=1000000 near_ms=4000", "timers count=100000 near_ms=300"],
        workers: 1,
        bound: true,
        contestants: &[Moon, Tokio, TokioMulti],
        metrics: &[
            metric("arm", "1,000,000 waits with a deadline: wake, arm, park, each", "ns", None),
            metric("cancel", "  95 % are woken before it and end, each", "ns", None),
            metric("p50", "  5 % come true, spread over a second; late by, p50", "us", None),
            metric("p99", "  p99", "us", None),
        ],
    },
    Case {
        ask: ["timers count=30000 near_ms=500", "timers count=3000 near_ms=100"],
        workers: 1,
        bound: true,
        contestants: RUNTIMES,
        metrics: &[
            metric("arm", "the same with 30,000 (as many as may can): arm, each", "ns", None),
            metric("cancel", "  cancel, each", "ns", None),
            metric("p50", "  late by, p50", "us", None),
            metric("p99", "  p99", "us", None),
        ],
    },
];
