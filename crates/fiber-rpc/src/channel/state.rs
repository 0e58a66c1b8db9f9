//! Where a channel is between unused and closed, and how it gets from one to the other.
//!
//! ```text
//!  Idle ── first use ──► Connecting ── connected ──► Connected ── ended ──► Waiting
//!                            ▲    └──── failed ────────────────────────────►  │
//!                            └─────────────── after the back-off ─────────────┘      any ── close ──► Closed
//! ```

use std::sync::Arc;
use std::time::Instant;

use fiber_runtime::FiberBuilder;

use super::connection::Connection;
use super::{Counters, Shared, driver};
use crate::error::NotSent;
use crate::health::ChannelState;

/// # Invariants
/// - `health` is [`ChannelState::Disconnected`] unless `phase` is [`Phase::Connected`].
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) health: ChannelState,
}

pub(super) enum Phase {
    /// Never used: the driver is not started.
    Idle,
    /// The driver is connecting; calls wait for the outcome.
    Connecting,
    Connected(Arc<Connection>),
    /// The driver waits before the next attempt; calls fail at once.
    Waiting {
        cause: Arc<str>,
    },
    Closed,
}

impl Shared {
    /// The connection, made first if need be.
    pub(super) fn connection(self: &Arc<Shared>, deadline: Instant) -> Result<Arc<Connection>, NotSent> {
        if self.state.read(|state| matches!(state.phase, Phase::Idle)) {
            self.start();
        }
        let found = self.state.wait(Some(deadline), |state| match &state.phase {
            Phase::Connected(connection) => Some(Ok(Arc::clone(connection))),
            Phase::Waiting { cause } => Some(Err(NotSent::Disconnected { cause: Arc::clone(cause) })),
            Phase::Closed => Some(Err(NotSent::Closed)),
            Phase::Idle | Phase::Connecting => None,
        });
        let connection = found.unwrap_or(Err(NotSent::DeadlineExceeded))?;
        if connection.is_going_away() { Err(NotSent::GoingAway) } else { Ok(connection) }
    }

    /// Starts the driver once.
    pub(super) fn start(self: &Arc<Shared>) {
        let start = self.state.update_if(|state| {
            let idle = matches!(state.phase, Phase::Idle);
            if idle {
                state.phase = Phase::Connecting;
            }
            (idle, false)
        });
        if start {
            let shared = Arc::clone(self);
            let builder = FiberBuilder::new().name(format!("rpc channel to {}", self.peer));
            drop(self.runtime.spawn_with(builder, move || driver::run(&shared)));
        }
    }

    pub(super) fn close(&self) {
        let before = self.state.update(|state| {
            self.set_health(state, ChannelState::Disconnected);
            std::mem::replace(&mut state.phase, Phase::Closed)
        });
        if let Phase::Connected(connection) = before {
            connection.events.update(|events| events.close = true);
        }
    }

    /// Under the lock, so no log line here: writing one may suspend the fiber.
    fn set_health(&self, state: &mut State, health: ChannelState) {
        if state.health != health {
            state.health = health;
            Counters::add(&self.counters.state_changes);
        }
    }

    /// Enters `phase` unless the channel is closed; returns whether it is not.
    fn enter(&self, phase: Phase, health: ChannelState) -> bool {
        let left = self.state.update(|state| {
            if matches!(state.phase, Phase::Closed) {
                return Err(phase);
            }
            self.set_health(state, health);
            Ok(std::mem::replace(&mut state.phase, phase))
        });
        // The phase that was left, or not entered, is dropped here, outside the lock: it may hold a socket.
        left.is_ok()
    }

    /// The driver begins an attempt; `false` if the channel is closed.
    pub(super) fn begin_connecting(&self) -> bool {
        self.enter(Phase::Connecting, ChannelState::Disconnected)
    }

    pub(super) fn publish_connection(&self, connection: &Arc<Connection>) {
        if self.enter(Phase::Connected(Arc::clone(connection)), ChannelState::Probing) {
            tracing::debug!(peer = %self.peer, "channel is connected");
        } else {
            connection.events.update(|events| events.close = true);
        }
    }

    pub(super) fn publish_health(&self, health: ChannelState) {
        let changed = self.state.update_if(|state| {
            let change = state.health != health && !matches!(state.phase, Phase::Closed);
            if change {
                self.set_health(state, health);
            }
            (change, change)
        });
        if changed {
            tracing::debug!(peer = %self.peer, ?health, "channel state");
        }
    }

    /// The driver lost its connection or failed to make one: calls fail until `until`, when it tries again.
    pub(super) fn wait_to_reconnect(&self, cause: Arc<str>, until: Instant) {
        if self.enter(Phase::Waiting { cause }, ChannelState::Disconnected) {
            self.state.wait(Some(until), |state| matches!(state.phase, Phase::Closed).then_some(()));
        }
    }
}
