//! What the test files share: a runtime of a given size, and waiting for a state with a deadline.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![allow(dead_code, reason = "each test file uses its share")]

pub(crate) mod beside;

pub(crate) mod waits;

pub(crate) mod storm;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fiber_runtime::Runtime;

/// Far longer than anything here takes: a test that reaches it has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).name("test").build().unwrap()
}

/// Runs `body` as a fiber of a runtime with `workers` workers and returns its result. One that hangs fails.
#[track_caller]
pub(crate) fn on_fibers<T: Send + 'static>(workers: usize, body: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = runtime(workers);
    match runtime.spawn(body).join_timeout(PATIENCE) {
        Ok(Ok(result)) => {
            let _ = runtime.stop(PATIENCE);
            result
        }
        Ok(Err(failed)) => failed.resume(),
        Err(_) => panic!("the test hangs: {}", runtime.stop(Duration::ZERO)),
    }
}

/// Both ends of a TCP connection of the process with itself.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Waits until `state` holds, from a fiber or a thread.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut state: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !state() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        fiber_runtime::time::sleep(Duration::from_micros(200));
    }
}

/// An instant `millis` from now, of the runtime's clock.
pub(crate) fn in_millis(millis: u64) -> Instant {
    fiber_runtime::time::now() + Duration::from_millis(millis)
}
