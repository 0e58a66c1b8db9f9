//! Whether the peer of a channel is alive: a pure state machine, time passed in.
//!
//! ```text
//!                 connected                         pong, or any frame
//!  Disconnected ─────────────► Probing ───────────────────────────────► Healthy
//!       ▲                      ▲     │                                     │
//!       │   max_failures pings │     │ one ping unanswered                 │
//!       │   in a row missed    └─────┼─────────────────────────────────────┘
//!       └────────────────────────────┘          (or the connection ends, from any state)
//! ```
//!
//! The names and figures are the seed's: a ping every 10 s while healthy, every 5 s while probing, 5 s to answer, gone
//! after 3. Three things differ from its code, each for a reason: a ping is a frame with a reply (a send of
//! zero bytes transmits nothing and cannot see a dead peer); a fresh connection starts in Probing, because the
//! kernel of a stopped process accepts connections too; Disconnected is not the end, the channel reconnects.

use std::time::{Duration, Instant};

/// What a channel believes about its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelState {
    /// Connected, and the peer answered lately.
    Healthy,
    /// Connected, but the peer has not answered yet, or not in time. Calls still go out.
    Probing,
    /// Not connected. Calls fail as not sent; reconnecting goes on in the background.
    Disconnected,
}

/// Intervals and limits of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// A healthy peer that sent nothing for so long is pinged. Default 10 s.
    pub heartbeat_interval: Duration,
    /// Time between the starts of two pings while probing. Default 5 s.
    pub probe_interval: Duration,
    /// A ping unanswered for so long has failed. Default 5 s.
    pub ping_timeout: Duration,
    /// Failures in a row that make the peer gone. Default 3, at least 1.
    pub max_failures: u32,
}

impl Default for HealthConfig {
    fn default() -> HealthConfig {
        HealthConfig {
            heartbeat_interval: Duration::from_secs(10),
            probe_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            max_failures: 3,
        }
    }
}

/// What the owner of a [`Health`] has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until [`Health::next_wake`].
    Wait,
    /// Send a ping with this number.
    SendPing(u64),
    /// The peer is gone: end the connection.
    Disconnect,
}

/// The state machine of one connection at a time.
///
/// # Invariants
/// - Disconnected: no ping is outstanding and nothing is scheduled.
/// - `failures < max_failures` unless Disconnected.
#[derive(Clone, Debug)]
pub struct Health {
    config: HealthConfig,
    state: ChannelState,
    failures: u32,
    /// Number of the last ping sent; numbers are never reused, so a late pong cannot be taken for a fresh one.
    ping: u64,
    /// When the outstanding ping fails.
    ping_deadline: Option<Instant>,
    /// When the next ping is due.
    next_ping: Option<Instant>,
    last_ping: Option<Instant>,
}

impl Health {
    /// Starts disconnected.
    ///
    /// # Panics
    /// If `max_failures` is zero.
    pub fn new(config: HealthConfig) -> Health {
        assert!(config.max_failures > 0, "max_failures must be at least 1");
        Health {
            config,
            state: ChannelState::Disconnected,
            failures: 0,
            ping: 0,
            ping_deadline: None,
            next_ping: None,
            last_ping: None,
        }
    }

    /// The state now.
    pub fn state(&self) -> ChannelState {
        self.state
    }

    /// Pings missed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A connection is made: probe it at once.
    pub fn connected(&mut self, now: Instant) {
        self.state = ChannelState::Probing;
        self.failures = 0;
        self.ping_deadline = None;
        self.next_ping = Some(now);
    }

    /// The connection ended.
    pub fn disconnected(&mut self) {
        self.state = ChannelState::Disconnected;
        self.ping_deadline = None;
        self.next_ping = None;
    }

    /// The peer sent something at `at`: it is alive.
    pub fn received(&mut self, at: Instant) {
        if self.state == ChannelState::Disconnected {
            return;
        }
        // Bytes that were read before the outstanding ping left say nothing about it.
        if self.ping_deadline.is_some() && self.last_ping.is_some_and(|sent| at < sent) {
            return;
        }
        self.state = ChannelState::Healthy;
        self.failures = 0;
        self.ping_deadline = None;
        self.next_ping = Some(at + self.config.heartbeat_interval);
    }

    /// A call was not answered in time: ping now rather than at the next heartbeat.
    pub fn suspect(&mut self, now: Instant) {
        if self.state == ChannelState::Healthy && self.ping_deadline.is_none() {
            self.next_ping = Some(now);
        }
    }

    /// What to do at `now`. Call it at [`next_wake`](Self::next_wake) and after every event, until it says
    /// [`Action::Wait`].
    pub fn poll(&mut self, now: Instant) -> Action {
        if self.ping_deadline.is_some_and(|deadline| now >= deadline) {
            self.ping_deadline = None;
            self.failures += 1;
            if self.failures >= self.config.max_failures {
                self.disconnected();
                return Action::Disconnect;
            }
            self.state = ChannelState::Probing;
            let last = self.last_ping.expect("a ping that failed was sent");
            self.next_ping = Some(last + self.config.probe_interval);
        }
        if self.ping_deadline.is_none() && self.next_ping.is_some_and(|due| now >= due) {
            self.ping += 1;
            self.last_ping = Some(now);
            self.ping_deadline = Some(now + self.config.ping_timeout);
            self.next_ping = None;
            return Action::SendPing(self.ping);
        }
        Action::Wait
    }

    /// When [`poll`](Self::poll) will have something to do if no event comes first.
    pub fn next_wake(&self) -> Option<Instant> {
        self.ping_deadline.or(self.next_ping)
    }
}

#[cfg(test)]
mod tests;
