//! Stretches of code in which a fiber keeps its worker whatever it waits for.
//!
//! Most code may be interrupted by other fibers wherever it waits. Some may not: what runs inside a global allocator or
//! between two halves of a change to a thread-local. There a wait blocks the thread, as it does while the fiber unwinds
//! from a panic: events, timers and wakes are served, but no other fiber of the worker runs.

use std::marker::PhantomData;

use crate::scheduler::worker::Worker;

/// Runs `body` without giving way: a wait in it blocks the worker's thread, [`yield_now`](crate::yield_now) does nothing,
/// and neither cancellation nor the deadline of a scope ends its waits: it is not unwound. Outside a fiber it makes no
/// difference.
///
/// It allocates nothing, so that a global allocator may use it. What `body` waits for must come from another worker,
/// another thread, the kernel or a timer: fibers of this worker do not run meanwhile, and waiting for one of them is a
/// deadlock. Hooked libc calls hold as well; to make them plain system calls, see
/// [`hook::disabled`](crate::hook::disabled).
///
/// ```
/// use std::{cell::Cell, time::Duration};
/// use fiber_runtime::{Runtime, no_yield, spawn_local, time};
///
/// thread_local!(static DEPTH: Cell<u32> = const { Cell::new(0) });
///
/// let runtime = Runtime::builder().workers(1).build().unwrap();
/// runtime.block_on(|| {
///     let other = spawn_local(|| DEPTH.get());
///     no_yield(|| {
///         DEPTH.set(1);
///         time::sleep(Duration::from_millis(2)); // No fiber of this worker sees the 1.
///         DEPTH.set(0);
///     });
///     assert_eq!(other.join().unwrap(), 0);
/// });
/// ```
pub fn no_yield<T>(body: impl FnOnce() -> T) -> T {
    let _hold = Hold::take();
    body()
}

/// Whether the calling fiber is inside [`no_yield`].
pub(super) fn is_held() -> bool {
    Worker::with_current_fiber(|_, fiber| fiber.attention.is_held()) == Some(true)
}

/// While it lives, the calling fiber keeps its worker.
struct Hold {
    /// Whether this is the outermost one.
    first: bool,
    not_send: PhantomData<*mut ()>,
}

impl Hold {
    fn take() -> Self {
        let first = Worker::with_current_fiber(|_, fiber| fiber.attention.hold()) == Some(true);
        Hold { first, not_send: PhantomData }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.first {
            Worker::with_current_fiber(|_, fiber| fiber.attention.let_go());
        }
    }
}
