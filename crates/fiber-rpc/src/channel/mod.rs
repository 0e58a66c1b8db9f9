//! Channels: one peer, one connection at a time, many calls at once.
//!
//! ```text
//!  caller ── open a call, queue its id ──►  outbox ──► writer fiber ──► socket
//!     ▲                                                                   │
//!     └────────── oneshot ◄── calls by id ◄── reader fiber ◄──────────────┘
//!
//!  driver fiber: connects, pings, declares the peer gone, reconnects with back-off
//! ```
//!
//! [`Channel`] is a cheap handle on `Shared`; the fibers hold `Shared`, too, and end when the last handle is dropped.

mod calls;
mod config;
mod connection;
mod driver;
mod state;
mod stats;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use fiber_runtime::{Handle, time};

pub use self::config::ChannelConfig;
pub use self::stats::ChannelStats;

use self::calls::{GaveUp, Request};
use self::connection::{Connection, Item};
use self::state::{Phase, State};
use self::stats::Counters;
use crate::error::{CallError, NotSent, Unknown};
use crate::frame::{HeaderRef, Kind};
use crate::health::ChannelState;
use crate::outbox;
use crate::watch::Watch;

/// A way to one peer: calls with replies, and one-way sends.
///
/// It connects on first use (or on [`connect`](Self::connect)), multiplexes all calls over that connection, watches over the
/// peer with pings, and reconnects without end. Nothing is retried by itself: see [`CallError`]. Cloning is cheap;
/// when the last clone is dropped the connection is closed.
///
/// All methods work in fibers of any worker and in plain threads.
#[derive(Clone)]
pub struct Channel {
    handle: Arc<Owner>,
}

/// Closes the channel when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

pub(crate) struct Shared {
    peer: SocketAddr,
    config: ChannelConfig,
    runtime: Handle,
    state: Watch<State>,
    /// Callers inside [`Channel::call`], those that wait for a connection included.
    in_call: AtomicUsize,
    counters: Counters,
}

impl Channel {
    /// A channel to `peer`. Nothing happens before it is used.
    ///
    /// # Panics
    /// Outside a runtime: the channel's fibers need one. Inside, it may be used by plain threads, too.
    pub fn new(peer: SocketAddr, config: ChannelConfig) -> Channel {
        let runtime = Handle::try_current().expect("Channel::new is called in a fiber of a runtime");
        Channel::new_on(runtime, peer, config)
    }

    /// As [`new`](Self::new), from anywhere: the channel's fibers run on `runtime`.
    pub fn new_on(runtime: Handle, peer: SocketAddr, config: ChannelConfig) -> Channel {
        let state = State { phase: Phase::Idle, health: ChannelState::Disconnected };
        let shared = Shared {
            peer,
            config,
            runtime,
            state: Watch::new(state),
            in_call: AtomicUsize::new(0),
            counters: Counters::default(),
        };
        Channel { handle: Arc::new(Owner { shared: Arc::new(shared) }) }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.shared().peer
    }

    /// Starts connecting, without waiting, if nothing has started it before.
    pub fn connect(&self) {
        self.shared().start();
    }

    /// Calls a method and waits for its reply, at most until `deadline` (of [`time::now`]'s clock).
    ///
    /// While the channel makes its first connection, or a new one after a back-off, the call waits for it; during a back-off
    /// it fails at once. When the outbox is full it waits for room.
    ///
    /// # Errors
    /// See [`CallError`]; only [`CallError::NotSent`] is safe to retry.
    pub fn call(
        &self,
        service: impl Into<Cow<'static, str>>,
        method: impl Into<Cow<'static, str>>,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let shared = self.shared();
        let request =
            Request { service: service.into(), method: method.into(), deadline: Some(deadline), payload };
        Counters::add(&shared.counters.calls);
        let _in_call = InCall::enter(&shared.in_call);
        shared.call(request, deadline).map_err(|failure| failure.at(shared.peer))
    }

    /// Sends a message that is not answered, without waiting for anything. That it was taken does not mean that it arrives.
    ///
    /// # Errors
    /// [`CallError::NotSent`] if there is no connection now, or the outbox is full.
    pub fn send(
        &self,
        service: impl Into<Cow<'static, str>>,
        method: impl Into<Cow<'static, str>>,
        payload: Bytes,
    ) -> Result<(), CallError> {
        let shared = self.shared();
        let request = Request { service: service.into(), method: method.into(), deadline: None, payload };
        shared.send(request).map_err(|reason| CallError::NotSent { peer: shared.peer, reason })
    }

    /// What the channel believes about its peer now.
    pub fn state(&self) -> ChannelState {
        self.shared().state.read(|state| state.health)
    }

    /// Waits until the state is another than `from`, and returns it; `None` once `deadline` has passed.
    pub fn wait_state_change(&self, from: ChannelState, deadline: Instant) -> Option<ChannelState> {
        self.shared().state.wait(Some(deadline), |state| (state.health != from).then_some(state.health))
    }

    /// Waits until the state is `wanted`; `false` once `deadline` has passed.
    pub fn wait_state(&self, wanted: ChannelState, deadline: Instant) -> bool {
        self.shared().state.wait(Some(deadline), |state| (state.health == wanted).then_some(())).is_some()
    }

    /// Callers that wait for a reply now.
    pub fn in_flight(&self) -> usize {
        // Relaxed: an estimate of load.
        self.shared().in_call.load(Ordering::Relaxed)
    }

    /// Figures since the channel was made.
    pub fn stats(&self) -> ChannelStats {
        let shared = self.shared();
        let connection = shared.state.read(|state| match &state.phase {
            Phase::Connected(connection) => Some(Arc::clone(connection)),
            _ => None,
        });
        let (outbox_frames, outbox_bytes) =
            connection.map_or((0, 0), |connection| connection.outbox.queued());
        let counters = &shared.counters;
        ChannelStats {
            calls_in_flight: self.in_flight(),
            calls: counters.calls.load(Ordering::Relaxed),
            connects: counters.connects.load(Ordering::Relaxed),
            connect_failures: counters.connect_failures.load(Ordering::Relaxed),
            pings: counters.pings.load(Ordering::Relaxed),
            late_replies: counters.late_replies.load(Ordering::Relaxed),
            state_changes: counters.state_changes.load(Ordering::Relaxed),
            outbox_frames,
            outbox_bytes,
        }
    }

    /// Closes the connection for all handles and for good. Calls in flight end as unknown.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Whether nobody else holds this channel: what the pool asks before it discards one.
    pub(crate) fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.handle) == 1
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("peer", &self.peer())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

struct InCall<'a>(&'a AtomicUsize);

impl InCall<'_> {
    fn enter(counter: &AtomicUsize) -> InCall<'_> {
        counter.fetch_add(1, Ordering::Relaxed);
        InCall(counter)
    }
}

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A failure before the peer's address is added to it.
enum Failure {
    NotSent(NotSent),
    Unknown(Unknown),
    Whole(CallError),
}

impl From<NotSent> for Failure {
    fn from(reason: NotSent) -> Failure {
        Failure::NotSent(reason)
    }
}

impl Failure {
    fn at(self, peer: SocketAddr) -> CallError {
        match self {
            Failure::NotSent(reason) => CallError::NotSent { peer, reason },
            Failure::Unknown(reason) => CallError::OutcomeUnknown { peer, reason },
            Failure::Whole(error) => error,
        }
    }
}

/// Takes a call off the table when its caller leaves without an outcome, by a panic or a cancellation.
struct OpenCall<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.connection.calls.give_up(self.id);
        self.connection.call_ended();
    }
}

impl Shared {
    fn call(self: &Arc<Shared>, request: Request, deadline: Instant) -> Result<Bytes, Failure> {
        self.check_size(&request)?;
        let began = time::now();
        if deadline <= began {
            return Err(NotSent::DeadlineExceeded.into());
        }
        let connection = self.connection(deadline)?;
        let size = request.size();
        let (id, reply) = connection.calls.open(request).map_err(|refused| match refused {
            calls::Refused::TooManyCalls => NotSent::TooManyCalls { limit: self.config.max_calls },
            calls::Refused::Ended(cause) => NotSent::Disconnected { cause },
        })?;
        let _open = OpenCall { connection: &connection, id };
        // If the outbox is closed the connection is over, and the outcome is in `reply` or soon will be.
        while let Err(outbox::Refused::Full { queued, bytes }) = connection.outbox.push(Item::Call(id), size)
        {
            if !connection.outbox.wait_room(size, Some(deadline)) {
                return Err(NotSent::OutboxFull { queued, bytes }.into());
            }
        }
        if let Ok(outcome) = reply.recv_until(deadline) {
            return outcome.map_err(Failure::Whole);
        }
        match connection.calls.give_up(id) {
            GaveUp::Unsent => Err(NotSent::DeadlineExceeded.into()),
            GaveUp::Sent => {
                connection.missed_deadline(began);
                Err(Failure::Unknown(Unknown::DeadlineExceeded))
            }
            // The reply and the deadline met; the reply was first.
            GaveUp::TooLate => match reply.recv_until(time::now() + std::time::Duration::from_secs(1)) {
                Ok(outcome) => outcome.map_err(Failure::Whole),
                Err(_) => Err(Failure::Unknown(Unknown::DeadlineExceeded)),
            },
        }
    }

    fn send(self: &Arc<Shared>, request: Request) -> Result<(), NotSent> {
        self.check_size(&request)?;
        let connection = self.state.read(|state| match &state.phase {
            Phase::Connected(connection) => Ok(Arc::clone(connection)),
            Phase::Closed => Err(NotSent::Closed),
            Phase::Waiting { cause } => Err(NotSent::Disconnected { cause: Arc::clone(cause) }),
            Phase::Idle | Phase::Connecting => Err(NotSent::Disconnected { cause: "connecting".into() }),
        });
        let connection = connection.inspect_err(|_| self.start())?;
        if connection.is_going_away() {
            return Err(NotSent::GoingAway);
        }
        let size = request.size();
        connection.outbox.push(Item::OneWay(request), size).map_err(|refused| match refused {
            outbox::Refused::Full { queued, bytes } => NotSent::OutboxFull { queued, bytes },
            outbox::Refused::Closed => NotSent::Disconnected { cause: "the connection just ended".into() },
        })
    }

    fn check_size(&self, request: &Request) -> Result<(), NotSent> {
        let limits = &self.config.frame;
        if request.payload.len() > limits.max_payload {
            return Err(NotSent::TooLarge { size: request.payload.len(), limit: limits.max_payload });
        }
        let header = HeaderRef {
            service_name: request.service.as_bytes(),
            method_name: request.method.as_bytes(),
            args_size: u64::MAX,
            deadline_us: u64::MAX,
            ..HeaderRef::new(Kind::OneWay, u64::MAX)
        };
        let size = header.encoded_len();
        if size > limits.max_header {
            return Err(NotSent::TooLarge { size, limit: limits.max_header });
        }
        Ok(())
    }
}
