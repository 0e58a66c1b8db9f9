//! How the caller of a `select!` sleeps. A fiber parks, a plain thread sleeps, and a plain thread with descriptors among
//! its arms polls them together with an eventfd through which the other arms wake it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libc::pollfd;

use super::Selectable;
use super::arm::Caller;
use crate::fiber::deadline as limit;
use crate::net::op;
use crate::waiter::{self, Sleeper, Woken};
use crate::{sys, time};

/// How long a thread polls at a time when the process has no descriptor left for its eventfd.
const STEP: Duration = Duration::from_millis(1);

/// The caller while it waits.
pub(super) struct Pause {
    /// Whom the arms wake.
    pub(super) who: Caller,
    way: Way,
}

enum Way {
    Park,
    /// The eventfd that `who` writes to.
    Poll(Arc<OwnedFd>),
    PollInSteps,
}

impl Pause {
    pub(super) fn new(arms: &[&mut dyn Selectable]) -> Self {
        if crate::in_fiber() || arms.iter().all(|arm| arm.descriptor().is_none()) {
            return Self { who: Caller(Sleeper::current()), way: Way::Park };
        }
        match sys::eventfd().map(Arc::new) {
            Ok(event) => Self { who: Caller(Sleeper::Event(Arc::clone(&event))), way: Way::Poll(event) },
            Err(_) => Self { who: Caller(Sleeper::current()), way: Way::PollInSteps },
        }
    }

    pub(super) fn wait(&self, arms: &[&mut dyn Selectable], until: Option<Instant>) -> Woken {
        match &self.way {
            Way::Park => waiter::wait("select", until),
            Way::Poll(event) => poll(Some(event), arms, until),
            Way::PollInSteps => poll(None, arms, until),
        }
    }
}

fn poll(event: Option<&OwnedFd>, arms: &[&mut dyn Selectable], until: Option<Instant>) -> Woken {
    let (until, is_limit) = limit::bound(until);
    let left = until.map(|until| until.saturating_duration_since(time::now()));
    let own = event.map(|event| (event.as_raw_fd(), libc::POLLIN));
    let theirs = arms.iter().filter_map(|arm| arm.descriptor());
    let all = own.into_iter().chain(theirs);
    let mut fds: Vec<pollfd> = all.map(|(fd, events)| pollfd { fd, events, revents: 0 }).collect();
    let patience = match event {
        Some(_) => left,
        None => Some(left.map_or(STEP, |left| left.min(STEP))),
    };
    match op::poll(&mut fds, patience) {
        Ok(0) if left.is_some_and(|left| left.is_zero()) => {
            if is_limit {
                Woken::Cancelled
            } else {
                Woken::TimedOut
            }
        }
        // An interrupted poll is a look for nothing. So is one that has failed: the arms find out why.
        Ok(_) | Err(_) => {
            if let Some(event) = event {
                let _ = sys::read(event.as_raw_fd(), &mut [0; 8]);
            }
            Woken::Signal
        }
    }
}
