//! A replicated, linearizable key-value store: the state machine on `raft-core`, its client protocols, its programs.
//!
//! The path of a request: a front door (`resp`, `http`, [`command`]'s codec over fiber-rpc) decodes it into
//! [`command::Request`]s, hands the batch to a [`command::Backend`], and encodes the answers in the same order.
#![forbid(unsafe_code)]

pub mod command;

pub mod config;

pub mod store;

pub mod node;

pub mod service;

pub mod clerk;

mod front;

pub mod resp;

pub mod http;

pub mod logging;

pub mod metrics;
