//! What a channel is under its lock: the values, who waits, and who is told what.

use super::queue::Queue;
use crate::sync::wait::{WaitList, Wakes, Wakeup};

/// # Invariants
/// Senders wait only while the queue is full, receivers only while nothing is there that is not promised. If receivers
/// wait, every value in the queue was announced to one that is on its way. A value that is handed over is in no queue.
pub(super) struct State<T> {
    pub(super) queue: Queue<T>,
    pub(super) capacity: usize,
    pub(super) senders: usize,
    pub(super) receivers: usize,
    /// The receivers are gone or want no more.
    pub(super) closed: bool,
    /// How many of the queued values are kept for receivers that were passed over and are on their way.
    pub(super) promised: usize,
    /// How much room is kept for senders that were granted it and are on their way with their values.
    pub(super) granted: usize,
    pub(super) sending: WaitList<Offer<T>>,
    pub(super) receiving: WaitList<Want<T>>,
}

/// What a waiting sender has in the queue. A sender that is notified before its offer was accepted was refused.
#[derive(Default)]
pub(super) enum Offer<T> {
    /// Its value, which whoever makes room moves into the queue.
    Value(T),
    /// The wish for room. The value stays with the sender, which may yet do something else (`select!`).
    #[default]
    Room,
    /// The value was taken, or room is kept for it.
    Accepted,
}

/// What a waiting receiver has in the queue.
pub(super) enum Want<T> {
    /// The next value, which whoever has one hands over.
    Value,
    /// Here it is.
    Handed(T),
    /// The news that a value is there. It stays in the queue, for the receiver may yet do something else (`select!`).
    News(Turn),
}

impl<T> Default for Want<T> {
    /// That of one who has just come and may yet do something else.
    fn default() -> Self {
        Want::News(Turn::default())
    }
}

/// The standing of a receiver that waits for news.
#[derive(Clone, Copy, Default)]
pub(super) struct Turn {
    /// It was woken before and came too late: a newcomer had taken the value.
    pub(super) passed_over: bool,
    /// One of the queued values is kept for it.
    pub(super) promised: bool,
}

impl<T> State<T> {
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() + self.granted >= self.capacity
    }

    /// How many values anybody may take.
    #[inline]
    pub(super) fn available(&self) -> usize {
        self.queue.len() - self.promised
    }

    /// After the last value: closed for receivers.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && (self.senders == 0 || self.closed)
    }

    /// Hands a value to the first receiver, or queues it; there is room.
    #[inline(always)]
    pub(super) fn put(&mut self, value: T) -> Option<Wakeup> {
        if let Some(want @ Want::Value) = self.receiving.front() {
            *want = Want::Handed(value);
            return self.receiving.notify_front();
        }
        self.queue.push(value);
        self.announce()
    }

    /// There is a value that anybody may take: gives it to the first receiver, or tells it. One that was passed over gets a
    /// promise, so that it is not passed over for ever.
    pub(super) fn announce(&mut self) -> Option<Wakeup> {
        match self.receiving.front()? {
            want @ Want::Value => *want = Want::Handed(self.queue.pop().expect("a value is available")),
            Want::News(turn) if turn.passed_over => {
                turn.promised = true;
                self.promised += 1;
            }
            Want::News(_) => {}
            Want::Handed(_) => unreachable!("a receiver with a value does not wait"),
        }
        self.receiving.notify_front()
    }

    /// Takes up to `max` values, in order, and lets waiting senders fill the room.
    #[inline(never)]
    pub(super) fn take(&mut self, max: usize, wakes: &mut Wakes, mut out: impl FnMut(T)) -> usize {
        let count = self.available().min(max);
        for _ in 0..count {
            out(self.queue.pop().expect("a value is there for each that is available"));
        }
        self.admit(wakes);
        // Others may wait although everything had been sent: what was left was promised.
        if self.is_drained() {
            self.receiving.notify_all(wakes);
        }
        count
    }

    /// Fills the room there is from the senders that wait, in order.
    #[inline]
    pub(super) fn admit(&mut self, wakes: &mut Wakes) {
        while !self.is_full() {
            let Some(offer) = self.sending.front() else { return };
            match std::mem::replace(offer, Offer::Accepted) {
                Offer::Value(value) => {
                    wakes.push(self.sending.notify_front());
                    wakes.push(self.put(value));
                }
                Offer::Room => {
                    self.granted += 1;
                    wakes.push(self.sending.notify_front());
                }
                Offer::Accepted => unreachable!("a sender whose offer was accepted does not wait"),
            }
        }
    }

    /// A receiver that was notified leaves without taking anything: what it was given, told of or promised is somebody
    /// else's. A value that comes back is the oldest.
    pub(super) fn pass_on(&mut self, want: &mut Want<T>, wakes: &mut Wakes) {
        match std::mem::replace(want, Want::Value) {
            Want::Handed(value) => self.queue.push_front(value),
            Want::News(Turn { promised: true, .. }) => self.promised -= 1,
            Want::News(_) | Want::Value => {}
        }
        if self.available() > 0 {
            wakes.push(self.announce());
            self.admit(wakes);
        }
    }

    /// Takes no more values.
    pub(super) fn close(&mut self, wakes: &mut Wakes) {
        self.closed = true;
        self.sending.notify_all(wakes);
        self.receiving.notify_all(wakes);
    }
}
