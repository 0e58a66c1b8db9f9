//! The libc symbols that blocking code calls, defined here so that they park the fiber instead of the thread.
//!
//! `std::net`, `std::os::unix::net`, `std::thread::sleep` and C libraries that are linked in call libc by name, and the
//! linker prefers a definition in the program to the one in the C library. So code that knows nothing of fibers
//! cooperates. The kernel is reached by raw system calls: there is no `dlsym` (but for the symbols that have no system
//! call behind them), and no way back into a hook.
//!
//! Which code may be called, and what to mind: [`guide`].
//!
//! # What is hooked
//! In a fiber, an operation is tried without blocking (`MSG_DONTWAIT`; the descriptor itself stays blocking) and the
//! fiber parks if it would have blocked: the same functions that [`crate::net`] uses. Elsewhere the call is the plain
//! system call, except where the table says otherwise.
//!
#![doc = include_str!("table.md")]
//!
//! # What is left alone
//! Run what blocks the worker on the blocking pool: [`offload`](crate::offload()).
//!
#![doc = include_str!("left_alone.md")]
//!
//! # Locks
//! `Mutex`, `RwLock`, `Condvar`, `Once`, `OnceLock`, `LazyLock` and `Barrier` of `std::sync` make a fiber wait and not its
//! worker. Fibers of any worker and plain threads may share one, and a fiber may hold one across whatever it waits for. Such
//! a wait is not ended by cancellation nor by the deadline of a scope. [`crate::sync`] has the same and more, in order of
//! arrival where std has none, at less cost.
//!
//! These wait in ways that no second fiber of a thread may join, and block the worker: `std::thread::park`, and so
//! `std::sync::mpsc`, `std::thread::scope` and `crossbeam-channel`; `parking_lot`. Use [`crate::park`],
//! [`crate::sync::channel`], [`crate::scope`](fn@crate::scope) and [`crate::sync`]. While a fiber blocks its worker so,
//! wakes that other fibers of this worker were given stay with them: a thread whose turn depends on one of them waits as
//! long.
//!
//! A global allocator that waits for a lock of `std` does so inside [`no_yield`](crate::no_yield): the runtime, too,
//! allocates, at moments when a fiber must not be left.
//!
//! # Thread-locals
//! `thread_local!` is shared by the fibers of a worker, and a library that notes in one what the *thread* is doing is
//! wrong about its fibers. Tokio's are an exception: each fiber has them for itself, so that blocking clients that are made
//! of asynchronous ones (`postgres`) work, as many at once as there are fibers. This needs the program's symbols, which
//! `strip = true` removes: [`private_thread_locals`] says what was found. `tokio::task_local!` remains shared.
//!
//! # What callers may rely on
//! - `errno` and return values are the kernel's: `SO_RCVTIMEO` and `SO_SNDTIMEO` expire with `EAGAIN`, a descriptor
//!   with `O_NONBLOCK` gives `EAGAIN` at once, reads are short when less is there, `clock_nanosleep` returns the error
//!   number. A call that succeeds leaves `errno` as it was.
//! - No signal ends the wait of a fiber: `EINTR` comes from plain calls only, such as `ppoll` with a mask that lets blocked
//!   signals in. Handlers run on the worker's thread meanwhile, or on any other.
//! - `O_NONBLOCK` and socket timeouts are asked of the kernel when a call first has to wait for a descriptor, and again after
//!   the process has set either on any descriptor. Whoever sets them past libc (by a raw system call, or in another process
//!   that shares the open file) after a fiber has waited for that descriptor is not heard until then.
//! - `connect` of a blocking socket makes its open file `O_NONBLOCK` for the microseconds that the system call takes, because
//!   it has no flag of its own for that. Another thread that uses the same socket just then may get `EAGAIN`.
//! - A call on a descriptor that another fiber or thread closes, or of a fiber that is cancelled, fails with
//!   `ECANCELED`; but a cancelled fiber still writes to descriptors with `O_NONBLOCK`, as signal handlers do. Sleeps of a cancelled fiber end early and report success, because no caller expects anything else.
//! - Past the deadline of a scope ([`crate::with_deadline`]) a call fails as if a time-out of its own had expired:
//!   `EAGAIN` for sockets and pipes, `EINPROGRESS` for `connect`; `poll`, `select` and `epoll_wait` report nothing ready, sleeps end early.
//!   What does not wait in any case, on a descriptor with `O_NONBLOCK`, is done as ever.
//! - A hook never unwinds, and blocks the thread instead of switching while its fiber unwinds from a panic.
//! - A fiber may hold a lock of `std::sync` across a hooked call. Writes to a log file or to descriptors 0
//!   to 2 are plain.
//! - There is no non-blocking `accept` for a blocking descriptor, so a connection that a fiber has seen must not be gone
//!   when it takes it: once a fiber has accepted through its hook, all fibers and threads of the process that do so take
//!   turns. Two cases are left in which the worker may block until the next connection: a listener that another *process*
//!   accepts from, and a thread that was inside `accept` before the first fiber came. Use [`crate::net::TcpListener`],
//!   or `O_NONBLOCK`, there.
//! - An `accept` that fails for want of descriptors or memory says so after a millisecond, so that a loop that goes on
//!   accepting does not keep the worker.

use std::cell::Cell;

use crate::scheduler::worker::Worker;

mod private;
mod self_test;

#[cfg(feature = "hook")]
mod anonymous;
#[cfg(feature = "hook")]
pub(crate) mod blocking;
#[cfg(feature = "hook")]
mod epoll;
#[cfg(feature = "hook")]
mod fortify;
#[cfg(feature = "hook")]
pub(crate) mod futex;
#[cfg(feature = "hook")]
mod kind;
#[cfg(feature = "hook")]
mod lock;
#[cfg(feature = "hook")]
mod mask;
#[cfg(all(feature = "hook", not(target_feature = "crt-static")))]
mod name;
#[cfg(feature = "hook")]
mod naps;
#[cfg(feature = "hook")]
mod outcome;
#[cfg(feature = "hook")]
mod poll;
#[cfg(feature = "hook")]
mod process;
#[cfg(feature = "hook")]
mod select;
#[cfg(feature = "hook")]
mod several;
#[cfg(feature = "hook")]
mod sleep;
#[cfg(feature = "hook")]
pub(crate) mod socket;
#[cfg(feature = "hook")]
mod symbols;
#[cfg(feature = "hook")]
mod thread;
#[cfg(feature = "hook")]
pub(crate) mod thread_locals;
#[cfg(feature = "hook")]
mod transfer;
#[cfg(feature = "hook")]
mod vectors;

#[doc = include_str!("guide.md")]
///
#[doc = include_str!("table.md")]
#[doc = include_str!("guide_dangers.md")]
pub mod guide {}

pub use private::{PrivateThreadLocals, ThreadLocalsError, private_thread_locals};
pub(crate) use self_test::check_at_start;
pub use self_test::{HookError, self_test};

/// Whether blocking libc calls of the caller park its fiber: it is in one, hooks are compiled in, and it is not inside
/// [`disabled`].
pub fn enabled() -> bool {
    cfg!(feature = "hook") && is_cooperative()
}

/// Runs `body` with plain system calls: blocking calls in it block the worker. For code that must not be interrupted
/// by other fibers of the worker. It concerns the calling fiber only; on a plain thread, whose calls are plain anyway,
/// it keeps `accept` from taking turns with fibers.
///
/// For good: [`FiberBuilder::hooks`](crate::FiberBuilder::hooks) for one fiber, [`Builder::hooks`](crate::Builder::hooks) for the
/// threads and fibers of one runtime.
pub fn disabled<T>(body: impl FnOnce() -> T) -> T {
    /// Restores the state also when `body` unwinds.
    struct Restore;

    impl Drop for Restore {
        fn drop(&mut self) {
            count(u32::wrapping_sub);
        }
    }

    fn count(change: fn(u32, u32) -> u32) {
        let in_fiber =
            Worker::with_current_fiber(|_, fiber| fiber.hooks_off.set(change(fiber.hooks_off.get(), 1)));
        if in_fiber.is_none() {
            THREAD_OFF.set(change(THREAD_OFF.get(), 1));
        }
    }

    count(u32::wrapping_add);
    let _restore = Restore;
    body()
}

thread_local! {
    /// Nested calls of [`disabled`] outside a fiber.
    static THREAD_OFF: Cell<u32> = const { Cell::new(0) };
}

/// The names of the symbols that are defined, in the order of the table above. None without the feature `hook`.
pub fn symbols() -> impl Iterator<Item = &'static str> {
    #[cfg(feature = "hook")]
    return symbols::TABLE.iter().copied().flatten().map(|symbol| symbol.name);
    #[cfg(not(feature = "hook"))]
    std::iter::empty()
}

/// Whether the caller is in a fiber that has not switched its hooks off.
#[inline]
fn is_cooperative() -> bool {
    Worker::with_current_fiber(|_, fiber| fiber.hooks_off.get() == 0) == Some(true)
}

/// Whether a plain thread called [`disabled`].
#[cfg(feature = "hook")]
fn is_off_for_thread() -> bool {
    THREAD_OFF.get() != 0
}

/// Makes the linker take the symbols into every program that makes a runtime: an object file of an archive is taken
/// only if something refers to it.
pub(crate) fn link() {
    #[cfg(feature = "hook")]
    for symbol in symbols::TABLE.iter().copied().flatten() {
        std::hint::black_box(symbol.address);
    }
}

#[cfg(all(test, feature = "hook"))]
mod tests {
    use std::collections::BTreeSet;

    /// The first column of the documented table.
    fn documented() -> BTreeSet<&'static str> {
        let rows = include_str!("table.md").lines().skip(2);
        rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2)).collect()
    }

    #[test]
    fn the_documented_table_has_just_the_symbols_that_are_defined() {
        let defined: BTreeSet<_> = super::symbols().collect();
        assert_eq!(documented(), defined);
    }
}
