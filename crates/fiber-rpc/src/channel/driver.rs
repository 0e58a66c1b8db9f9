//! The fiber behind a channel: connects, keeps watch over the peer, reconnects, without end.

use std::sync::Arc;

use fiber_runtime::net::TcpStream;
use fiber_runtime::{FiberBuilder, time};

use super::connection::{Connection, Events, Item};
use super::{Counters, Shared};
use crate::backoff::{Backoff, random_seed};
use crate::error::Disconnect;
use crate::health::{Action, ChannelState, Health};

/// Body of the driver fiber. It ends when the channel is closed.
pub(super) fn run(shared: &Arc<Shared>) {
    let seed = shared.config.seed.unwrap_or_else(random_seed);
    let mut backoff = Backoff::new(shared.config.backoff, seed);
    let mut health = Health::new(shared.config.health);
    while shared.begin_connecting() {
        let cause: Arc<str> = match connect(shared) {
            Ok(stream) => serve(shared, stream, &mut health, &mut backoff),
            Err(error) => {
                Counters::add(&shared.counters.connect_failures);
                Disconnect::Connect(error).to_string().into()
            }
        };
        let delay = backoff.next_delay();
        tracing::debug!(peer = %shared.peer, %cause, ?delay, "channel is disconnected");
        shared.wait_to_reconnect(cause, time::now() + delay);
    }
}

fn connect(shared: &Shared) -> std::io::Result<TcpStream> {
    let config = &shared.config;
    let stream = TcpStream::connect_timeout(&shared.peer, config.connect_timeout)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(config.write_timeout))?;
    Counters::add(&shared.counters.connects);
    Ok(stream)
}

/// Ends the connection however its driver ends, cancellation of the fiber included: no caller is left waiting.
struct Ending<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    cause: Arc<str>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.connection.end(self.shared, &self.cause);
    }
}

/// One connection, from its first ping to its end; returns why it ended.
fn serve(shared: &Arc<Shared>, stream: TcpStream, health: &mut Health, backoff: &mut Backoff) -> Arc<str> {
    let connection = Arc::new(Connection::new(stream, shared));
    let mut ending =
        Ending { shared, connection: &connection, cause: Disconnect::FiberEnded.to_string().into() };
    // Reader, writer and driver share a worker: see `crate::connection`.
    let name = |what| FiberBuilder::new().name(format!("rpc {what} of the channel to {}", shared.peer));
    let reader = name("reader").spawn_local({
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        move || connection.read(&shared)
    });
    let writer = name("writer").spawn_local({
        let connection = Arc::clone(&connection);
        move || connection.write()
    });
    health.connected(time::now());
    shared.publish_connection(&connection);
    ending.cause = watch_over(shared, &connection, health, backoff).to_string().into();
    health.disconnected();
    let cause = Arc::clone(&ending.cause);
    drop(ending);
    // Both are on their way out; a panic of theirs has been reported by the runtime.
    let _ = reader.join();
    let _ = writer.join();
    cause
}

fn watch_over(
    shared: &Shared,
    connection: &Connection,
    health: &mut Health,
    backoff: &mut Backoff,
) -> Disconnect {
    let mut seen = connection.last_received();
    loop {
        let received = connection.last_received();
        if received > seen {
            seen = received;
            health.received(received);
        }
        match health.poll(time::now()) {
            Action::SendPing(id) => {
                Counters::add(&shared.counters.pings);
                connection.outbox.push_urgent(Item::Ping(id));
                continue;
            }
            Action::Disconnect => return Disconnect::Unanswered(shared.config.health.max_failures),
            Action::Wait => {}
        }
        if health.state() == ChannelState::Healthy {
            backoff.reset();
        }
        shared.publish_health(health.state());
        if let Some(events) = connection.next_event(health.next_wake()) {
            let Events { ended, suspect, close, drained, pong: _ } = events;
            if let Some(cause) = ended {
                return cause;
            }
            if close || drained {
                return Disconnect::Closed;
            }
            if suspect {
                health.suspect(time::now());
            }
        }
    }
}
