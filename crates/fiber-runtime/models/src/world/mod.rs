//! What the shipped files lean on, reduced to what a model needs of it.

pub(crate) mod blocking;
pub(crate) mod deque;
pub(crate) mod eventfd;
pub(crate) mod fiber;
pub(crate) mod io_manager;
pub(crate) mod scheduler;
pub(crate) mod stack;
pub(crate) mod statics;
pub(crate) mod sync;
pub(crate) mod waiter;

pub(crate) mod config {
    //! Settings.

    /// The settings that `scheduler/shared.rs` asks for.
    #[derive(Clone, Default)]
    pub(crate) struct Config {
        pub(crate) workers: usize,
        pub(crate) use_caller: bool,
        pub(crate) stack_probe: bool,
    }
}

pub(crate) mod monitor {
    //! The monitor: no model has one.

    pub(crate) fn worker_awake() {}
}

pub(crate) mod sys {
    //! The kernel.

    use std::cell::Cell;
    use std::io;

    pub(crate) use super::eventfd::{eventfd, eventfd_signal, wait_for_signal};

    pub(crate) fn sched_yield() {
        loom::thread::yield_now();
    }

    pub(crate) fn thread_id() -> i32 {
        1
    }

    thread_local! {
        static ON_EMPTY: Cell<fn(usize)> = const { Cell::new(|_| ()) };
    }

    /// Has `check` called with the number of every stack whose memory is given back.
    pub(crate) fn on_empty(check: fn(usize)) {
        ON_EMPTY.set(check);
    }

    pub(crate) unsafe fn madvise(address: usize, _length: usize, _advice: i32) -> io::Result<()> {
        ON_EMPTY.get()(address);
        Ok(())
    }

    pub(crate) fn membarrier() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub(crate) mod time {
    //! A clock that stands still.

    use std::sync::LazyLock;
    use std::time::Instant;

    pub(crate) fn now() -> Instant {
        static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
        *NOW
    }
}
