//! The owner's end of a channel to somebody it must not wait for.

use std::collections::VecDeque;

use fiber_runtime::sync::channel::{Sender, TrySendError};

/// A bounded channel with a queue before it. The queue has no bound of its own: what waits here is bounded by the
/// windows of the core, which go on only when the receiver reports progress.
pub(super) struct Outbox<T> {
    sender: Sender<T>,
    waiting: VecDeque<T>,
}

impl<T> Outbox<T> {
    pub(super) fn new(sender: Sender<T>) -> Outbox<T> {
        Outbox { sender, waiting: VecDeque::new() }
    }

    /// Queues `value`; it goes out with the next [`Outbox::flush`].
    pub(super) fn push(&mut self, value: T) {
        self.waiting.push_back(value);
    }

    /// Gives the channel what it takes. True if something still waits; a receiver that is gone takes everything.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(value) = self.waiting.pop_front() {
            match self.sender.try_send(value) {
                Ok(()) => {}
                Err(TrySendError::Full(value)) => {
                    self.waiting.push_front(value);
                    return true;
                }
                Err(TrySendError::Closed(_)) => {
                    self.waiting.clear();
                    return false;
                }
            }
        }
        false
    }
}
