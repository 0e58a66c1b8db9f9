//! The clerk against a server that loses replies, refuses, and forgets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fiber_rpc::{CallContext, Server, ServerHandle, Status};
use fiber_runtime::sync::Mutex;
use fiber_runtime::{Runtime, time};

use super::{Clerk, ClerkConfig, ClerkError};
use crate::command::{CommandError, KvError, Refusal, Request, Response, decode_requests, encode_answers};
use crate::service::proto::{ExecuteRequest, ExecuteResponse, Kv, KvServer, StatusRequest, StatusResponse};
use crate::store::KvMachine;

/// What happens to one call.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is executed, and its reply is lost.
    LoseReply,
    /// It is not executed, and the caller cannot tell.
    LoseCall,
    /// It is refused.
    Refuse(Refusal),
    /// All sessions are gone before it is executed.
    Forget,
}

/// A cluster of one, without a log.
struct Fake {
    state: Mutex<State>,
    /// Said to be the leader; empty if unknown.
    leader: String,
}

struct State {
    machine: KvMachine,
    index: u64,
    faults: VecDeque<Fault>,
    writes: Vec<Request>,
}

impl Kv for Arc<Fake> {
    fn execute(&self, _cx: &CallContext, request: ExecuteRequest) -> Result<ExecuteResponse, Status> {
        let batch = decode_requests(request.batch).unwrap();
        let mut state = self.state.lock();
        let state = &mut *state;
        let fault = state.faults.pop_front();
        let mut answers = Vec::new();
        match fault {
            Some(Fault::LoseCall) => return Err(Status::application("lost")),
            Some(Fault::Refuse(reason)) => {
                answers.resize(batch.len(), Err(KvError::refused(reason)));
                return Ok(ExecuteResponse {
                    answers: encode_answers(&answers),
                    leader: self.leader.clone(),
                });
            }
            Some(Fault::Forget) => state.machine = KvMachine::new(),
            Some(Fault::LoseReply) | None => {}
        }
        for request in batch {
            match &request {
                Request::Write(command) => {
                    state.index += 1;
                    let outcome = state.machine.apply_command(state.index, command.encode());
                    state.machine.publish(state.index);
                    answers.push(Ok(Response::Written(outcome)));
                    state.writes.push(request);
                }
                Request::Read(read) => {
                    answers.push(Ok(Response::Read(state.machine.store().read(read))));
                }
            }
        }
        if let Some(Fault::LoseReply) = fault {
            return Err(Status::application("lost"));
        }
        Ok(ExecuteResponse { answers: encode_answers(&answers), leader: self.leader.clone() })
    }

    fn status(&self, _cx: &CallContext, _request: StatusRequest) -> Result<StatusResponse, Status> {
        Err(Status::application("a fake has no status"))
    }
}

fn serve(faults: &[Fault], leader: Option<SocketAddr>) -> (Arc<Fake>, ServerHandle) {
    let state = State {
        machine: KvMachine::new(),
        index: 0,
        faults: faults.iter().copied().collect(),
        writes: Vec::new(),
    };
    let leader = leader.map(|leader| leader.to_string()).unwrap_or_default();
    let fake = Arc::new(Fake { state: Mutex::new(state), leader });
    let service = KvServer::new(Arc::clone(&fake));
    let server = Server::builder().service(service).bind("127.0.0.1:0".parse().unwrap()).unwrap().spawn();
    (fake, server)
}

fn config(timeout_ms: u64) -> ClerkConfig {
    ClerkConfig { timeout: Duration::from_millis(timeout_ms), ..ClerkConfig::default() }
}

fn in_runtime(test: impl FnOnce() + Send + 'static) {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.block_on(test);
    runtime.stop(Duration::from_secs(5));
}

/// Runs `test` with a clerk of a server with these faults.
fn with_clerk(faults: &'static [Fault], test: impl FnOnce(&Clerk, &Fake) + Send + 'static) {
    in_runtime(move || {
        let (fake, server) = serve(faults, None);
        let clerk = Clerk::new(vec![server.local_addr()], config(10_000)).unwrap();
        test(&clerk, &fake);
        server.shutdown(time::now() + Duration::from_secs(1));
    });
}

#[test]
fn operations_give_what_the_store_gives() {
    with_clerk(&[], |clerk, _| {
        assert_eq!(clerk.get("k"), Ok(None));
        clerk.put("k", "a").unwrap();
        assert_eq!(clerk.append("k", "bc"), Ok(3));
        assert_eq!(clerk.get("k"), Ok(Some(Bytes::from("abc"))));
        assert_eq!(clerk.compare_and_swap("k", None, "x"), Ok((false, Some(Bytes::from("abc")))));
        assert_eq!(clerk.increment("k", 1), Err(ClerkError::Rejected(CommandError::NotAnInteger)));
        assert_eq!(clerk.increment("n", 5), Ok(5));
        let page = clerk.scan("", None, 10, false).unwrap();
        assert_eq!(page.entries.len(), 2);
        assert_eq!(clerk.delete(vec![Bytes::from("k"), Bytes::from("z")]), Ok(1));
    });
}

#[test]
fn a_write_whose_reply_was_lost_is_applied_once() {
    with_clerk(&[Fault::LoseReply, Fault::LoseReply, Fault::LoseCall, Fault::LoseReply], |clerk, fake| {
        assert_eq!(clerk.append("k", "a"), Ok(1));
        assert_eq!(clerk.append("k", "b"), Ok(2));
        let state = fake.state.lock();
        let sequences: Vec<u64> = state
            .writes
            .iter()
            .map(|request| match request {
                Request::Write(command) => command.session.expect("clerks use sessions").sequence,
                Request::Read(_) => unreachable!(),
            })
            .collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
        assert!(sequences.len() > 3, "{sequences:?}");
    });
}

#[test]
fn refusals_are_tried_again() {
    let faults = &[Fault::Refuse(Refusal::NoLeader), Fault::Refuse(Refusal::Overloaded)];
    with_clerk(faults, |clerk, fake| {
        clerk.put("k", "a").unwrap();
        assert_eq!(fake.state.lock().writes.len(), 2, "a session and a put");
    });
}

#[test]
fn a_session_that_was_evicted_between_writes_is_replaced() {
    with_clerk(&[], |clerk, fake| {
        clerk.put("k", "a").unwrap();
        fake.state.lock().faults.push_back(Fault::Forget);
        clerk.put("k", "b").unwrap();
        assert_eq!(clerk.get("k"), Ok(Some(Bytes::from("b"))));
    });
}

#[test]
fn a_session_that_was_evicted_between_attempts_leaves_the_outcome_unknown() {
    with_clerk(&[], |clerk, fake| {
        clerk.put("k", "a").unwrap();
        fake.state.lock().faults.extend([Fault::LoseReply, Fault::Forget]);
        assert!(matches!(clerk.append("k", "b"), Err(ClerkError::OutcomeUnknown { .. })));
    });
}

#[test]
fn the_deadline_tells_not_done_from_unknown() {
    in_runtime(|| {
        let (_, server) = serve(&[Fault::Refuse(Refusal::NoLeader); 1_000], None);
        let clerk = Clerk::new(vec![server.local_addr()], config(150)).unwrap();
        assert!(matches!(clerk.put("k", "a"), Err(ClerkError::NotAppended { .. })));
        assert!(matches!(clerk.get("k"), Err(ClerkError::NotAppended { .. })));

        let (fake, server) = serve(&[], None);
        let clerk = Clerk::new(vec![server.local_addr()], config(150)).unwrap();
        clerk.put("k", "a").unwrap();
        fake.state.lock().faults.extend([Fault::LoseCall; 1_000]);
        assert!(matches!(clerk.put("k", "b"), Err(ClerkError::OutcomeUnknown { .. })));
        assert!(matches!(clerk.get("k"), Err(ClerkError::NotAppended { .. })));
    });
}

#[test]
fn a_cluster_nobody_reaches_is_not_done() {
    in_runtime(|| {
        // Bound and closed again: nobody listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let clerk = Clerk::new(vec![free], config(200)).unwrap();
        assert!(matches!(clerk.put("k", "a"), Err(ClerkError::NotAppended { .. })));
    });
}

#[test]
fn the_leader_is_learned_and_asked_first() {
    in_runtime(|| {
        let (leader, server) = serve(&[], None);
        let refusals = &[Fault::Refuse(Refusal::NotLeader); 1_000];
        let (_, follower) = serve(refusals, Some(server.local_addr()));
        let clerk = Clerk::new(vec![follower.local_addr()], config(5_000)).unwrap();
        clerk.put("k", "a").unwrap();
        assert_eq!(leader.state.lock().writes.len(), 2, "a session and a put");
    });
}

#[test]
fn writes_of_many_fibers_use_sessions_of_their_own() {
    with_clerk(&[Fault::LoseReply, Fault::LoseCall, Fault::LoseReply], |clerk, fake| {
        let fibers: Vec<_> = (0..20)
            .map(|_| {
                let clerk = clerk.clone();
                fiber_runtime::spawn(move || {
                    for _ in 0..10 {
                        clerk.increment("n", 1).unwrap();
                    }
                })
            })
            .collect();
        for fiber in fibers {
            fiber.join().unwrap();
        }
        assert_eq!(clerk.get("n"), Ok(Some(Bytes::from("200"))));
        assert!(fake.state.lock().machine.summary().sessions <= 20);
    });
}
