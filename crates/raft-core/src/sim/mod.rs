//! Simulation: clusters in one process on virtual time, everything random drawn from one seed.
//!
//! A run has two parts. In the first, clients work while a nemesis crashes nodes, cuts links and loses messages; the
//! safety properties of the paper are checked after every step of every core. Then everything is healed, and the
//! cluster must go on within a bound. A run is a function of its seed: a failing one says how to run it again.
//!
//! | what runs | module | a run takes |
//! |---|---|---|
//! | the core alone; storage, network and driver are played | [`bare`] | milliseconds |
//! | whole replicas as they ship: core, log, snapshots, fibers | [`swarm`], on a [`cluster`] | tens of milliseconds |
//!
//! The parts, in reading order: [`invariants`] (what must hold), [`oracle`] (what clients may see), [`faults`] and
//! [`links`] (what goes wrong), [`SimDisk`] and [`network`] (where it goes wrong), [`machine`] (what is replicated),
//! [`cluster`], [`swarm`], [`bare`], [`seeds`], [`rng`].

pub mod bare;
pub mod cluster;
mod disk;
pub mod faults;
pub mod invariants;
pub mod links;
pub mod machine;
pub mod network;
pub mod oracle;
pub mod rng;
pub mod seeds;
pub mod swarm;

pub use disk::{CrashChoice, SimDisk, SimFile, SimLock};
