//! A lock for many readers or one writer.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakes, wait};

/// Many readers or one writer.
///
/// Strictly in order of arrival: a reader that comes after a waiting writer waits behind it, so neither kind starves,
/// and readers that stand together in the queue get in together. For the same reason a fiber that reads must not read
/// again before it is done: with a writer queued in between it would wait for itself.
///
/// ```
/// use fiber_runtime::sync::RwLock;
///
/// let lock = RwLock::new(vec![1]);
/// lock.write().push(2);
/// let (one, other) = (lock.read(), lock.read());
/// assert_eq!(one.len() + other.len(), 4);
/// ```
pub struct RwLock<T: ?Sized> {
    state: Spin<State>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through guards: many shared ones or a single exclusive one.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: readers share the value between threads (`T: Sync`), writers move it between threads (`T: Send`).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

struct State {
    readers: usize,
    writing: bool,
    waiters: WaitList<Kind>,
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

impl State {
    /// Takes the lock if its present holders allow it.
    fn take(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Read if !self.writing => self.readers += 1,
            Kind::Write if !self.writing && self.readers == 0 => self.writing = true,
            Kind::Read | Kind::Write => return false,
        }
        true
    }

    fn give_back(&mut self, kind: Kind) {
        match kind {
            Kind::Read => self.readers -= 1,
            Kind::Write => self.writing = false,
        }
    }

    /// Hands the lock to as many from the front of the queue as may hold it together.
    fn admit(&mut self, wakes: &mut Wakes) {
        while let Some(&mut kind) = self.waiters.front() {
            if !self.take(kind) {
                return;
            }
            wakes.push(self.waiters.notify_front());
        }
    }
}

impl<T> RwLock<T> {
    /// A lock around `value`, not held.
    pub const fn new(value: T) -> Self {
        let state = State { readers: 0, writing: false, waiters: WaitList::new() };
        Self { state: Spin::new(state), value: UnsafeCell::new(value) }
    }

    /// The value itself; nobody else can hold the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes, and shares the value.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.take(Kind::Read, None);
        RwLockReadGuard { lock: self, value: PhantomData }
    }

    /// As [`RwLock::read`], at most until `deadline`.
    pub fn read_until(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, T>> {
        self.take(Kind::Read, Some(deadline)).then(|| RwLockReadGuard { lock: self, value: PhantomData })
    }

    /// Waits until nobody else reads or writes, and takes the value.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.take(Kind::Write, None);
        RwLockWriteGuard { lock: self, value: PhantomData }
    }

    /// As [`RwLock::write`], at most until `deadline`.
    pub fn write_until(&self, deadline: Instant) -> Option<RwLockWriteGuard<'_, T>> {
        self.take(Kind::Write, Some(deadline)).then(|| RwLockWriteGuard { lock: self, value: PhantomData })
    }

    /// Shares the value if nobody writes or waits to write.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.try_take(Kind::Read).then(|| RwLockReadGuard { lock: self, value: PhantomData })
    }

    /// Takes the value if nobody reads, writes or waits.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.try_take(Kind::Write).then(|| RwLockWriteGuard { lock: self, value: PhantomData })
    }

    /// The value itself, borrowed; the exclusive borrow shows that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn try_take(&self, kind: Kind) -> bool {
        self.state.lock(|state| state.waiters.is_empty() && state.take(kind))
    }

    /// False if the deadline passed first.
    fn take(&self, kind: Kind, deadline: Option<Instant>) -> bool {
        let waited = wait(
            (&self.state, |state| &mut state.waiters),
            "rwlock",
            kind,
            deadline,
            |state, _| match state.waiters.is_empty() && state.take(kind) {
                true => Enter::Ready(()),
                false => Enter::Back,
            },
            || {},
            |state, notified, _, wakes| {
                if notified {
                    state.give_back(kind);
                }
                // A writer that leaves may have held up the readers behind it.
                state.admit(wakes);
            },
        );
        !matches!(waited, Waited::TimedOut(_))
    }

    fn give_back(&self, kind: Kind) {
        let mut wakes = Wakes::new();
        self.state.lock(|state| {
            state.give_back(kind);
            state.admit(&mut wakes);
        });
        wakes.wake();
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Shares the value of an [`RwLock`] with other readers.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    value: PhantomData<&'a T>,
}

/// Holds the value of an [`RwLock`] alone.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    value: PhantomData<&'a mut T>,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: as long as a read guard lives, there is no write guard.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one, and a shared borrow of it allows shared access only.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.give_back(Kind::Read);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.give_back(Kind::Write);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(value) => f.debug_struct("RwLock").field("value", &&*value).finish(),
            None => f.debug_struct("RwLock").field("value", &format_args!("<locked>")).finish(),
        }
    }
}
