//! The scheduler's shared parts as shipped, around a worker that runs fibers without stacks.

#[path = "../../../src/scheduler/idle.rs"]
pub(crate) mod idle;
#[path = "../../../src/scheduler/inbox.rs"]
pub(crate) mod inbox;
#[path = "../../../src/scheduler/port.rs"]
pub(crate) mod port;
#[path = "../../../src/scheduler/ready.rs"]
pub(crate) mod ready;
#[path = "../../../src/scheduler/running.rs"]
pub(crate) mod running;
#[path = "../../../src/scheduler/shared.rs"]
pub(crate) mod shared;

pub(crate) mod worker;

pub(crate) mod random {
    //! No choice is left to chance: an iteration must be repeatable.

    pub(crate) fn thread_random() -> u64 {
        0
    }
}
