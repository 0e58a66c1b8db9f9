//! One connection of a channel: its reader, its writer, and what the driver hears from them.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fiber_runtime::net::TcpStream;
use fiber_runtime::time;

use super::calls::{Calls, Request};
use super::{Counters, Shared};
use crate::connection::{FrameReader, ReadPace, write_loop};
use crate::deadline;
use crate::error::{CallError, Disconnect, NotSent, Unknown};
use crate::frame::{Batch, Decoded, Frame, Header, HeaderRef, Kind};
use crate::outbox::Outbox;
use crate::status::Status;
use crate::watch::Watch;

/// A frame to be sent.
pub(super) enum Item {
    /// The request of an open call, fetched from [`Calls`] at the last moment.
    Call(u64),
    OneWay(Request),
    Ping(u64),
}

/// What the driver has to know.
#[derive(Default)]
pub(super) struct Events {
    /// The reader or the writer ended, and why.
    pub(super) ended: Option<Disconnect>,
    pub(super) pong: bool,
    /// A call was not answered in time.
    pub(super) suspect: bool,
    /// The owner closes the channel.
    pub(super) close: bool,
    /// The last call of a connection that is going away ended.
    pub(super) drained: bool,
}

impl Events {
    fn any(&self) -> bool {
        self.ended.is_some() || self.pong || self.suspect || self.close || self.drained
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    pub(super) outbox: Outbox<Item>,
    pub(super) calls: Calls,
    pub(super) events: Watch<Events>,
    /// The server takes no new calls here.
    going_away: AtomicBool,
    start: Instant,
    /// Nanoseconds after `start` at which the last bytes arrived.
    received: AtomicU64,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, shared: &Shared) -> Connection {
        let config = &shared.config;
        Connection {
            stream,
            outbox: Outbox::new(config.outbox_frames, config.outbox_bytes),
            calls: Calls::new(config.max_calls),
            events: Watch::new(Events::default()),
            going_away: AtomicBool::new(false),
            start: time::now(),
            received: AtomicU64::new(0),
        }
    }

    pub(super) fn is_going_away(&self) -> bool {
        // Relaxed: a call that misses the flag is answered with a status.
        self.going_away.load(Ordering::Relaxed)
    }

    /// When the last bytes arrived; the start of the connection if none did.
    pub(super) fn last_received(&self) -> Instant {
        // Relaxed: a time stamp that guards nothing.
        self.start + Duration::from_nanos(self.received.load(Ordering::Relaxed))
    }

    fn stamp(&self) {
        let nanos = time::now().saturating_duration_since(self.start).as_nanos();
        self.received.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits for an event, at most until `deadline`.
    pub(super) fn next_event(&self, deadline: Option<Instant>) -> Option<Events> {
        self.events.wait(deadline, |events| events.any().then(|| std::mem::take(events)))
    }

    /// A caller's deadline passed. The peer is under suspicion if it has been silent since the call began.
    pub(super) fn missed_deadline(&self, call_began: Instant) {
        if self.last_received() < call_began {
            self.events.update(|events| events.suspect = true);
        }
    }

    /// Called when a call ended: the last one of a connection that is going away lets the driver close it.
    pub(super) fn call_ended(&self) {
        if self.is_going_away() && self.calls.len() == 0 {
            self.events.update(|events| events.drained = true);
        }
    }

    /// Ends everything: fibers on the socket wake up, callers get their outcome.
    pub(super) fn end(&self, shared: &Shared, cause: &Arc<str>) {
        self.outbox.close();
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
        let peer = shared.peer;
        self.calls.fail_all(cause, |sent| {
            let cause = Arc::clone(cause);
            if sent {
                CallError::OutcomeUnknown { peer, reason: Unknown::ConnectionLost { cause } }
            } else {
                CallError::NotSent { peer, reason: NotSent::Disconnected { cause } }
            }
        });
    }

    fn report(&self, cause: Disconnect) {
        // The first of reader and writer to fail tells why; the other only follows.
        self.events.update(|events| {
            events.ended.get_or_insert(cause);
        });
    }

    /// Body of the writer fiber.
    pub(super) fn write(&self) {
        if let Err(cause) = write_loop(&self.stream, &self.outbox, |item, batch| self.encode(item, batch)) {
            self.report(cause);
        }
    }

    fn encode(&self, item: Item, batch: &mut Batch) {
        let now = time::now();
        let (kind, id, request) = match item {
            Item::Ping(id) => return batch.push(HeaderRef::new(Kind::Ping, id), Bytes::new()),
            Item::OneWay(request) => (Kind::OneWay, 0, request),
            Item::Call(id) => match self.calls.fetch(id, now) {
                Some(request) => (Kind::Request, id, request),
                None => return,
            },
        };
        let header = HeaderRef {
            service_name: request.service.as_bytes(),
            method_name: request.method.as_bytes(),
            deadline_us: deadline::to_wire(request.deadline, now),
            ..HeaderRef::new(kind, id)
        };
        batch.push(header, request.payload);
    }

    /// Body of the reader fiber.
    pub(super) fn read(&self, shared: &Shared) {
        let cause = self.read_frames(shared);
        self.report(cause);
    }

    fn read_frames(&self, shared: &Shared) -> Disconnect {
        let config = &shared.config;
        let pace = ReadPace {
            frame_timeout: config.frame_timeout,
            min_bytes_per_second: config.min_bytes_per_second,
        };
        let mut reader = FrameReader::new(config.frame, pace);
        let mut away = None;
        loop {
            // Between frames there is no deadline: pings watch over silence.
            match (reader.read(&self.stream, None, Duration::ZERO), away) {
                (Ok(()), before) => away = before,
                (Err(Disconnect::Eof), Some(status)) => return Disconnect::WentAway(status),
                (Err(cause), _) => return cause,
            }
            self.stamp();
            loop {
                match reader.next_frame() {
                    Err(cause) => return cause,
                    Ok(None) => break,
                    Ok(Some(Decoded::Frame(frame))) => {
                        if let Some(status) = self.handle(frame, shared) {
                            away = Some(status);
                        }
                    }
                    Ok(Some(Decoded::Oversize(header))) => self.refuse_oversize(&header, shared),
                }
            }
            // The callers that were woken go first, and their next calls leave in one send.
            fiber_runtime::yield_now();
        }
    }

    /// Handles one frame; returns why the server goes away if it says that it does.
    fn handle(&self, frame: Frame, shared: &Shared) -> Option<Status> {
        let Frame { header, payload } = frame;
        match header.kind() {
            Some(Kind::Response) => {
                let outcome = match Status::from_wire(&header) {
                    None => Ok(payload),
                    Some(status) => Err(CallError::Remote(status)),
                };
                if !self.calls.complete(header.call_id, outcome) {
                    Counters::add(&shared.counters.late_replies);
                }
            }
            Some(Kind::Pong) => self.events.update(|events| events.pong = true),
            Some(Kind::GoAway) => {
                self.going_away.store(true, Ordering::Relaxed);
                // With no call to wait for the channel closes its side now, else after the last one.
                self.call_ended();
                return Status::from_wire(&header);
            }
            // Requests have no business here; kinds of a newer version are skipped.
            Some(Kind::Ping) | Some(Kind::Request) | Some(Kind::OneWay) | Some(Kind::Cancel) | None => {}
        }
        None
    }

    fn refuse_oversize(&self, header: &Header, shared: &Shared) {
        if header.kind() != Some(Kind::Response) {
            return;
        }
        let reason =
            Unknown::ReplyTooLarge { size: header.args_size, limit: shared.config.frame.max_payload };
        self.calls.complete(header.call_id, Err(CallError::OutcomeUnknown { peer: shared.peer, reason }));
    }
}
