//! Channels by peer: many users, few connections.
//!
//! A channel carries many calls at once, so the pool hands the same one to everybody and opens another connection to a
//! peer only when all of them are busy. The seed's pool lent a connection to one caller at a time; its counters
//! (created, reused, discarded) and its key, the peer's address, are kept.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fiber_runtime::{FiberBuilder, Handle, time};
use rustc_hash::FxHashMap;

use crate::channel::{Channel, ChannelConfig};
use crate::health::ChannelState;
use crate::watch::Watch;

/// Figures of a [`Pool`].
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Figures of each channel.
    pub channel: ChannelConfig,
    /// Connections to one peer. Default 4.
    pub max_connections_per_peer: usize,
    /// A peer gets another connection when each of its channels has more calls in flight than this. Default 256.
    pub calls_per_connection: usize,
    /// A channel that nobody asked for or holds for so long is closed. Default 60 s.
    pub idle_timeout: Duration,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        PoolConfig {
            channel: ChannelConfig::default(),
            max_connections_per_peer: 4,
            calls_per_connection: 256,
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// What a pool has done so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Channels made.
    pub created: u64,
    /// Requests answered with a channel that existed.
    pub reused: u64,
    /// Channels closed because they were idle.
    pub discarded: u64,
    /// Channels held now.
    pub channels: usize,
    /// Peers known now.
    pub peers: usize,
}

impl PoolStats {
    /// The share of requests that made no connection, from 0 to 1.
    pub fn reuse_ratio(&self) -> f64 {
        let requests = self.created + self.reused;
        if requests == 0 { 0.0 } else { self.reused as f64 / requests as f64 }
    }
}

/// A pool of [`Channel`]s, keyed by peer. Cheap to clone; the channels are closed when the last clone and the last holder of a
/// channel are gone.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

/// Ends the sweeper when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The channels close here, outside the lock.
        drop(self.shared.state.update(|state| {
            state.closed = true;
            std::mem::take(&mut state.peers)
        }));
    }
}

struct Shared {
    config: PoolConfig,
    runtime: Handle,
    state: Watch<State>,
}

#[derive(Default)]
struct State {
    peers: FxHashMap<SocketAddr, Vec<Entry>>,
    stats: PoolStats,
    sweeping: bool,
    closed: bool,
}

struct Entry {
    channel: Channel,
    last_used: Instant,
}

impl Pool {
    /// An empty pool.
    ///
    /// # Panics
    /// Outside a runtime (as [`Channel::new`]), or if a peer may have no connection at all.
    pub fn new(config: PoolConfig) -> Pool {
        assert!(config.max_connections_per_peer > 0, "a peer needs at least one connection");
        let runtime = Handle::try_current().expect("Pool::new is called in a fiber of a runtime");
        let shared = Shared { config, runtime, state: Watch::new(State::default()) };
        Pool { owner: Arc::new(Owner { shared: Arc::new(shared) }) }
    }

    /// The channel to `peer` with the fewest calls in flight; a new one if there is none, or if all are busy and one
    /// more is allowed. It never waits: a new channel connects when it is used.
    pub fn channel(&self, peer: SocketAddr) -> Channel {
        let shared = &self.owner.shared;
        let (channel, sweep) = shared.state.update_if(|state| (shared.choose(state, peer), false));
        if sweep {
            let shared = Arc::clone(shared);
            let (runtime, builder) = (shared.runtime.clone(), FiberBuilder::new().name("rpc pool sweeper"));
            drop(runtime.spawn_with(builder, move || shared.sweep_until_closed()));
        }
        channel
    }

    /// What the pool has done so far, and what it holds.
    pub fn stats(&self) -> PoolStats {
        self.owner.shared.state.read(|state| PoolStats {
            channels: state.peers.values().map(Vec::len).sum(),
            peers: state.peers.len(),
            ..state.stats
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns the channel, and whether the sweeper is to be started.
    fn choose(&self, state: &mut State, peer: SocketAddr) -> (Channel, bool) {
        let now = time::now();
        let entries = state.peers.entry(peer).or_default();
        // A channel that answers before one that does not, then the one with less to do.
        let best = entries
            .iter_mut()
            .min_by_key(|entry| (entry.channel.state() != ChannelState::Healthy, entry.channel.in_flight()));
        if let Some(entry) = best {
            let busy = entry.channel.in_flight() > self.config.calls_per_connection;
            // A second connection to a peer that does not answer on the first would not help.
            let grow = busy && entry.channel.state() == ChannelState::Healthy;
            let channel = entry.channel.clone();
            entry.last_used = now;
            if !grow || entries.len() >= self.config.max_connections_per_peer {
                state.stats.reused += 1;
                return (channel, false);
            }
        }
        let channel = Channel::new_on(self.runtime.clone(), peer, self.config.channel.clone());
        entries.push(Entry { channel: channel.clone(), last_used: now });
        state.stats.created += 1;
        (channel, !std::mem::replace(&mut state.sweeping, true))
    }

    /// Body of the sweeper fiber: it exists while there are channels.
    fn sweep_until_closed(&self) {
        let pause = (self.config.idle_timeout / 2).max(Duration::from_millis(1));
        loop {
            let closed = self.state.wait(Some(time::now() + pause), |state| state.closed.then_some(()));
            if closed.is_some() || self.sweep() {
                return;
            }
        }
    }

    /// Closes what is idle; `true` if nothing is left to watch.
    fn sweep(&self) -> bool {
        let now = time::now();
        let (idle, done) = self.state.update_if(|state| {
            let mut idle = Vec::new();
            for entries in state.peers.values_mut() {
                for entry in entries.iter_mut().filter(|entry| !entry.channel.is_unshared()) {
                    entry.last_used = now;
                }
                idle.extend(
                    entries.extract_if(.., |entry| now - entry.last_used >= self.config.idle_timeout),
                );
            }
            state.peers.retain(|_, entries| !entries.is_empty());
            state.stats.discarded += idle.len() as u64;
            let done = state.peers.is_empty();
            if done {
                state.sweeping = false;
            }
            ((idle, done), false)
        });
        // The channels close here, outside the lock.
        drop(idle);
        done
    }
}
