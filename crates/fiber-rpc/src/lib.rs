//! RPC on fibers: frames, health-checked channels, pools, generated services.
//!
//! Calls look like function calls and block their fiber, never a thread. One connection per peer carries many calls at
//! once; a call has a deadline and ends as a reply, as *not sent*, or as *outcome unknown* ([`CallError`]), and nothing is
//! retried behind the caller's back.
//!
//! Modules in reading order, along the path of a call:
//!
//! | module | what it is |
//! |---|---|
//! | [`frame`] | bytes on the wire: header, decoder, gathering encoder |
//! | [`channel`] | client side: calls by id, reader, writer and driver fiber of a connection |
//! | [`health`], [`backoff`] | is the peer alive (a pure state machine), and when to try again |
//! | [`pool`] | channels by peer |
//! | [`server`] | accept, decode, dispatch, reply; limits |
//! | [`service`], [`typed`] | what a server offers; messages instead of bytes |
//! | [`error`], [`status`] | how calls fail |
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use fiber_rpc::{Bytes, CallContext, Channel, ChannelConfig, Server, Service, Status};
//! use fiber_runtime::{Runtime, time};
//!
//! struct Echo;
//!
//! impl Service for Echo {
//!     fn name(&self) -> &str {
//!         "moon.Echo"
//!     }
//!     fn call(&self, _cx: &CallContext, method: &str, payload: Bytes) -> Result<Bytes, Status> {
//!         match method {
//!             "Echo" => Ok(payload),
//!             _ => Err(Status::unknown_method(self.name(), method)),
//!         }
//!     }
//! }
//!
//! let runtime = Runtime::builder().workers(1).build().unwrap();
//! runtime.block_on(|| {
//!     let address = "127.0.0.1:0".parse().unwrap();
//!     let server = Server::builder().service(Echo).bind(address).unwrap().spawn();
//!
//!     let channel = Channel::new(server.local_addr(), ChannelConfig::default());
//!     let deadline = time::now() + Duration::from_secs(5);
//!     let reply = channel.call("moon.Echo", "Echo", Bytes::from("hello"), deadline).unwrap();
//!     assert_eq!(reply, "hello");
//!
//!     channel.close();
//!     server.shutdown(deadline);
//! });
//! ```
//!
//! With a `.proto` file, `fiber-rpc-build` in build.rs and [`include_proto!`] the same is typed; see
//! `examples/friend_rpc.rs`.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod channel;
mod connection;
mod deadline;
pub mod error;
pub mod frame;
pub mod health;
mod outbox;
pub mod pool;
pub mod server;
pub mod service;
pub mod status;
pub mod typed;
mod watch;

pub use bytes::Bytes;

pub use channel::{Channel, ChannelConfig, ChannelStats};
pub use error::{CallError, NotSent, Unknown};
pub use health::{ChannelState, HealthConfig};
pub use pool::{Pool, PoolConfig, PoolStats};
pub use server::{Server, ServerBuilder, ServerHandle, ServerLimits, ServerStats, ShutdownReport};
pub use service::{CallContext, Dispatch, Service};
pub use status::{Code, Status};

/// Includes the code that `fiber_rpc_build::compile` made of a package.
///
/// ```text
/// pub mod echo {
///     fiber_rpc::include_proto!("moon.echo");
/// }
/// ```
#[macro_export]
macro_rules! include_proto {
    ($package:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
    };
}
