//! Where a channel keeps its values: a queue that grows and shrinks by chunks.
//!
//! The channel's lock is held while a value goes in or out, so no step may take long: one contiguous ring would copy
//! everything whenever it grows, and would keep the room of its worst moment for ever.

use std::collections::VecDeque;

/// Values in a chunk.
const CHUNK: usize = 256;

/// First in, first out.
///
/// # Invariants
/// `front` holds the oldest values and is empty only if everything is. Chunks of `rest` are not empty, and all but the
/// last are full; `front` holds more than a chunk if values were put back.
pub(super) struct Queue<T> {
    front: VecDeque<T>,
    rest: VecDeque<VecDeque<T>>,
    /// An empty chunk kept back, so that a queue that swings around a multiple of a chunk allocates nothing.
    spare: Option<VecDeque<T>>,
    len: usize,
}

impl<T> Queue<T> {
    /// An empty queue with room for some of `expected` values.
    pub(super) fn new(expected: usize) -> Self {
        Self {
            front: VecDeque::with_capacity(expected.min(CHUNK / 4)),
            rest: VecDeque::new(),
            spare: None,
            len: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        if self.front.len() < CHUNK && self.rest.is_empty() {
            self.front.push_back(value);
        } else {
            self.push_behind(value);
        }
        self.len += 1;
    }

    /// Puts back what was taken last.
    #[cold]
    pub(super) fn push_front(&mut self, value: T) {
        self.front.push_front(value);
        self.len += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let value = self.front.pop_front()?;
        self.len -= 1;
        if self.front.is_empty()
            && let Some(next) = self.rest.pop_front()
        {
            self.spare = Some(std::mem::replace(&mut self.front, next));
        }
        Some(value)
    }

    #[cold]
    fn push_behind(&mut self, value: T) {
        match self.rest.back_mut() {
            Some(last) if last.len() < CHUNK => last.push_back(value),
            _ => {
                let mut chunk = self.spare.take().unwrap_or_else(|| VecDeque::with_capacity(CHUNK));
                chunk.push_back(value);
                self.rest.push_back(chunk);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_in_order_across_chunks() {
        let mut queue = Queue::new(1);
        let (mut next_in, mut next_out) = (0, 0);
        // Fills by three and empties by two, then empties.
        while next_in < 10 * CHUNK {
            for _ in 0..3 {
                queue.push(next_in);
                next_in += 1;
            }
            for _ in 0..2 {
                assert_eq!(queue.pop(), Some(next_out));
                next_out += 1;
            }
            assert_eq!(queue.len(), next_in - next_out);
        }
        while let Some(value) = queue.pop() {
            assert_eq!(value, next_out);
            next_out += 1;
        }
        assert_eq!((next_out, queue.len(), queue.is_empty()), (next_in, 0, true));
    }

    #[test]
    fn an_emptied_queue_keeps_two_chunks_at_most() {
        let mut queue = Queue::new(0);
        (0..100 * CHUNK).for_each(|value| queue.push(value));
        while queue.pop().is_some() {}
        let kept = queue.front.capacity() + queue.spare.as_ref().map_or(0, VecDeque::capacity);
        assert!(queue.rest.is_empty());
        assert!(kept <= 4 * CHUNK, "room for {kept} values is kept");
    }
}
