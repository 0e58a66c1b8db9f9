//! Storms: many schedules of a simulation, in which fibers dawdle and are cancelled anywhere.

use std::time::Duration;

use fiber_runtime::{sim, spawn_local, time, yield_now};

const SEEDS: u64 = 300;

/// Runs `body` under many seeds. It fails when an assertion does or when nothing can go on, and says the seed.
pub(crate) fn under_many_schedules(body: impl Fn() + Copy + 'static) {
    for seed in 0..SEEDS {
        let simulation = sim::Sim::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.run(body)));
        if let Err(payload) = outcome {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(payload);
        }
    }
}

/// A number below `below`, from the seed.
pub(crate) fn random(below: u64) -> u64 {
    sim::random_u64() % below
}

/// Gives way in one of the possible manners, or not at all.
pub(crate) fn dawdle() {
    match random(4) {
        0 => yield_now(),
        1 => time::sleep(Duration::from_micros(random(50))),
        _ => {}
    }
}

/// Runs `count` fibers and cancels some of them at random moments; the others must end well.
pub(crate) fn with_cancellation(count: u64, body: impl Fn(u64) + Clone + 'static) {
    let fibers: Vec<_> = (0..count)
        .map(|number| {
            let body = body.clone();
            spawn_local(move || body(number))
        })
        .collect();
    let doomed: Vec<bool> = fibers.iter().map(|_| random(3) == 0).collect();
    for (fiber, _) in fibers.iter().zip(&doomed).filter(|&(_, &doomed)| doomed) {
        dawdle();
        fiber.cancel();
    }
    for (fiber, doomed) in fibers.into_iter().zip(doomed) {
        assert!(fiber.join().is_ok() || doomed);
    }
}
