//! A mutual exclusion lock that parks the fiber, or the plain thread, that has to wait.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakeup, wait};

const LOCKED: u32 = 1;
/// Somebody is queued, so the holder must take the slow way out. Changed only under the queue's lock.
const WAITERS: u32 = 2;

/// Mutual exclusion around a value.
///
/// One atomic exchange when nobody contends. A waiter is woken in order of arrival; a newcomer may slip in before it,
/// but only once: a waiter that was woken and came too late goes to the front and has the lock handed over next time.
///
/// The guard may be held across suspension points and may move to another thread, because no thread owns the lock, but
/// long holds make long queues. Locking twice from one fiber waits for ever. There is no poisoning.
///
/// ```
/// use fiber_runtime::sync::Mutex;
///
/// let value = Mutex::new(1);
/// *value.lock() += 1;
/// assert_eq!(*value.lock(), 2);
/// ```
///
/// # Invariants
/// If the queue is not empty, `WAITERS` is set; a thread that finds it set on unlocking looks into the queue.
pub struct Mutex<T: ?Sized> {
    word: AtomicU32,
    queue: Spin<WaitList<Turn>>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, of which there is one at a time.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above: sharing the lock moves the value between threads, which needs `T: Send`.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// A waiter's standing in the queue.
struct Turn {
    /// It was woken before and came too late.
    passed_over: bool,
    /// The lock was handed to it: it holds it already when it wakes.
    handed_over: bool,
}

/// Holds a [`Mutex`]; dropping it releases the lock.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Makes the guard `Sync` only if `T` is.
    value: PhantomData<&'a mut T>,
}

impl<T> Mutex<T> {
    /// A lock around `value`, not held.
    pub const fn new(value: T) -> Self {
        Self { word: AtomicU32::new(0), queue: Spin::new(WaitList::new()), value: UnsafeCell::new(value) }
    }

    /// The value itself; nobody else can hold the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock and takes it.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_contended(None);
        }
        self.guard()
    }

    /// Waits for the lock until `deadline` and takes it.
    pub fn lock_until(&self, deadline: Instant) -> Option<MutexGuard<'_, T>> {
        let free = self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok();
        (free || self.lock_contended(Some(deadline))).then(|| self.guard())
    }

    /// Takes the lock if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            match self.word.compare_exchange_weak(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(self.guard()),
                Err(now) => word = now,
            }
        }
        None
    }

    /// The value itself, borrowed; the exclusive borrow shows that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, value: PhantomData }
    }

    /// False if the deadline passed first.
    #[cold]
    fn lock_contended(&self, deadline: Option<Instant>) -> bool {
        let mut passed_over = false;
        loop {
            let turn = Turn { passed_over, handed_over: false };
            let waited = wait(
                (&self.queue, |queue| queue),
                "mutex",
                turn,
                deadline,
                |_, _| match self.take_or_announce() {
                    true => Enter::Ready(()),
                    false if passed_over => Enter::Front,
                    false => Enter::Back,
                },
                || {},
                |queue, notified, turn, wakes| {
                    // A cancelled waiter gives back what it was given: the lock, or the turn to try for it.
                    if turn.handed_over {
                        wakes.push(self.release(queue));
                    } else if notified {
                        wakes.push(self.wake_next(queue));
                    }
                },
            );
            match waited {
                Waited::Ready(()) => return true,
                Waited::Notified(turn) if turn.handed_over => return true,
                Waited::Notified(_) => passed_over = true,
                Waited::TimedOut(_) => return false,
            }
        }
    }

    /// Under the queue's lock: takes a free lock, or leaves word for the holder that somebody will be queued.
    fn take_or_announce(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let (next, taken) = match word & LOCKED {
                0 => (word | LOCKED, true),
                _ => (word | WAITERS, false),
            };
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(now) => word = now,
            }
        }
    }

    /// Releases the lock.
    #[inline]
    fn unlock(&self) {
        // Pairs with the acquiring exchanges of the lock operations.
        if self.word.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_contended();
        }
    }

    #[cold]
    fn unlock_contended(&self) {
        if let Some(who) = self.queue.lock(|queue| self.release(queue)) {
            who.wake();
        }
    }

    /// Under the queue's lock and as the holder: hands the lock to a first waiter that was passed over before,
    /// otherwise frees it and wakes the first waiter to try for it.
    ///
    /// Plain stores suffice: while `LOCKED` is set, only the holder and those with the queue's lock change the word.
    fn release(&self, queue: &mut WaitList<Turn>) -> Option<Wakeup> {
        let held = match queue.front() {
            Some(turn) if turn.passed_over => {
                turn.handed_over = true;
                LOCKED
            }
            _ => 0,
        };
        let who = queue.notify_front();
        let waiters = if queue.is_empty() { 0 } else { WAITERS };
        // Pairs with the acquiring exchanges of the lock operations; a new holder by hand-over pairs with its node.
        self.word.store(held | waiters, Ordering::Release);
        who
    }

    /// Under the queue's lock: gives the turn to try for the lock to the next in line. If somebody holds the lock,
    /// releasing it will do that.
    fn wake_next(&self, queue: &mut WaitList<Turn>) -> Option<Wakeup> {
        if self.word.load(Ordering::Relaxed) & LOCKED != 0 {
            return None;
        }
        let who = queue.notify_front();
        if queue.is_empty() {
            // Not a store: a newcomer may be taking the free lock at this moment.
            self.word.fetch_and(!WAITERS, Ordering::Relaxed);
        }
        who
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The lock that this guard holds.
    pub fn mutex(guard: &Self) -> &'a Mutex<T> {
        guard.mutex
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one, and a shared borrow of it allows shared access only.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_struct("Mutex").field("value", &&*value).finish(),
            None => f.debug_struct("Mutex").field("value", &format_args!("<locked>")).finish(),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
