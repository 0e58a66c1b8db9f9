//! Whole-system test support: real processes, faults, history checking.
//!
//! - [`cluster`], [`process`]: `kvserver` processes that are started, killed, paused and watched.
//! - [`resp`], [`http`]: the plainest clients, so that nothing is retried behind a test's back.
//! - [`workload`]: clients that keep a cluster busy and remember what they were told.
//! - [`proxy`]: a TCP connection that misbehaves on demand.
//! - [`history`], [`models`], [`linearizability`]: what clients saw, what they may see, and whether they did.
//! - [`wait`]: for a state, with a deadline.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod history;
pub mod http;
pub mod linearizability;
pub mod models;
pub mod process;
pub mod proxy;
pub mod resp;
pub mod wait;
pub mod workload;
