//! Moon's side of `fiber_bench`: answers one question on `fiber_runtime` and prints the results.
//!
//! The rivals' sides are in `bench/peers`; each does the same work in the way its own documentation recommends. What is
//! asked is listed in [`main`]; the parameters are read where the question is answered.

mod basic;
mod ports;
mod servers;

use bench_kit::{Arguments, fail, unknown};
use fiber_runtime::Runtime;

fn main() {
    let arguments = Arguments::from_env();
    let workers = arguments.number("workers", 1) as usize;
    let runtime = match Runtime::builder().workers(workers).name("bench").build() {
        Ok(runtime) => runtime,
        Err(error) => fail(&format!("cannot start a runtime with {workers} workers: {error}")),
    };
    let answer: fn(&Runtime, &Arguments) = match arguments.question() {
        "yield" => basic::yields,
        "spawn" => basic::spawns,
        "spawn_local" => basic::local_spawns,
        "ping_pong" => basic::ping_pong,
        "parked" => basic::parked,
        "skynet" => basic::skynet,
        "sleep" => basic::sleeps,
        "echo" => servers::echo,
        "echo_std" => servers::echo_std,
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
    answer(&runtime, &arguments);
}
