//! The HTTP door: metrics, health and status for people, dashboards and orchestrators.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus text |
//! | `/livez` | 200 while the process serves; asks nobody, so that a lost quorum does not get healthy nodes restarted |
//! | `/readyz` | 200 if the node can serve clients now, 503 and the reason if not |
//! | `/status` | where the node stands, JSON |
//! | `/version` | which program this is, JSON |
//!
//! HTTP/1.1 with keep-alive, `GET` and `HEAD`. Everything a client can make longer has a limit and everything it can
//! make slower has a deadline, from the first byte on.

pub mod server;

mod connection;

mod request;

mod response;

mod routes;

pub use server::{Config, Server, ServerHandle};
