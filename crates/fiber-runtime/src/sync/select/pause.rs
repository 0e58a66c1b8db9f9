//! How the caller of a `select!` sleeps. A fiber parks, a plain thread sleeps, and a plain thread with descriptors among
//! its arms polls them together with an eventfd through which the other arms wake it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use libc::pollfd;

use super::Selectable;
use super::arm::Caller;
use crate::fiber::deadline as limit;
use crate::net::op;
use crate::waiter::{self, Sleeper, Woken};
use crate::{sys, time};

/// How the caller waits.
pub(super) struct Pause {
    /// Whom the arms wake.
    pub(super) who: Caller,
    /// On a plain thread with descriptors: what `who` writes to.
    event: Option<Arc<OwnedFd>>,
}

impl Pause {
    pub(super) fn new(arms: &[&mut dyn Selectable]) -> Self {
        if crate::in_fiber() || arms.iter().all(|arm| arm.descriptor().is_none()) {
            return Self { who: Caller(Sleeper::current()), event: None };
        }
        let event = Arc::new(sys::eventfd().expect("a thread that selects on descriptors gets an eventfd"));
        Self { who: Caller(Sleeper::Event(Arc::clone(&event))), event: Some(event) }
    }

    pub(super) fn wait(&self, arms: &[&mut dyn Selectable], until: Option<Instant>) -> Woken {
        match &self.event {
            None => waiter::wait("select", until),
            Some(event) => poll(event, arms, until),
        }
    }
}

fn poll(event: &OwnedFd, arms: &[&mut dyn Selectable], until: Option<Instant>) -> Woken {
    let (until, is_limit) = limit::bound(until);
    let left = until.map(|until| until.saturating_duration_since(time::now()));
    let own = pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let theirs = arms.iter().filter_map(|arm| arm.descriptor());
    let theirs = theirs.map(|(fd, events)| pollfd { fd, events, revents: 0 });
    let mut fds: Vec<pollfd> = std::iter::once(own).chain(theirs).collect();
    match op::poll(&mut fds, left) {
        Ok(0) if left.is_some_and(|left| left.is_zero()) && is_limit => Woken::Cancelled,
        Ok(0) if left.is_some_and(|left| left.is_zero()) => Woken::TimedOut,
        // An interrupted poll is a look for nothing. So is one that has failed: the arms find out why.
        Ok(_) | Err(_) => {
            let _ = sys::read(event.as_raw_fd(), &mut [0; 8]);
            Woken::Signal
        }
    }
}
