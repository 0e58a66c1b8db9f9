//! Names to addresses. `getaddrinfo` takes as long as the name server likes and cannot be interrupted, so it runs on the
//! blocking pool, under a fiber of its own: whoever asked may stop waiting.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::op::Stop;
use crate::fiber::cancel;
use crate::scheduler::worker::Worker;
use crate::sync::Spin;
use crate::waiter::{self, Waiter, Woken};
use crate::{FiberBuilder, offload, with_deadline};

type Answer = io::Result<Vec<SocketAddr>>;

/// The addresses of `host`, each with `port`, in the order in which they should be tried. The system's resolver is asked
/// on the blocking pool; in a plain thread, here.
///
/// # Errors
/// The name is not known, or the lookup failed. In a fiber whose deadline passes ([`crate::with_deadline`]) or that is
/// cancelled this ends early; the lookup itself goes on in the pool, and nobody waits for it.
pub fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    super::ToSocketAddrs::to_socket_addrs(&(host, port))
}

/// As [`lookup`], until `deadline`; `None` is for ever.
///
/// # Errors
/// As [`lookup`], and `ErrorKind::TimedOut` at the deadline (in a plain thread, after the lookup).
pub fn lookup_until(host: &str, port: u16, deadline: Option<Instant>) -> io::Result<Vec<SocketAddr>> {
    bounded(deadline, || lookup(host, port))
}

/// Runs a call that may look up names until `deadline`.
pub(super) fn bounded<T>(deadline: Option<Instant>, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match deadline {
        None => call(),
        Some(deadline) => with_deadline(deadline, call).unwrap_or_else(|elapsed| Err(elapsed.into())),
    }
}

/// Where the lookup leaves its answer.
struct Desk {
    answer: Spin<Option<Answer>>,
    asker: Waiter,
}

/// The lookup's duty to answer, also when it is cancelled.
struct Duty(Arc<Desk>);

impl Duty {
    fn answer(&self, answer: Answer) {
        self.0.answer.lock(|slot| *slot = Some(answer));
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        self.0.answer.lock(|slot| {
            slot.get_or_insert_with(|| Err(io::Error::other("the name lookup did not end")));
        });
        self.0.asker.wake();
    }
}

/// Looks a name up without holding the worker, and for no longer than the fiber may wait.
pub(super) fn look_up(name: impl net::ToSocketAddrs + Send + 'static) -> Answer {
    let find = move || net::ToSocketAddrs::to_socket_addrs(&name).map(Iterator::collect);
    let interruptible = crate::in_fiber() && !std::thread::panicking();
    if !interruptible || Worker::with_current(|worker| worker.sim().is_some()) == Some(true) {
        return offload(find);
    }
    let desk = Arc::new(Desk { answer: Spin::new(None), asker: Waiter::current() });
    let duty = Duty(Arc::clone(&desk));
    drop(FiberBuilder::new().name("name lookup").spawn_local(move || duty.answer(offload(find))));
    loop {
        if let Some(answer) = desk.answer.lock(Option::take) {
            return answer;
        }
        match waiter::wait("name lookup", None) {
            Woken::Signal => {}
            Woken::TimedOut | Woken::Cancelled => {
                return Err(cancel::stop_of_call().unwrap_or(Stop::TimedOut).into());
            }
        }
    }
}
