//! may's side of `fiber_bench`: the same questions as `fiber_ours` answers, on may 0.3 with its defaults.
//!
//! may spawns through `go!`; its coroutines have 32 KiB of stack, and its workers are pinned to the processors that the
//! process may use. Its channels are unbounded. It has no fibers that stay on their worker, so that the `_local`
//! questions have no answer here.

mod basic;
mod ports;
mod servers;

use bench_kit::{Arguments, unknown};

fn main() {
    let arguments = Arguments::from_env();
    may::config().set_workers(arguments.number("workers", 1) as usize);
    let answer: fn(&Arguments) = match arguments.question() {
        "yield" => basic::yields,
        "spawn" => basic::spawns,
        "ping_pong" => basic::ping_pong,
        "parked" => basic::parked,
        "skynet" => basic::skynet,
        "sleep" => basic::sleeps,
        "echo" => servers::echo,
        "may_yield" => ports::may_yield,
        "may_spawn" => ports::may_spawn,
        "may_smoke" => ports::may_smoke,
        "may_nested" => ports::may_nested,
        "spawn_many_local" => ports::spawn_many_local,
        "spawn_many_remote" => ports::spawn_many_remote,
        "yield_many" => ports::yield_many,
        "ping_pong_many" => ports::ping_pong_many,
        "chained_spawn" => ports::chained_spawn,
        "ring" => ports::ring,
        "wake_latency" => ports::wake_latency,
        "timeouts" => ports::timeouts,
        "timers" => ports::timers,
        _ => unknown(&arguments),
    };
    answer(&arguments);
}
