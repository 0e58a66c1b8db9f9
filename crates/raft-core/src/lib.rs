//! Raft: a pure core, a write-ahead log, and the fibers around them.
#![forbid(unsafe_code)]

pub mod core;

pub mod sim;
