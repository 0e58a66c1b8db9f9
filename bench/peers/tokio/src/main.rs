//! tokio's side of `fiber_bench`: the same questions as `fiber_ours` answers, on tokio 1 with its defaults, as tasks.
//!
//! `flavor=current` is the current-thread runtime, `flavor=multi` the multi-thread one with `workers` workers. What is
//! measured runs in a spawned task: the future of `block_on` itself does not run on a worker. A task has no stack and can
//! give way only where its functions are `async`; that is what its smaller memory is paid with.

mod basic;
mod ports;
mod servers;

use std::future::Future;

use bench_kit::{Arguments, fail, unknown};
use tokio::runtime::{Builder, Runtime};

fn main() {
    let arguments = Arguments::from_env();
    let workers = arguments.number("workers", 1) as usize;
    let mut builder = match arguments.text("flavor") {
        Some("multi") => Builder::new_multi_thread(),
        Some("current") | None => Builder::new_current_thread(),
        Some(other) => fail(&format!("flavor={other}: neither `current` nor `multi`")),
    };
    let runtime = match builder.worker_threads(workers).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => fail(&format!("cannot start a runtime: {error}")),
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

/// Runs `body` as a task and waits for it.
fn run<T: Send + 'static>(runtime: &Runtime, body: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(async { tokio::spawn(body).await.unwrap_or_else(|_| fail("the task panicked")) })
}
