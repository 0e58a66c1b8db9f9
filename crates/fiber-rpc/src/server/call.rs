//! One call on the server: its checks, its run, its reply.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use fiber_runtime::{FiberBuilder, time};

use super::Shared;
use super::connection::{Connection, Reply};
use crate::deadline;
use crate::frame::{Frame, Kind};
use crate::service::{CallContext, Dispatch, Service};
use crate::status::{Code, Status};

/// A call that has been admitted to run in a fiber of its own.
///
/// # Invariants
/// - From admission to drop it is counted in its connection and in the server.
/// - A call that is not one-way is answered exactly once, even if its service panics or its fiber is cancelled.
pub(super) struct Call {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    call_id: u64,
    one_way: bool,
    bytes: usize,
    answered: bool,
}

impl Call {
    /// Handles one frame on the reader fiber. Nothing here waits but an inline method.
    pub(super) fn handle(shared: &Arc<Shared>, connection: &Arc<Connection>, frame: Frame, now: Instant) {
        let one_way = match frame.header.kind() {
            Some(Kind::Request) => false,
            Some(Kind::OneWay) => true,
            Some(Kind::Ping) => return connection.push(Reply::Pong { call_id: frame.header.call_id }),
            // Responses have no business here; kinds of a newer version are skipped.
            Some(Kind::Response | Kind::Pong | Kind::GoAway | Kind::Cancel) | None => return,
        };
        shared.counters.calls.fetch_add(1, Ordering::Relaxed);
        let call_id = frame.header.call_id;
        if let Err(status) = Call::begin(shared, connection, frame, one_way, now)
            && !one_way
        {
            connection.push(Reply::Response { call_id, result: Err(status) });
        }
    }

    /// Finds the method and runs it, or starts a fiber that will. An error is the reply.
    fn begin(
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        frame: Frame,
        one_way: bool,
        now: Instant,
    ) -> Result<(), Status> {
        let Frame { header, payload } = frame;
        let Some(service) = shared.services.get(&header.service_name[..]) else {
            return Err(Status::unknown_service(&String::from_utf8_lossy(&header.service_name)));
        };
        let Ok(method) = std::str::from_utf8(&header.method_name) else {
            return Err(Status::refusal(Code::UnknownMethod, "the method's name is not UTF-8"));
        };
        let cx = CallContext {
            peer: connection.peer,
            deadline: deadline::from_wire(header.deadline_us, now),
            one_way,
            trace_context: header.trace_context,
        };
        match service.dispatch(method) {
            Dispatch::Inline => {
                if connection.running.read(|running| running.stopping) {
                    return Err(stopping());
                }
                let result = run_inline(shared, &**service, &cx, method, payload);
                if !one_way {
                    connection.push(Reply::Response { call_id: header.call_id, result: fit(shared, result) });
                }
            }
            dispatch @ (Dispatch::Local | Dispatch::Fiber) => {
                let bytes = payload.len();
                let call = Call::admit(shared, connection, header.call_id, one_way, bytes)?;
                let (service, method) = (Arc::clone(service), header.method_name.clone());
                let body = move || {
                    let method = std::str::from_utf8(&method).expect("the reader checked the name");
                    call.run(&*service, &cx, method, payload);
                };
                // Wherever it runs, its reply comes back through the outbox.
                let builder = FiberBuilder::new().name("rpc call");
                drop(if dispatch == Dispatch::Local {
                    builder.spawn_local(body)
                } else {
                    builder.spawn(body)
                });
            }
        }
        Ok(())
    }

    /// Counts the call in, or refuses it at a limit.
    fn admit(
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        call_id: u64,
        one_way: bool,
        bytes: usize,
    ) -> Result<Call, Status> {
        let limits = &shared.limits;
        let admitted = connection.running.update_if(|running| {
            let outcome = if running.stopping {
                Err(stopping())
            } else if running.calls >= limits.max_calls_per_connection {
                Err(overloaded("too many calls on this connection"))
            } else if running.bytes + bytes > limits.max_call_bytes_per_connection && running.calls > 0 {
                Err(overloaded("too many bytes of arguments on this connection"))
            } else {
                running.calls += 1;
                running.bytes += bytes;
                Ok(())
            };
            (outcome, false)
        });
        if admitted.as_ref().is_err_and(|status| status.code() == Code::Overloaded) {
            shared.counters.overloaded.fetch_add(1, Ordering::Relaxed);
        }
        admitted?;
        // From here on the drop of `call` counts it out again. Relaxed: the counters guard no other memory.
        let calls = shared.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let call_bytes = shared.call_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut call = Call {
            shared: Arc::clone(shared),
            connection: Arc::clone(connection),
            call_id,
            one_way,
            bytes,
            answered: false,
        };
        if calls > limits.max_calls || (call_bytes > limits.max_call_bytes && calls > 1) {
            shared.counters.overloaded.fetch_add(1, Ordering::Relaxed);
            call.answered = true;
            return Err(overloaded("too many calls on this server"));
        }
        Ok(call)
    }

    /// Body of the call's fiber.
    fn run(mut self, service: &dyn Service, cx: &CallContext, method: &str, payload: Bytes) {
        let result = if expired(cx) {
            self.shared.counters.expired.fetch_add(1, Ordering::Relaxed);
            Err(deadline_passed())
        } else {
            service.call(cx, method, payload)
        };
        if !self.one_way {
            // The reply counts as running until it is queued, so waiting replies are bounded, too.
            self.connection.outbox.wait_room(0, None);
            let result = fit(&self.shared, result);
            self.answered = true;
            self.connection.push(Reply::Response { call_id: self.call_id, result });
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered && !self.one_way {
            let status = Status::new(Code::Internal, "the service did not finish the call");
            self.connection.push(Reply::Response { call_id: self.call_id, result: Err(status) });
        }
        self.shared.calls.fetch_sub(1, Ordering::Relaxed);
        self.shared.call_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.connection.running.update_if(|running| {
            running.calls -= 1;
            running.bytes -= self.bytes;
            ((), running.calls == 0 && (running.stopping || running.draining))
        });
    }
}

/// Runs a method on the reader fiber. A panic of the service costs this call, not the connection.
fn run_inline(
    shared: &Shared,
    service: &dyn Service,
    cx: &CallContext,
    method: &str,
    payload: Bytes,
) -> Result<Bytes, Status> {
    if expired(cx) {
        shared.counters.expired.fetch_add(1, Ordering::Relaxed);
        return Err(deadline_passed());
    }
    match catch_unwind(AssertUnwindSafe(|| service.call(cx, method, payload))) {
        Ok(result) => result,
        Err(panic) if panic.is::<&'static str>() || panic.is::<String>() => {
            Err(Status::new(Code::Internal, "the service panicked"))
        }
        // The runtime unwinds cancelled fibers with a payload of its own.
        Err(other) => resume_unwind(other),
    }
}

/// A reply must fit into a frame that peers accept.
fn fit(shared: &Shared, result: Result<Bytes, Status>) -> Result<Bytes, Status> {
    let limit = shared.limits.frame.max_payload;
    match result {
        Ok(payload) if payload.len() > limit => {
            let message = format!("the reply of {} bytes exceeds the limit of {limit}", payload.len());
            Err(Status::new(Code::Internal, message))
        }
        result => result,
    }
}

fn expired(cx: &CallContext) -> bool {
    cx.deadline.is_some_and(|deadline| deadline <= time::now())
}

fn stopping() -> Status {
    Status::refusal(Code::Unavailable, "the server is shutting down")
}

fn overloaded(message: &'static str) -> Status {
    Status::refusal(Code::Overloaded, message)
}

fn deadline_passed() -> Status {
    Status::refusal(Code::DeadlineExceeded, "the deadline passed before the call was started")
}
