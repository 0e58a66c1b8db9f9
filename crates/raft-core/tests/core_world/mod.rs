//! The simulated world of `core_sim.rs`: nodes with disks and state machines, a network, faults, and the properties.

mod disk;
mod invariants;
mod machine;
mod node;
mod profile;
mod random;
mod world;

pub(crate) use world::{Totals, World};
