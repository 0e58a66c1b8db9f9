//! The fibers around the core: a node of a replicated state machine, from a client's command to its result.
//!
//! ```text
//!  clients ── propose, read_barrier ──►┐
//!  peers ──── deliver ────────────────►│ owner fiber: core ├── Persist ──► log thread ── durable ──►┐
//!  ticks ─────────────────────────────►│                   ├── Send ─────► transport               │
//!       ▲                              └───────────────────┴── Apply ────► apply fiber ─ applied ─►│
//!       └──────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each part owns what it changes: the owner fiber the core, the log thread the files, the apply fiber the state machine.
//! They talk through bounded channels. The owner never waits for any of them, or a slow disk would stop the heartbeats:
//! what a full channel does not take stays in a queue whose length the windows of the core bound.
//!
//! Everything here runs in a simulation as it runs in production ([`fiber_runtime::sim`]): time, order and randomness
//! come from the runtime and the settings.

mod config;
mod error;
mod state_machine;
mod status;
mod transport;

mod apply;
mod event;
mod handle;
mod owner;
mod pending;
mod snapshots;

mod observer;
mod outbox;
mod shared;
mod ticker;

pub mod codec;
mod rpc_transport;

pub use config::ReplicaConfig;
pub use error::{ProposeError, ReadError, ReplicaError};
pub use handle::Replica;
pub use observer::Observer;
pub use rpc_transport::{RaftService, RpcTransport};
pub use state_machine::{FrozenState, StateMachine};
pub use status::{ReplicaCounters, ReplicaStatus};
pub use transport::{Dropped, Transport, TransportError};

#[cfg(test)]
mod tests;
