//! Servers: accept, decode, dispatch, reply.
//!
//! ```text
//!  accept fiber ──► reader fiber of each connection ──► Inline: the method runs here ──────────────────┐
//!                     (decodes, checks limits)     └──► Local, Fiber: the method runs in its own fiber ─┤
//!                                                                                                      ▼
//!                   socket ◄── writer fiber of the connection ◄────────────────────────── outbox of replies
//! ```
//!
//! Everything that is ready in the read buffer is handled before one write goes out. When a peer does not read its
//! replies, its requests are not read either.

mod accept;
mod call;
mod connection;
mod limits;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fiber_runtime::net::TcpListener;
use fiber_runtime::{FiberBuilder, time};
use rustc_hash::FxHashMap;

pub use self::limits::ServerLimits;

use self::connection::Connection;
use crate::service::Service;
use crate::watch::Watch;

/// How long a stopping server waits for peers without calls to close their side.
const LINGER: Duration = Duration::from_secs(1);

/// Collects services and limits; made by [`Server::builder`].
#[derive(Default)]
pub struct ServerBuilder {
    services: FxHashMap<Box<[u8]>, Arc<dyn Service>>,
    limits: ServerLimits,
}

impl ServerBuilder {
    /// Adds a service.
    ///
    /// # Panics
    /// If there is a service of that name already.
    pub fn service(mut self, service: impl Service) -> ServerBuilder {
        let name = service.name().to_owned();
        let before = self.services.insert(name.as_bytes().into(), Arc::new(service));
        assert!(before.is_none(), "service {name} is added twice");
        self
    }

    /// Replaces the default limits.
    pub fn limits(mut self, limits: ServerLimits) -> ServerBuilder {
        self.limits = limits;
        self
    }

    /// Listens on `address`; port 0 lets the system choose. Connections wait until [`Server::serve`] is called.
    ///
    /// # Errors
    /// The operating system's, for example an address in use.
    pub fn bind(self, address: SocketAddr) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let local_addr = listener.local_addr()?;
        let shared = Shared {
            services: self.services,
            limits: self.limits,
            listener,
            local_addr,
            state: Watch::new(State { connections: FxHashMap::default(), last_id: 0, stage: Stage::Serving }),
            calls: AtomicUsize::new(0),
            call_bytes: AtomicUsize::new(0),
            counters: Counters::default(),
        };
        Ok(Server { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A bound server. Serving blocks a fiber; a [`ServerHandle`] stops it.
pub struct Server {
    shared: Arc<Shared>,
}

/// Watches and stops a [`Server`]. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

struct Shared {
    services: FxHashMap<Box<[u8]>, Arc<dyn Service>>,
    limits: ServerLimits,
    listener: TcpListener,
    local_addr: SocketAddr,
    state: Watch<State>,
    /// Calls that run in fibers, over all connections.
    calls: AtomicUsize,
    /// Bytes of their arguments.
    call_bytes: AtomicUsize,
    counters: Counters,
}

struct State {
    connections: FxHashMap<u64, Arc<Connection>>,
    last_id: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Stopping,
    Stopped,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    calls: AtomicU64,
    overloaded: AtomicU64,
    malformed: AtomicU64,
    expired: AtomicU64,
}

/// Figures of a server since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections open now.
    pub connections: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused at [`ServerLimits::max_connections`].
    pub refused: u64,
    /// Calls received, one-way ones included.
    pub calls: u64,
    /// Calls that run in fibers now.
    pub calls_running: usize,
    /// Bytes of arguments that these calls hold.
    pub call_bytes: usize,
    /// Calls refused at a limit.
    pub overloaded: u64,
    /// Connections ended by a malformed frame.
    pub malformed: u64,
    /// Calls dropped because their deadline had passed before they started.
    pub expired: u64,
}

/// How a [`ServerHandle::shutdown`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Calls that still ran at the deadline; their callers do not know the outcome.
    pub abandoned_calls: usize,
    /// Connections that were cut because of that, or because their peers did not close them.
    pub cut_connections: usize,
}

impl Server {
    /// Starts with no service and the default limits.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// A handle to stop the server and to look at it.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { shared: Arc::clone(&self.shared) }
    }

    /// Accepts and serves until [`ServerHandle::shutdown`] has ended. Blocks the calling fiber.
    pub fn serve(self) {
        accept::run(&self.shared);
        self.shared.state.wait(None, |state| (state.stage == Stage::Stopped).then_some(()));
    }

    /// As [`serve`](Self::serve), in a fiber of the current runtime.
    pub fn spawn(self) -> ServerHandle {
        let handle = self.handle();
        let builder = FiberBuilder::new().name(format!("rpc server on {}", self.local_addr()));
        drop(builder.spawn(move || self.serve()));
        handle
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

impl ServerHandle {
    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Figures since the server was bound.
    pub fn stats(&self) -> ServerStats {
        let (shared, counters) = (&self.shared, &self.shared.counters);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerStats {
            connections: shared.state.read(|state| state.connections.len()),
            accepted: load(&counters.accepted),
            refused: load(&counters.refused),
            calls: load(&counters.calls),
            calls_running: shared.calls.load(Ordering::Relaxed),
            call_bytes: shared.call_bytes.load(Ordering::Relaxed),
            overloaded: load(&counters.overloaded),
            malformed: load(&counters.malformed),
            expired: load(&counters.expired),
        }
    }

    /// Stops in order, at most until `deadline`:
    ///
    /// 1. no more connections are accepted, and every peer is told to go away;
    /// 2. calls that were received are finished and answered, new ones are answered with unavailable;
    /// 3. peers without calls close their side (channels do at once), or are cut a second later;
    /// 4. at the deadline everything that is left is cut.
    ///
    /// Only the first call does this; others wait for it.
    pub fn shutdown(&self, deadline: Instant) -> ShutdownReport {
        let shared = &*self.shared;
        let connections = shared.state.update(|state| {
            let first = state.stage == Stage::Serving;
            state.stage = state.stage.max_with_stopping();
            first.then(|| state.connections.values().cloned().collect::<Vec<_>>())
        });
        let Some(connections) = connections else {
            shared.state.wait(Some(deadline), |state| (state.stage == Stage::Stopped).then_some(()));
            return ShutdownReport { abandoned_calls: 0, cut_connections: 0 };
        };
        // Wakes the accept fiber. The listener may have failed by itself.
        let _ = shared.listener.shutdown();
        for connection in &connections {
            connection.go_away();
        }
        for connection in &connections {
            connection.wait_idle(deadline);
        }
        drop(connections);
        let linger = deadline.min(time::now() + LINGER);
        shared.state.wait(Some(linger), |state| state.connections.is_empty().then_some(()));
        let left: Vec<_> = shared.state.read(|state| state.connections.values().cloned().collect());
        let report = ShutdownReport {
            abandoned_calls: left.iter().map(|connection| connection.calls_running()).sum(),
            cut_connections: left.len(),
        };
        for connection in left {
            connection.cut();
        }
        shared.state.update(|state| state.stage = Stage::Stopped);
        report
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Stage {
    fn max_with_stopping(self) -> Stage {
        if self == Stage::Serving { Stage::Stopping } else { self }
    }
}
