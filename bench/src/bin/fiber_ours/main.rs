//! Moon's side of `fiber_bench`: answers one question on `fiber_runtime` and prints the results.
//!
//! The rivals' sides are in `bench/peers`; each does the same work in the way its own documentation recommends. What is
//! asked is listed in [`main`]; the parameters are read where the question is answered.

mod basic;

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
        _ => unknown(&arguments),
    };
    answer(&runtime, &arguments);
}
