//! What the Redis door and the HTTP door share: accepting with a limit, knowing the connections, ending them.
//!
//! One fiber accepts, each connection is a fiber of its own. A connection is *idle* while it waits for a request and
//! *busy* while it answers one. At shutdown idle connections end at once, busy ones after their reply:
//!
//! ```text
//!            begin()                 close()
//!   Idle ──────────────► Busy    Idle ────────► Closing
//!        ◄──────────────              (by the one who stops the server)
//!             end()
//! ```
//!
//! Only one side can leave `Idle`, so no request is cut off between its arrival and its reply.

use std::io::{self, Read as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fiber_runtime::net::{TcpListener, TcpStream};
use fiber_runtime::sync::Spin;
use fiber_runtime::{Fiber, FiberBuilder, time};
use rustc_hash::FxHashMap;

use crate::metrics::{Counter, Gauge, Registry};

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const CLOSING: u8 = 2;

/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long, and over how many bytes, a client whose connection ends is still listened to.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1024 * 1024);

/// One connection; `T` is what the door wants to know about it.
pub(crate) struct Connection<T> {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) opened: Instant,
    pub(crate) data: T,
    /// Milliseconds from `opened` to the last request.
    active_ms: AtomicU64,
    state: AtomicU8,
    fiber: OnceLock<Fiber>,
}

impl<T> Connection<T> {
    /// Marks the arrival of a request. False when the server is stopping: then it must not be executed.
    pub(crate) fn begin(&self) -> bool {
        let since = time::now().saturating_duration_since(self.opened);
        self.active_ms.store(since.as_millis() as u64, Ordering::Relaxed);
        // Pairs with `close`: one of the two leaves Idle.
        self.state.compare_exchange(IDLE, BUSY, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Marks that the reply was sent.
    pub(crate) fn end(&self) {
        self.state.store(IDLE, Ordering::Release);
    }

    /// Time since the last request.
    pub(crate) fn idle_for(&self) -> Duration {
        let since = time::now().saturating_duration_since(self.opened);
        since.saturating_sub(Duration::from_millis(self.active_ms.load(Ordering::Relaxed)))
    }

    /// Ends the connection if it is idle.
    fn close(&self) {
        if self.state.compare_exchange(IDLE, CLOSING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.cancel();
        }
    }

    fn cancel(&self) {
        if let Some(fiber) = self.fiber.get() {
            fiber.cancel();
        }
    }
}

/// The connections of one door.
pub(crate) struct Front<T> {
    connections: Spin<FxHashMap<u64, Arc<Connection<T>>>>,
    stopping: AtomicBool,
    listener: OnceLock<Arc<TcpListener>>,
    next_id: AtomicU64,
    limit: usize,
    /// Sent to those who come when the limit is reached.
    refusal: &'static [u8],
    open: Arc<Gauge>,
    pub(crate) accepted: Arc<Counter>,
    pub(crate) refused: Arc<Counter>,
}

/// Takes a connection off the list when its fiber ends, in whatever way.
struct Listed<T> {
    front: Arc<Front<T>>,
    id: u64,
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        let connection = self.front.connections.lock(|connections| connections.remove(&self.id));
        drop(connection);
        self.front.open.add(-1);
    }
}

impl<T: Send + Sync + 'static> Front<T> {
    /// A door for at most `limit` connections at a time; `door` is its name in the metrics.
    pub(crate) fn new(door: &str, limit: usize, refusal: &'static [u8], metrics: &Registry) -> Arc<Self> {
        let labels = &[("door", door)];
        Arc::new(Front {
            connections: Spin::new(FxHashMap::default()),
            stopping: AtomicBool::new(false),
            listener: OnceLock::new(),
            next_id: AtomicU64::new(1),
            limit,
            refusal,
            open: metrics.gauge("kv_connections", "Open client connections.", labels),
            accepted: metrics.counter(
                "kv_connections_accepted_total",
                "Client connections accepted.",
                labels,
            ),
            refused: metrics.counter(
                "kv_connections_refused_total",
                "Client connections refused because there were too many.",
                labels,
            ),
        })
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.lock(|connections| connections.len())
    }

    /// The connections, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Connection<T>>> {
        let mut list: Vec<_> = self.connections.lock(|connections| connections.values().cloned().collect());
        list.sort_unstable_by_key(|connection| connection.id);
        list
    }

    /// Whether [`Front::stop`] was called.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Accepts until the server is stopped; runs `serve` on a fiber for each connection.
    pub(crate) fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        make: impl Fn() -> T,
        serve: impl Fn(&TcpStream, &Connection<T>) + Send + Sync + 'static,
    ) {
        let listener = self.listener.get_or_init(|| Arc::new(listener)).clone();
        let serve = Arc::new(serve);
        while !self.is_stopping() {
            match listener.accept() {
                Ok((stream, peer)) => self.welcome(stream, peer, make(), &serve),
                Err(error) if is_passing(&error) => {}
                Err(_) if self.is_stopping() => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    time::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn welcome(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        data: T,
        serve: &Arc<impl Fn(&TcpStream, &Connection<T>) + Send + Sync + 'static>,
    ) {
        if self.len() >= self.limit {
            self.refused.increment();
            // A fresh socket takes this without waiting; the deadline is for the one that does not.
            stream.set_write_deadline(Some(time::now() + Duration::from_millis(10)));
            let _ = io::Write::write_all(&mut &stream, self.refusal);
            return;
        }
        let Ok(local) = stream.local_addr() else { return };
        let _ = stream.set_nodelay(true); // without it the connection works, only slower
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            id,
            peer,
            local,
            opened: time::now(),
            data,
            active_ms: AtomicU64::new(0),
            state: AtomicU8::new(IDLE),
            fiber: OnceLock::new(),
        });
        self.connections.lock(|connections| connections.insert(id, connection.clone()));
        self.open.add(1);
        self.accepted.increment();
        let listed = Listed { front: self.clone(), id };
        let serve = serve.clone();
        FiberBuilder::new()
            .name("client")
            .spawn(move || {
                let _ = connection.fiber.set(fiber_runtime::current());
                if !listed.front.is_stopping() {
                    serve(&stream, &connection);
                }
            })
            .detach();
    }

    /// Stops accepting, ends idle connections, and waits for busy ones until `deadline` before it ends them too.
    pub(crate) fn stop(&self, deadline: Instant) {
        self.stopping.store(true, Ordering::Release);
        if let Some(listener) = self.listener.get() {
            // Wakes the accepting fiber; an error means that it was awake already.
            let _ = listener.shutdown();
        }
        while self.len() > 0 && time::now() < deadline {
            self.list().iter().for_each(|connection| connection.close());
            time::sleep(Duration::from_millis(1));
        }
        self.list().iter().for_each(|connection| connection.cancel());
    }
}

/// Ends a connection so that the last reply arrives. Closing a socket that has unread input resets the connection, and
/// the reset can overtake the reply; so the rest of the input is read away first, within limits.
pub(crate) fn linger(stream: &TcpStream) {
    let (time, mut bytes) = LINGER;
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    stream.set_read_deadline(Some(time::now() + time));
    let mut scratch = [0; 4096];
    while bytes > 0 {
        match (&*stream).read(&mut scratch) {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes = bytes.saturating_sub(read),
        }
    }
}

/// Whether the next accept may well succeed: the client went away in the meantime, or a signal came.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
