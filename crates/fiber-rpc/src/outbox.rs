//! The frames of one connection that wait to be sent: many fibers push, the writer fiber takes.
//!
//! The writer takes everything that waits (up to a batch) at once, so a burst of calls or replies costs one system call.
//! The outbox is bounded by count and by bytes; what happens at the bound is the pusher's choice: refuse
//! ([`Outbox::push`]), wait ([`Outbox::wait_room`]), or go over it by one ([`Outbox::push_over`]) and wait afterwards.

use std::collections::VecDeque;
use std::time::Instant;

use fiber_runtime::Fiber;
use fiber_runtime::sync::{Spin, oneshot};

/// Why a push was refused; the item is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full { queued: usize, bytes: usize },
    Closed,
}

/// # Invariants
/// - `bytes` is the sum of the sizes in `queue`.
/// - `sleeper` is set only while the writer is about to park or parked, and then the queue was empty when it was set.
pub(crate) struct Outbox<T> {
    state: Spin<State<T>>,
    max_frames: usize,
    max_bytes: usize,
}

struct State<T> {
    queue: VecDeque<(T, usize)>,
    bytes: usize,
    /// No more pushes; the writer ends when the queue is empty.
    finishing: bool,
    /// The queue is gone; the writer ends now.
    closed: bool,
    sleeper: Option<Fiber>,
    room: Vec<oneshot::Sender<()>>,
}

impl<T> Outbox<T> {
    pub(crate) fn new(max_frames: usize, max_bytes: usize) -> Outbox<T> {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            finishing: false,
            closed: false,
            sleeper: None,
            room: Vec::new(),
        };
        Outbox { state: Spin::new(state), max_frames, max_bytes }
    }

    /// Queues an item of `size` bytes, or refuses it at the bound. An item larger than the bound passes when it is alone.
    pub(crate) fn push(&self, item: T, size: usize) -> Result<(), Refused> {
        let pushed = self.state.lock(|state| {
            let full =
                self.is_full(state) || (state.bytes + size > self.max_bytes && !state.queue.is_empty());
            if state.closed || state.finishing {
                Err((Refused::Closed, item))
            } else if full {
                Err((Refused::Full { queued: state.queue.len(), bytes: state.bytes }, item))
            } else {
                Ok(state.push_back(item, size))
            }
        });
        // The item is dropped outside the lock.
        wake(pushed.map_err(|(refused, _item)| refused)?);
        Ok(())
    }

    /// Queues an item whatever the bound says; for pushers that stop at [`is_over`](Self::is_over) themselves.
    pub(crate) fn push_over(&self, item: T, size: usize) {
        let pushed = self.state.lock(|state| {
            if state.closed || state.finishing { Err(item) } else { Ok(state.push_back(item, size)) }
        });
        if let Ok(sleeper) = pushed {
            wake(sleeper);
        }
    }

    /// Queues an item in front of all others, outside the bound. For pings, of which one is out at a time.
    pub(crate) fn push_urgent(&self, item: T) {
        let pushed = self.state.lock(|state| {
            if state.closed || state.finishing {
                return Err(item);
            }
            state.queue.push_front((item, 0));
            Ok(state.sleeper.take())
        });
        if let Ok(sleeper) = pushed {
            wake(sleeper);
        }
    }

    /// Whether the pusher should pause: the bound is reached, or nothing is taken any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock(|state| state.closed || self.is_full(state))
    }

    fn is_full(&self, state: &State<T>) -> bool {
        state.queue.len() >= self.max_frames || state.bytes >= self.max_bytes
    }

    /// Waits until an item of `size` bytes fits, or the outbox is closed: `true`; or `deadline` passes: `false`.
    pub(crate) fn wait_room(&self, size: usize, deadline: Option<Instant>) -> bool {
        let mut timed_out = false;
        loop {
            let waiting = self.state.lock(|state| {
                let full =
                    self.is_full(state) || (state.bytes + size > self.max_bytes && !state.queue.is_empty());
                if state.closed || state.finishing || !full {
                    return Err(true);
                }
                if timed_out {
                    return Err(false);
                }
                state.room.retain(|waiter| !waiter.is_closed());
                let (sender, receiver) = oneshot::channel();
                state.room.push(sender);
                Ok(receiver)
            });
            match waiting {
                Err(outcome) => return outcome,
                Ok(receiver) => match deadline {
                    None => {
                        let _ = receiver.recv();
                    }
                    Some(deadline) => {
                        let _ = receiver.recv_until(deadline);
                        timed_out = fiber_runtime::time::now() >= deadline;
                    }
                },
            }
        }
    }

    /// For the writer fiber: waits for items and moves up to `max_bytes` of them (at least one) into `items`. `false`
    /// means that there is nothing more to write, ever.
    pub(crate) fn take(&self, items: &mut Vec<T>, max_bytes: usize) -> bool {
        loop {
            let taken = self.state.lock(|state| {
                if state.closed {
                    return Some((false, Vec::new()));
                }
                if state.queue.is_empty() {
                    if state.finishing {
                        return Some((false, Vec::new()));
                    }
                    state.sleeper = Some(fiber_runtime::current());
                    return None;
                }
                let mut taken = 0;
                while let Some((item, size)) = state.queue.pop_front() {
                    items.push(item);
                    taken += size;
                    if taken >= max_bytes {
                        break;
                    }
                }
                state.bytes -= taken;
                // Waiters come back in crowds, so they are called when half of the room is free again.
                let roomy = state.queue.len() <= self.max_frames / 2 && state.bytes <= self.max_bytes / 2;
                Some((true, if roomy { std::mem::take(&mut state.room) } else { Vec::new() }))
            });
            match taken {
                Some((more, waiters)) => {
                    drop(waiters);
                    return more;
                }
                None => fiber_runtime::park(),
            }
        }
    }

    /// No more pushes; what waits is still sent.
    pub(crate) fn finish(&self) {
        let (sleeper, waiters) = self.state.lock(|state| {
            state.finishing = true;
            (state.sleeper.take(), std::mem::take(&mut state.room))
        });
        wake(sleeper);
        drop(waiters);
    }

    /// No more pushes, and what waits is dropped.
    pub(crate) fn close(&self) {
        let (queue, sleeper, waiters) = self.state.lock(|state| {
            state.closed = true;
            state.bytes = 0;
            (std::mem::take(&mut state.queue), state.sleeper.take(), std::mem::take(&mut state.room))
        });
        wake(sleeper);
        drop((queue, waiters));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock(|state| state.closed)
    }

    /// Items and bytes that wait.
    pub(crate) fn queued(&self) -> (usize, usize) {
        self.state.lock(|state| (state.queue.len(), state.bytes))
    }
}

impl<T> State<T> {
    /// Returns the writer if it sleeps: it is woken outside the lock.
    fn push_back(&mut self, item: T, size: usize) -> Option<Fiber> {
        self.queue.push_back((item, size));
        self.bytes += size;
        self.sleeper.take()
    }
}

fn wake(sleeper: Option<Fiber>) {
    if let Some(fiber) = sleeper {
        fiber.unpark();
    }
}

#[cfg(test)]
mod tests;
