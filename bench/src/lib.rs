//! Shared parts of the benchmarks: latencies, conditions, random numbers, a RESP client, the nodes' own figures.
//!
//! Every program states its question at its top, prints its conditions with its results, and has no figure built in but
//! those that others promised or measured, which are named as such.
#![forbid(unsafe_code)]

pub mod conditions;

pub mod latency;

pub mod nodes;

pub mod random;

pub mod resp;
