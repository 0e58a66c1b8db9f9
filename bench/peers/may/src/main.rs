//! may's side of `fiber_bench`: the same questions as `fiber_ours` answers, on may 0.3 with its defaults.
//!
//! may spawns through `go!`; its coroutines have 32 KiB of stack, and its workers are pinned to the processors that the
//! process may use. Its channels are unbounded. It has no fibers that stay on their worker, so that the `_local`
//! questions have no answer here.

mod basic;

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
        _ => unknown(&arguments),
    };
    answer(&arguments);
}
