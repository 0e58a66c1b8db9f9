//! One accepted connection: its reader, its writer, and its end.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fiber_runtime::net::TcpStream;
use fiber_runtime::{FiberBuilder, time, yield_now};

use super::call::Call;
use super::{Shared, Stage};
use crate::connection::{FrameReader, ReadPace, write_loop};
use crate::error::Disconnect;
use crate::frame::{Batch, Decoded, Header, HeaderRef, Kind};
use crate::outbox::Outbox;
use crate::status::{Code, Status};
use crate::watch::Watch;

/// Payloads above the limit are skipped up to this many times the limit; beyond that the connection is closed.
const SKIP_FACTOR: u64 = 16;
/// After a go-away for a malformed frame: how long and how much of what the peer still sends is read and dropped, because
/// closing with unread bytes would destroy the go-away on its way.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 1 << 20;

/// A frame to be sent.
pub(super) enum Reply {
    Response { call_id: u64, result: Result<Bytes, Status> },
    Pong { call_id: u64 },
    GoAway(Status),
}

impl Reply {
    fn size(&self) -> usize {
        32 + match self {
            Reply::Response { result: Ok(payload), .. } => payload.len(),
            Reply::Response { result: Err(status), .. } | Reply::GoAway(status) => status.message().len(),
            Reply::Pong { .. } => 0,
        }
    }

    fn encode(self, batch: &mut Batch) {
        let failed = |status: &Status, kind, call_id, batch: &mut Batch| {
            let header = HeaderRef {
                status_code: status.code().to_wire(),
                status_message: status.wire_message(),
                not_started: status.is_not_started(),
                ..HeaderRef::new(kind, call_id)
            };
            batch.push(header, Bytes::new());
        };
        match self {
            Reply::Response { call_id, result: Ok(payload) } => {
                batch.push(HeaderRef::new(Kind::Response, call_id), payload);
            }
            Reply::Response { call_id, result: Err(status) } => {
                failed(&status, Kind::Response, call_id, batch);
            }
            Reply::Pong { call_id } => batch.push(HeaderRef::new(Kind::Pong, call_id), Bytes::new()),
            Reply::GoAway(status) => failed(&status, Kind::GoAway, 0, batch),
        }
    }
}

/// What runs on a connection.
#[derive(Default)]
pub(super) struct Running {
    pub(super) calls: usize,
    pub(super) bytes: usize,
    /// The server stops: new calls are refused, and the last one to end wakes who waits for that.
    pub(super) stopping: bool,
    /// The reader has seen the end of the stream, and waits for the last call as well.
    pub(super) draining: bool,
}

pub(super) struct Connection {
    id: u64,
    pub(super) peer: SocketAddr,
    stream: TcpStream,
    pub(super) outbox: Outbox<Reply>,
    pub(super) running: Watch<Running>,
}

/// A connection that is counted; it leaves the count when it is dropped, however it ends.
pub(super) struct Admitted {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

/// Counts a connection in, or says why not.
pub(super) fn admit(
    shared: &Arc<Shared>,
    stream: &TcpStream,
    peer: SocketAddr,
) -> Result<Admitted, &'static str> {
    let limits = &shared.limits;
    // A socket that is gone already is found out by the first read.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(limits.write_timeout));
    let stream = stream.try_clone().map_err(|_| "no descriptor for the connection")?;
    let outbox = Outbox::new(limits.reply_queue_frames, limits.reply_queue_bytes);
    let connection = shared.state.update_if(|state| {
        if state.stage != Stage::Serving {
            return (Err("the server is stopping"), false);
        }
        if state.connections.len() >= limits.max_connections {
            return (Err("too many connections"), false);
        }
        state.last_id += 1;
        let running = Watch::new(Running::default());
        let connection = Arc::new(Connection { id: state.last_id, peer, stream, outbox, running });
        state.connections.insert(connection.id, Arc::clone(&connection));
        (Ok(connection), false)
    });
    let counters = &shared.counters;
    let counter = if connection.is_ok() { &counters.accepted } else { &counters.refused };
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(Admitted { shared: Arc::clone(shared), connection: connection? })
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connection.cut();
        let gone = self.shared.state.update(|state| state.connections.remove(&self.connection.id));
        // The socket may close here, outside the lock.
        drop(gone);
    }
}

impl Admitted {
    /// Body of the connection's reader fiber.
    pub(super) fn run(self) {
        let (shared, connection) = (&self.shared, &self.connection);
        let builder = FiberBuilder::new().name(format!("rpc writer of {}", connection.peer));
        let writer = builder.spawn_local({
            let connection = Arc::clone(connection);
            move || connection.write()
        });
        let cause = connection.read_frames(shared);
        tracing::debug!(peer = %connection.peer, %cause, "connection ends");
        match cause {
            Disconnect::Eof => connection.drain(shared),
            Disconnect::Frame(_) => {
                shared.counters.malformed.fetch_add(1, Ordering::Relaxed);
                connection.push(Reply::GoAway(Status::invalid_argument(cause.to_string())));
                connection.outbox.finish();
                connection.farewell();
            }
            _ => connection.cut(),
        }
        // It ends because the outbox is finished or closed.
        let _ = writer.join();
    }
}

impl Connection {
    /// Queues a reply over the bound; the reader stops at the bound itself.
    pub(super) fn push(&self, reply: Reply) {
        let size = reply.size();
        self.outbox.push_over(reply, size);
    }

    fn write(&self) {
        if let Err(cause) = write_loop(&self.stream, &self.outbox, Reply::encode) {
            tracing::debug!(peer = %self.peer, %cause, "connection cannot be written");
            self.cut();
        }
    }

    fn read_frames(self: &Arc<Self>, shared: &Arc<Shared>) -> Disconnect {
        let limits = &shared.limits;
        let pace = ReadPace {
            frame_timeout: limits.frame_timeout,
            min_bytes_per_second: limits.min_bytes_per_second,
        };
        let mut reader = FrameReader::new(limits.frame, pace);
        let mut idle = limits.handshake_timeout;
        let mut idle_since = time::now();
        loop {
            if !self.wait_for_room() {
                return Disconnect::Closed;
            }
            match reader.read(&self.stream, Some(idle_since + idle), idle) {
                Ok(()) => {}
                // Long calls keep their connection.
                Err(Disconnect::Idle(_)) if self.calls_running() > 0 => {
                    idle_since = time::now();
                    continue;
                }
                Err(cause) => return cause,
            }
            let now = time::now();
            let mut frames = 0;
            loop {
                let header = match reader.next_frame() {
                    Err(cause) => return cause,
                    Ok(None) => break,
                    Ok(Some(Decoded::Frame(frame))) => {
                        Call::handle(shared, self, frame, now);
                        None
                    }
                    Ok(Some(Decoded::Oversize(header))) => Some(header),
                };
                if let Some(cause) = header.and_then(|header| self.refuse_oversize(shared, &header)) {
                    return cause;
                }
                frames += 1;
                if self.outbox.is_over() && !self.wait_for_room() {
                    return Disconnect::Closed;
                }
            }
            if frames > 0 {
                idle = limits.idle_timeout;
                idle_since = now;
                // Lets the writer and the calls run even if the socket always has more.
                yield_now();
            }
        }
    }

    /// A peer that does not read its replies is not listened to; the write timeout ends this wait. `false` if it did.
    fn wait_for_room(&self) -> bool {
        self.outbox.wait_room(0, None);
        !self.outbox.is_closed()
    }

    /// Answers a request whose payload is too large; its bytes are skipped unless they are out of all proportion.
    fn refuse_oversize(&self, shared: &Shared, header: &Header) -> Option<Disconnect> {
        let limit = shared.limits.frame.max_payload;
        if header.kind() == Some(Kind::Request) {
            let message = format!("arguments of {} bytes exceed the limit of {limit}", header.args_size);
            let result = Err(Status::refusal(Code::InvalidArgument, message));
            self.push(Reply::Response { call_id: header.call_id, result });
        }
        let hopeless = header.args_size > SKIP_FACTOR.saturating_mul(limit as u64);
        hopeless.then(|| crate::frame::FrameError::PayloadTooLarge { size: header.args_size, limit }.into())
    }

    /// The peer sends no more, but may still read: its calls are finished and answered.
    fn drain(&self, shared: &Shared) {
        self.running.update(|running| running.draining = true);
        let deadline = time::now() + shared.limits.write_timeout;
        self.wait_calls(deadline);
        self.outbox.finish();
    }

    fn wait_calls(&self, deadline: Instant) {
        self.running
            .wait(Some(deadline), |running| (running.calls == 0 || self.outbox.is_closed()).then_some(()));
    }

    /// Gives the go-away a chance to arrive before the close.
    fn farewell(&self) {
        self.stream.set_read_deadline(Some(time::now() + FAREWELL));
        let mut sink = vec![0; 16 << 10];
        let mut read = 0;
        while read < FAREWELL_BYTES {
            match (&self.stream).read(&mut sink) {
                Ok(0) | Err(_) => break,
                Ok(n) => read += n,
            }
        }
    }

    pub(super) fn calls_running(&self) -> usize {
        self.running.read(|running| running.calls)
    }

    /// The server stops: says so, and refuses new calls from here on.
    pub(super) fn go_away(&self) {
        self.running.update(|running| running.stopping = true);
        self.push(Reply::GoAway(Status::new(Code::Unavailable, "the server is shutting down")));
    }

    /// Waits until no call runs and every reply is on its way.
    pub(super) fn wait_idle(&self, deadline: Instant) {
        self.wait_calls(deadline);
    }

    /// Ends the connection now.
    pub(super) fn cut(&self) {
        self.outbox.close();
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
        // Whoever waits for the calls looks at the outbox as well.
        self.running.update(|_| ());
    }
}
