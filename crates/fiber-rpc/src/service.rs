//! Services: what a server offers, by name.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fiber_runtime::time;

use crate::status::Status;

/// Where a method runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// On the fiber that reads the connection, before the next frame is decoded: no switch, no allocation, and order is
    /// kept. The method must not block, as it would hold up every other call of its connection.
    Inline,
    /// In a fiber of its own on the connection's worker. It may block; calls of one connection then run at the same time and
    /// end in any order. For methods that mostly wait: nothing crosses workers.
    Local,
    /// In a fiber of its own on any worker, as above. For methods that compute: an idle worker takes them over.
    Fiber,
}

/// A named set of methods. Generated for a `.proto` service by fiber-rpc-build, or written by hand over raw bytes.
///
/// ```
/// use fiber_rpc::{Bytes, CallContext, Service, Status};
///
/// struct Echo;
///
/// impl Service for Echo {
///     fn name(&self) -> &str {
///         "moon.Echo"
///     }
///     fn call(&self, _cx: &CallContext, method: &str, payload: Bytes) -> Result<Bytes, Status> {
///         match method {
///             "Echo" => Ok(payload),
///             _ => Err(Status::unknown_method(self.name(), method)),
///         }
///     }
/// }
/// ```
pub trait Service: Send + Sync + 'static {
    /// The full name that calls carry, for example `moon.Raft`.
    fn name(&self) -> &str;

    /// Where a method runs; a fiber of its own unless overridden.
    fn dispatch(&self, method: &str) -> Dispatch {
        let _ = method;
        Dispatch::Fiber
    }

    /// Executes one call. The result of a one-way call is dropped.
    ///
    /// The payload shares the connection's read buffer: copy what is kept for long.
    ///
    /// # Errors
    /// A [`Status`] goes to the caller as [`CallError::Remote`](crate::CallError::Remote).
    fn call(&self, cx: &CallContext, method: &str, payload: Bytes) -> Result<Bytes, Status>;
}

/// What a service may know about the call it executes.
#[derive(Clone, Debug)]
pub struct CallContext {
    pub(crate) peer: SocketAddr,
    pub(crate) deadline: Option<Instant>,
    pub(crate) one_way: bool,
    pub(crate) trace_context: Bytes,
}

impl CallContext {
    /// A context for calling a service without a connection, as tests do.
    pub fn new(peer: SocketAddr, deadline: Option<Instant>) -> CallContext {
        CallContext { peer, deadline, one_way: false, trace_context: Bytes::new() }
    }

    /// The caller's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// When the caller stops waiting, by this machine's clock; `None` if it waits for ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Time left until the deadline; zero once it has passed, `None` without one.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(time::now()))
    }

    /// Whether nobody waits for the result.
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// The bytes a tracing caller attached; reserved.
    pub fn trace_context(&self) -> &Bytes {
        &self.trace_context
    }
}
