//! The network of a simulation: it loses, delays, doubles, reorders and cuts, all by the seed.
//!
//! ```text
//!   owner fiber of node 1 -- send --> [in flight: (arrival, message)] -- network fiber, at the arrival --> deliver
//!   snapshot fiber of node 1 -- chunk --> waits for the trip -> a fiber in node 2's group takes it -> waits for the trip
//! ```
//!
//! What is in flight survives the crash of its sender, as packets do. A message that arrives at a node that is down is
//! lost; so is one whose link is cut when it is sent or when it arrives.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fiber_runtime::sim::Group;
use fiber_runtime::sync::oneshot;
use fiber_runtime::{Fiber, time};

use crate::core::{Message, NodeId};
use crate::replica::{Dropped, Transport, TransportError};
use crate::snapshot::{SnapshotAck, SnapshotChunk};

use super::faults::FaultOptions;
use super::links::Links;
use super::rng::Rng;

/// The receiving side of a node.
pub trait Receiver: Send + Sync + 'static {
    /// Takes a message. Must not block.
    fn deliver(&self, message: Message);

    /// Takes a piece of a snapshot; may block. `None` if the node stops meanwhile.
    fn deliver_chunk(&self, chunk: SnapshotChunk) -> Option<SnapshotAck>;
}

/// Asks for the crash of a node, from inside the network.
pub type CrashRequest = Box<dyn Fn(NodeId) + Send>;

/// A running node as the network knows it.
#[derive(Clone)]
struct Port {
    group: Group,
    receiver: Arc<dyn Receiver>,
}

/// A message under way, ordered by arrival.
struct InFlight {
    arrival: Instant,
    order: u64,
    message: Message,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        (self.arrival, self.order) == (other.arrival, other.order)
    }
}

impl Eq for InFlight {}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrival, self.order).cmp(&(other.arrival, other.order))
    }
}

struct State {
    rng: Rng,
    faults: FaultOptions,
    links: Links,
    ports: BTreeMap<NodeId, Port>,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    order: u64,
    carrier: Option<Fiber>,
    crash_request: Option<CrashRequest>,
    delivered: u64,
}

/// See the module's documentation.
pub struct SimNetwork {
    state: Mutex<State>,
}

impl std::fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNetwork").field("links", &self.state().links).finish_non_exhaustive()
    }
}

impl SimNetwork {
    /// A network with these faults. Call in a simulation: it spawns the fiber that carries messages.
    pub fn new(seed: u64, faults: FaultOptions) -> Arc<SimNetwork> {
        let network = Arc::new(SimNetwork {
            state: Mutex::new(State {
                rng: Rng::new(seed, "network"),
                faults,
                links: Links::new(),
                ports: BTreeMap::new(),
                in_flight: BinaryHeap::new(),
                order: 0,
                carrier: None,
                crash_request: None,
                delivered: 0,
            }),
        });
        let carried = Arc::clone(&network);
        let carrier = fiber_runtime::spawn(move || carried.carry());
        network.state().carrier = Some(carrier.fiber().clone());
        carrier.detach();
        network
    }

    /// A node is reachable from now on.
    pub fn attach(&self, id: NodeId, group: Group, receiver: Arc<dyn Receiver>) {
        self.state().ports.insert(id, Port { group, receiver });
    }

    /// A node is not reachable any more.
    pub fn detach(&self, id: NodeId) {
        let port = self.state().ports.remove(&id);
        drop(port); // Outside of the lock: the receiver may be the last handle of a replica.
    }

    /// Changes which nodes hear each other.
    pub fn with_links<T>(&self, change: impl FnOnce(&mut Links) -> T) -> T {
        change(&mut self.state().links)
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: FaultOptions) {
        self.state().faults = faults;
    }

    /// What to do when a node is to crash right after it sent a message.
    pub fn on_crash_request(&self, request: CrashRequest) {
        self.state().crash_request = Some(request);
    }

    /// How many messages arrived.
    pub fn delivered(&self) -> u64 {
        self.state().delivered
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // One thread, and no fiber suspends with the guard.
        self.state.lock().expect("no fiber panics while it holds the network")
    }

    /// The body of the network fiber.
    fn carry(&self) {
        loop {
            let now = time::now();
            let (due, next) = {
                let mut state = self.state();
                let mut due = Vec::new();
                while state.in_flight.peek().is_some_and(|Reverse(first)| first.arrival <= now) {
                    let Reverse(InFlight { message, .. }) = state.in_flight.pop().expect("one was just seen");
                    if state.links.passes(message.from, message.to)
                        && let Some(port) = state.ports.get(&message.to)
                    {
                        due.push((Arc::clone(&port.receiver), message));
                    }
                }
                state.delivered += due.len() as u64;
                (due, state.in_flight.peek().map(|Reverse(first)| first.arrival))
            };
            let idle = due.is_empty();
            for (receiver, message) in due {
                receiver.deliver(message);
            }
            if idle {
                fiber_runtime::park_until(next);
            }
        }
    }

    /// One trip of a piece of a snapshot. Waits for its arrival.
    ///
    /// # Errors
    /// When it is lost: at `deadline`, as nobody says so earlier.
    fn trip(&self, from: NodeId, to: NodeId, deadline: Instant) -> Result<(), TransportError> {
        let (lost, delay) = {
            let mut state = self.state();
            let faults = state.faults.clone();
            let lost = state.rng.chance(faults.loss) || !state.links.passes(from, to);
            (lost, state.rng.duration(&faults.delay))
        };
        time::sleep_until(deadline.min(time::now() + delay));
        if !lost && self.state().links.passes(from, to) && time::now() < deadline {
            return Ok(());
        }
        time::sleep_until(deadline);
        Err(TransportError { to, reason: "timed out".to_owned() })
    }
}

impl State {
    fn fly(&mut self, delay: Duration, message: Message) {
        self.order += 1;
        let arrival = time::now() + delay;
        self.in_flight.push(Reverse(InFlight { arrival, order: self.order, message }));
    }
}

impl Transport for SimNetwork {
    fn send(&self, message: Message) -> Result<(), Dropped> {
        let mut state = self.state();
        let state = &mut *state;
        let faults = state.faults.clone();
        if state.rng.chance(faults.crash_after(&message))
            && let Some(request) = &state.crash_request
        {
            request(message.from);
        }
        if !state.links.passes(message.from, message.to) || !state.ports.contains_key(&message.to) {
            // Half of the time the sender is told, as when a connection was refused.
            return if state.rng.chance(0.5) { Err(Dropped) } else { Ok(()) };
        }
        if state.rng.chance(faults.loss) {
            return Ok(());
        }
        if state.rng.chance(faults.duplication) {
            let delay = state.rng.duration(&faults.straggling_delay);
            state.fly(delay, message.clone());
        }
        let straggles = state.rng.chance(faults.straggling);
        let delay = state.rng.duration(if straggles { &faults.straggling_delay } else { &faults.delay });
        state.fly(delay, message);
        if let Some(carrier) = &state.carrier {
            carrier.unpark();
        }
        Ok(())
    }

    fn snapshot_chunk(&self, chunk: SnapshotChunk, deadline: Instant) -> Result<SnapshotAck, TransportError> {
        let (from, to) = (chunk.from, chunk.to);
        self.trip(from, to, deadline)?;
        let (port, again) = {
            let mut state = self.state();
            let faults = state.faults.clone();
            let again = state.rng.chance(faults.duplication);
            let again = again.then(|| state.rng.duration(&faults.straggling_delay));
            (state.ports.get(&to).cloned(), again)
        };
        let Some(Port { group, receiver }) = port else {
            return Err(TransportError { to, reason: "connection refused".to_owned() });
        };
        if let Some(delay) = again {
            let (receiver, chunk) = (Arc::clone(&receiver), chunk.clone());
            group
                .spawn(move || {
                    time::sleep(delay);
                    let _ = receiver.deliver_chunk(chunk); // Nobody waits for the answer to a copy.
                })
                .detach();
        }
        let (answer, answered) = oneshot::channel();
        group
            .spawn(move || {
                if let Some(ack) = receiver.deliver_chunk(chunk) {
                    let _ = answer.send(ack); // The sender may have given up.
                }
            })
            .detach();
        let gone = |_| TransportError { to, reason: "no answer".to_owned() };
        let ack = answered.recv_until(deadline).map_err(gone)?;
        self.trip(to, from, deadline)?;
        Ok(ack)
    }
}
