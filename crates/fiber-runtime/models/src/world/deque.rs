//! Deques with crossbeam's names and crossbeam's orderings: what a push publishes, and what `is_empty` may overlook.
//!
//! Only the two indices are loom's; the items lie under a lock that is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use loom::sync::atomic::{AtomicUsize, Ordering, fence};

pub(crate) enum Steal<T> {
    Empty,
    Success(T),
    Retry,
}

impl<T> Steal<T> {
    pub(crate) fn success(self) -> Option<T> {
        match self {
            Steal::Success(item) => Some(item),
            Steal::Empty | Steal::Retry => None,
        }
    }

    pub(crate) fn or_else(self, other: impl FnOnce() -> Steal<T>) -> Steal<T> {
        match self {
            Steal::Success(item) => Steal::Success(item),
            Steal::Empty => other(),
            Steal::Retry => match other() {
                Steal::Success(item) => Steal::Success(item),
                Steal::Empty | Steal::Retry => Steal::Retry,
            },
        }
    }
}

struct Queue<T> {
    front: AtomicUsize,
    back: AtomicUsize,
    items: Mutex<VecDeque<T>>,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Queue { front: AtomicUsize::new(0), back: AtomicUsize::new(0), items: Mutex::default() }
    }

    fn push(&self, item: T) {
        self.items.lock().unwrap().push_back(item);
        self.back.fetch_add(1, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        let front = self.front.load(Ordering::Acquire);
        fence(Ordering::SeqCst);
        front >= self.back.load(Ordering::Acquire)
    }

    fn take(&self) -> Steal<T> {
        let front = self.front.load(Ordering::Acquire);
        fence(Ordering::SeqCst);
        if front >= self.back.load(Ordering::Acquire) {
            return Steal::Empty;
        }
        match self.front.compare_exchange(front, front + 1, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => Steal::Success(self.items.lock().unwrap().pop_front().unwrap()),
            Err(_) => Steal::Retry,
        }
    }
}

/// The owner's end.
pub(crate) struct Worker<T>(Arc<Queue<T>>);

impl<T> Worker<T> {
    pub(crate) fn new_fifo() -> Self {
        Worker(Arc::new(Queue::new()))
    }

    pub(crate) fn push(&self, item: T) {
        self.0.push(item);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        loop {
            match self.0.take() {
                Steal::Success(item) => return Some(item),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.items.lock().unwrap().len()
    }

    pub(crate) fn stealer(&self) -> Stealer<T> {
        Stealer(Arc::clone(&self.0))
    }
}

/// The thieves' end. A batch is one item: halves would only make the models larger.
pub(crate) struct Stealer<T>(Arc<Queue<T>>);

impl<T> Stealer<T> {
    pub(crate) fn steal(&self) -> Steal<T> {
        self.0.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn steal_batch_and_pop(&self, _into: &Worker<T>) -> Steal<T> {
        self.0.take()
    }
}

/// A queue that anybody pushes to.
pub(crate) struct Injector<T>(Queue<T>);

impl<T> Injector<T> {
    pub(crate) fn new() -> Self {
        Injector(Queue::new())
    }

    pub(crate) fn push(&self, item: T) {
        self.0.push(item);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn steal_batch_and_pop(&self, _into: &Worker<T>) -> Steal<T> {
        self.0.take()
    }
}
