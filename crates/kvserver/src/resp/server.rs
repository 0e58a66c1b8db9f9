//! The listener of the Redis door, its settings and its metrics.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fiber_runtime::net::TcpListener;
use fiber_runtime::time;

use super::connection;
use super::cursor::Cursors;
use super::decode::Limits;
use super::local::Client;
use super::table::TABLE;
use crate::command::{Backend, KvError, Response};
use crate::front::Front;
use crate::metrics::{Counter, Histogram, Registry};

/// Settings of the Redis door.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What one client may send.
    pub limits: Limits,
    /// Connections at a time; those that come then are told so and closed.
    pub max_clients: usize,
    /// Time for one batch of requests, from its last byte to its answers.
    pub request_timeout: Duration,
    /// Time that a client may stay silent between requests; `None` is for ever, as in Redis.
    pub idle_timeout: Option<Duration>,
    /// Time for a request from its first byte to its last, on top of what its bytes take at the lowest rate.
    pub partial_timeout: Duration,
    /// Time for a client to read its replies, on top of what they take at the lowest rate.
    pub write_timeout: Duration,
    /// The lowest rate, in bytes a second, at which a client may send and read.
    pub min_bytes_per_second: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            limits: Limits::default(),
            max_clients: 10_000,
            request_timeout: Duration::from_secs(5),
            idle_timeout: None,
            partial_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            min_bytes_per_second: 16 * 1024,
        }
    }
}

/// What all connections of the door share.
pub(super) struct Door {
    pub(super) config: Config,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) front: Arc<Front<Client>>,
    pub(super) cursors: Cursors,
    pub(super) metrics: Metrics,
}

/// What the door counts.
pub(super) struct Metrics {
    /// By place in the command table.
    pub(super) requests: Vec<Arc<Counter>>,
    pub(super) unknown: Arc<Counter>,
    pub(super) protocol_errors: Arc<Counter>,
    pub(super) duration: Arc<Histogram>,
    not_appended: Arc<Counter>,
    outcome_unknown: Arc<Counter>,
    invalid: Arc<Counter>,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let requests = |command| {
            registry.counter(
                "kv_requests_total",
                "Requests of Redis clients, by command.",
                &[("command", command)],
            )
        };
        let errors = |kind| {
            registry.counter(
                "kv_request_errors_total",
                "Requests the node had no answer to, by kind: not_appended may be repeated, outcome_unknown may have happened.",
                &[("kind", kind)],
            )
        };
        Metrics {
            requests: TABLE.iter().map(|spec| requests(spec.name)).collect(),
            unknown: requests("unknown"),
            protocol_errors: registry.counter(
                "kv_protocol_errors_total",
                "Connections of Redis clients that were closed because they broke the protocol.",
                &[],
            ),
            duration: registry.histogram(
                "kv_request_duration_seconds",
                "Time from decoding to answer of the requests that went to the node.",
                &[],
            ),
            not_appended: errors("not_appended"),
            outcome_unknown: errors("outcome_unknown"),
            invalid: errors("invalid"),
        }
    }

    /// Requests of all commands.
    pub(super) fn commands(&self) -> u64 {
        self.requests.iter().map(|counter| counter.get()).sum()
    }

    pub(super) fn note_answer(&self, answer: &Result<Response, KvError>) {
        match answer {
            Ok(_) => {}
            Err(KvError::NotAppended { .. }) => self.not_appended.increment(),
            Err(KvError::OutcomeUnknown { .. }) => self.outcome_unknown.increment(),
            Err(KvError::Invalid { .. }) => self.invalid.increment(),
        }
    }
}

/// The Redis door of one node.
pub struct Server {
    listener: TcpListener,
    door: Arc<Door>,
}

impl Server {
    /// Listens on `address`. Called in a fiber.
    ///
    /// # Errors
    /// That of the bind.
    pub fn bind(
        address: SocketAddr,
        config: Config,
        backend: Arc<dyn Backend>,
        metrics: &Registry,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let refusal = b"-ERR max number of clients reached\r\n";
        let front = Front::new("resp", config.max_clients, refusal, metrics);
        // Cursors of different nodes and runs begin far apart, so that one that is taken to the wrong node is noticed.
        let status = backend.status();
        let first = (u64::from(status.pid) << 40 | (status.id & 0xff) << 32) + 1;
        let door =
            Door { config, backend, front, cursors: Cursors::new(first), metrics: Metrics::new(metrics) };
        Ok(Server { listener, door: Arc::new(door) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// That of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle that can stop the server.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { door: self.door.clone() }
    }

    /// Serves until [`ServerHandle::shutdown`]. Called in a fiber.
    pub fn serve(self) {
        let door = self.door.clone();
        self.door.front.accept(self.listener, Client::default, move |stream, connection| {
            connection::serve(&door, stream, connection);
        });
    }
}

/// Stops a [`Server`] from elsewhere.
#[derive(Clone)]
pub struct ServerHandle {
    door: Arc<Door>,
}

impl ServerHandle {
    /// Accepts nobody any more, ends idle connections, lets busy ones finish their batch within `grace`, then ends
    /// them too.
    pub fn shutdown(&self, grace: Duration) {
        self.door.front.stop(time::now() + grace);
    }
}
