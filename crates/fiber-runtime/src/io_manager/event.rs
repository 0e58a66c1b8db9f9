//! One-shot events on descriptors. Each is a fiber that waits; whoever takes the entry out of the table, the fiber
//! when the descriptor is ready or a caller who cancels, owns what is to be fired.

use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::spawn_named;
use crate::net::op;
use crate::reactor::Interest;
use crate::sync::{Spin, oneshot};
use crate::{Fiber, Handle};

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Bytes, a connection, the end of the stream, or an error to collect.
    Read,
    /// Room for bytes, the end of a connect, or an error to collect.
    Write,
}

/// What an event fires.
pub(super) enum Target {
    Callback(Box<dyn FnOnce() + Send>),
    Fiber(Fiber),
}

impl Target {
    /// On a fiber of the event's own.
    fn fire(self) {
        match self {
            Self::Callback(callback) => callback(),
            Self::Fiber(fiber) => fiber.unpark(),
        }
    }

    /// From wherever.
    pub(super) fn fire_from_outside(self, runtime: &Handle) {
        match self {
            Self::Callback(callback) => drop(runtime.spawn(callback)),
            Self::Fiber(fiber) => fiber.unpark(),
        }
    }
}

/// The pending events.
#[derive(Default)]
pub(super) struct Events(Spin<Table>);

#[derive(Default)]
struct Table {
    next_id: u64,
    entries: FxHashMap<(RawFd, Event), Entry>,
}

struct Entry {
    /// Tells this event from a later one of the same descriptor and direction.
    id: u64,
    target: Target,
    /// The fiber that waits.
    waits: Fiber,
}

impl Events {
    pub(super) fn add(
        self: &Arc<Self>,
        runtime: &Handle,
        fd: RawFd,
        event: Event,
        target: Target,
    ) -> io::Result<()> {
        if fd < 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("an event on descriptor {fd}")));
        }
        let id = self.0.lock(|table| {
            table.next_id += 1;
            table.next_id
        });
        // The fiber begins once its event is in the table; whoever removes the event finds the fiber to cancel there.
        let (begin, begun) = oneshot::channel();
        let events = Arc::clone(self);
        let waits = spawn_named(runtime, "event", move || {
            if begun.recv().is_err() {
                return;
            }
            wait(fd, event);
            if let Some(target) = events.take(fd, event, id) {
                target.fire();
            }
        });
        let refused = self.0.lock(|table| match table.entries.entry((fd, event)) {
            Slot::Occupied(_) => Some(target),
            Slot::Vacant(vacant) => {
                vacant.insert(Entry { id, target, waits });
                None
            }
        });
        if refused.is_some() {
            let message = format!("descriptor {fd} has a {event:?} event already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        // It fails only if the runtime has stopped, and the fiber with it.
        let _ = begin.send(());
        Ok(())
    }

    /// Takes an event out and ends its fiber.
    pub(super) fn remove(&self, fd: RawFd, event: Event) -> Option<Target> {
        let entry = self.0.lock(|table| table.entries.remove(&(fd, event)))?;
        // It waits, or is about to find that there is nothing to fire: no code of the user's is cancelled.
        entry.waits.cancel();
        Some(entry.target)
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock(|table| table.entries.len())
    }

    fn take(&self, fd: RawFd, event: Event, id: u64) -> Option<Target> {
        self.0.lock(|table| {
            table.entries.get(&(fd, event)).filter(|entry| entry.id == id)?;
            table.entries.remove(&(fd, event)).map(|entry| entry.target)
        })
    }
}

/// Waits until the descriptor is ready, has failed or is closed: each is for the callback to find out.
fn wait(fd: RawFd, event: Event) {
    let interest = match event {
        Event::Read => Interest::Read,
        Event::Write => Interest::Write,
    };
    let _ = op::until_ready(fd, interest, None);
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("pending", &self.len()).finish()
    }
}
