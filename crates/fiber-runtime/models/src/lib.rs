//! Models of fiber-runtime's lock-free parts.
//!
//! What threads share without a lock is right only if it is right for every interleaving, and for every value that the
//! memory model lets a load return. `loom` runs a small program under all of them (up to a bound on preemptions) and
//! reports a data race, a lost wake (every thread waits: a deadlock) or a failed assertion.
//!
//! The *shipped files* are what is checked: this crate compiles them once more, by `#[path]`, with a
//! `primitive` module of loom's types in the place of `crate::primitive`. What they lean on and is not in question
//! here (the kernel, the switch of stacks, a clock) stands in `world`, as small as they allow. Nothing of a
//! protocol is written twice, save what only its caller knows; those lines are marked `As shipped`.
//!
//! A model that cannot fail shows nothing. Each was seen failing with the line named in its documentation broken.
//!
//! The models run with `cargo test --workspace`. Deeper, for a change in one of the files:
//!
//! ```text
//! LOOM_MAX_PREEMPTIONS=4 cargo test --release -p fiber-runtime-models
//! ```
//! Not modelled: `scheduler/running.rs`, whose worker's half has no fence because the kernel makes it
//! (`membarrier`), which loom has no words for; and the deques of un-started fibers, which are crossbeam's.

#![cfg(test)]
// The files are compiled for a few of their functions.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each model uses its share")]
#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod models;
mod primitive;
mod world;

// The names under which the shipped files find each other, and their surroundings.
use world::{blocking, config, fiber, monitor, scheduler, stack, sync, sys, time, waiter};

#[path = "../../src/metrics.rs"]
mod metrics;

use fiber::{Fiber, Handle, park_until};
