//! Synchronisation for fibers and plain threads alike.
//!
//! Every primitive here may be used from a fiber (which parks and lets its worker run others), from a plain thread
//! (which sleeps) and inside a simulation. None of them rests on `std::sync` or `parking_lot`: those put the whole
//! worker thread to sleep, and two fibers of one worker that contend would then wait for each other for ever.
//!
//! | Type | For | When it is full or taken | Order |
//! |---|---|---|---|
//! | [`Mutex`], [`Condvar`] | state that several fibers change | waits | FIFO, bypassed at most once |
//! | [`RwLock`] | state read far more often than written | waits | FIFO, neighbouring readers together |
//! | [`Semaphore`] | a limit on how many do something at once | waits or `try_` refuses | FIFO |
//! | [`WaitGroup`] | waiting for a set of tasks | | |
//! | [`channel`] | a queue of values, many senders, many receivers | `send` waits, `try_send` gives the value back | FIFO |
//! | [`oneshot`] | one value, once: the reply to a request | never full | |
//! | [`Spin`] | a few instructions on plain data | spins, then gives the processor away | none |
//!
//! [`channel::unbounded`] is there for senders that something else limits: a queue without any limit only moves the
//! failure to where nobody looks.
//!
//! Deadlines are instants of [`crate::time::now`], so they are virtual in a simulation. A fiber that is cancelled
//! while it waits leaves the queue, and what it had been given already (a lock, a permit, a notification) goes to the
//! next in line. There is no poisoning: a panic while a lock is held releases it, and the data is as the panic left it.

mod spin;
mod wait;

mod condvar;
mod mutex;
mod rwlock;
mod semaphore;
mod wait_group;

pub mod channel;
pub mod oneshot;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedPermit, Permit, Semaphore};
pub use spin::Spin;
pub use wait_group::{WaitGroup, WaitToken};
