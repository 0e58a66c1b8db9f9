//! The listener of the HTTP door and its settings.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fiber_runtime::net::TcpListener;
use fiber_runtime::time;

use super::connection;
use super::routes::Pages;
use crate::command::Backend;
use crate::front::Front;
use crate::metrics::Registry;

/// Settings of the HTTP door.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Connections at a time; those that come then are told 503 and closed.
    pub max_connections: usize,
    /// Bytes of a request's head; longer ones are answered with 431.
    pub head_bytes: usize,
    /// Bytes of a request's body; longer ones are answered with 413.
    pub body_bytes: usize,
    /// Time for a request from its first byte to its last; slower ones are answered with 408.
    pub request_timeout: Duration,
    /// Time that a connection may be silent between requests.
    pub idle_timeout: Duration,
    /// Time for a client to read a response.
    pub write_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: 256,
            head_bytes: 8 * 1024,
            body_bytes: 64 * 1024,
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// The HTTP door of one node.
pub struct Server {
    listener: TcpListener,
    config: Config,
    pages: Pages,
    front: Arc<Front<()>>,
}

impl Server {
    /// Listens on `address`. Called in a fiber. Connections are counted in `metrics`; what `/metrics` shows is the
    /// backend's word, registry included, and the process's.
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
        let refusal =
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n";
        let front = Front::new("http", config.max_connections, refusal, metrics);
        Ok(Server { listener, config, pages: Pages { backend }, front })
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
        ServerHandle { front: self.front.clone() }
    }

    /// Serves until [`ServerHandle::shutdown`]. Called in a fiber.
    pub fn serve(self) {
        let Server { listener, config, pages, front } = self;
        front.accept(
            listener,
            || (),
            move |stream, connection| {
                connection::serve(&pages, &config, stream, connection);
            },
        );
    }
}

/// Stops a [`Server`] from elsewhere.
#[derive(Clone)]
pub struct ServerHandle {
    front: Arc<Front<()>>,
}

impl ServerHandle {
    /// Accepts nobody any more, ends idle connections, lets busy ones finish within `grace`, then ends them too.
    pub fn shutdown(&self, grace: Duration) {
        self.front.stop(time::now() + grace);
    }
}
