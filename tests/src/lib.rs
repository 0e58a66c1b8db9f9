//! Whole-system test support: real processes, faults, history checking.
//!
//! - [`history`], [`models`], [`linearizability`]: what clients saw, what they may see, and whether they did.
#![forbid(unsafe_code)]

pub mod history;
pub mod linearizability;
pub mod models;
