//! Synchronisation for fibers and plain threads alike.
//!
//! Every primitive here may be used from a fiber (which parks and lets its worker run others), from a plain thread
//! (which sleeps) and inside a simulation. None of them rests on `parking_lot`, which puts the whole worker
//! thread to sleep, so that two fibers of one worker that contend would wait for each other for ever; nor on `std::sync`,
//! whose locks do the same unless they are [hooked](crate::hook), and know no order of arrival.
//!
//! | Type | For | Order | When a waiter leaves | Known from |
//! |---|---|---|---|---|
//! | [`Mutex`] | state that several change | FIFO; a newcomer slips in before a woken waiter once | the lock or the turn goes to the next | `std` |
//! | [`Condvar`] | waiting for a change of that state | FIFO | its notification goes to the next | `std` |
//! | [`RwLock`] | state read far more often than written | FIFO for readers and writers alike; neighbouring readers together | those behind a writer move up | `std` |
//! | [`Semaphore`] | a limit on how many do something at once | FIFO, large requests are not overtaken | its permits go to the next | `tokio` |
//! | [`Barrier`] | a point where all meet | all at once | it has not come; the others wait for one more | `std` |
//! | [`WaitGroup`] | waiting for a set of tasks | all at once | nothing | Go |
//! | [`Once`], [`OnceCell`], [`Lazy`] | something that is made once | whoever comes first; then all at once | a cancelled initialisation has not happened, another makes it | `std` |
//! | [`Notify`] | a signal without a value | FIFO | a `notify_one` goes to the next or becomes the permit | `tokio` |
//! | [`channel`] | a queue from many to many, bounded or not | FIFO on both sides; a newcomer takes a value before a woken `select!` once | its value goes back to the front, or the news to the next | `std::sync::mpsc`, crossbeam |
//! | [`oneshot`] | one value, once: the reply to a request | | the value stays | `tokio` |
//! | [`watch`] | the newest of a value | all at once; senders and readers as in [`RwLock`] | nothing | `tokio` |
//! | [`broadcast`] | every value to everybody | all at once; who lags is told how much it missed | what it had not seen is let go | `tokio` |
//! | [`select!`](crate::select!) ([`select`]) | the first of several of these | random among what is ready, in line otherwise | each of its notifications goes to the next | Go, crossbeam |
//! | [`Spin`] | a few instructions on plain data | none | | |
//!
//! # What holds for all of them
//! - **Nobody starves.** Waiters stand in line; what lets a newcomer pass does so once (the table says where). A test per
//!   primitive shows it.
//! - **Deadlines.** Every wait has a form with a deadline, named `*_until`, an instant of [`crate::time::now`] and thus
//!   virtual in a simulation. A wait that ends by it leaves nothing in line, and what was handed over at the same moment
//!   counts: it is then not reported as a timeout.
//! - **Cancellation.** A fiber that is cancelled while it waits leaves the line and unwinds. What it had been given
//!   already goes to the next (the table says what).
//! - **No poisoning**, but for [`Once`] and [`Lazy`], as in `std`: a panic while a lock is held releases it, and the data is
//!   as the panic left it.
//! - **Bounds.** What waits costs no memory but its own stack. What queues has a capacity and says what happens at it;
//!   [`channel::unbounded`] is for senders that something else limits, since a queue without any limit only moves the
//!   failure to where nobody looks.
//! - **Misuse panics** with a message: a channel or barrier of size zero, a `done` too many, an initialisation that asks for
//!   itself. A lock taken twice by one fiber waits for ever, and a dump of fibers shows it.

mod seat;
mod spin;
mod wait;

mod barrier;
mod condvar;
mod mutex;
mod notify;
mod once;
mod rwlock;
mod semaphore;
mod wait_group;

pub mod broadcast;
pub mod channel;
pub mod oneshot;
pub mod select;
pub mod watch;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use notify::{Notified, Notify};
pub use once::{Lazy, Once, OnceCell, OnceState};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedPermit, Permit, Semaphore};
pub use spin::Spin;
pub use wait_group::{WaitGroup, WaitToken};
