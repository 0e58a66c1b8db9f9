//! The key-value service over fiber-rpc: how nodes forward to the leader, and what clerks call.

mod server;

pub use server::KvService;

/// Messages, client and server made from `proto/kv.proto`.
#[allow(missing_docs, reason = "the messages are documented in their .proto file")]
pub mod proto {
    fiber_rpc::include_proto!("moon.kv");
}
