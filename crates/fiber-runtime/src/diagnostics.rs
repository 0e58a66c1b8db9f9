//! Seeing what fibers do.
//!
//! # Dumps
//! [`dump`] (or [`Handle::dump`](crate::Handle::dump), for one runtime) lists every fiber: number, name, state, what it
//! waits for and since when, and the functions it is in. [`dump_on_signal`] prints that whenever the process gets a
//! signal. Nothing is recorded in advance, so a program that is not asked pays nothing.
//!
//! A worker lists its fibers between two resumes. One that stays in a fiber for a fifth of a second is interrupted by a
//! signal (SIGURG, to that thread alone), and its fibers are read in the handler.
//!
//! # Hogs
//! A fiber gives its worker back when it waits. One that computes for long, or blocks in something that is not hooked,
//! keeps every other fiber of its worker waiting. The monitor, a thread of the process, looks at each worker every half
//! [limit](crate::Builder::hog_limit) and names a fiber that has not given way for the limit, with its backtrace
//! ([`HogReport`]): as a warning through `tracing`, at most once a second; to the runtime's
//! [callback](crate::Builder::on_hog); in [`WorkerMetrics::hogs`](crate::WorkerMetrics::hogs). It is reported again when it
//! has gone on for ten times as long. When there is neither a subscriber for warnings nor a callback, hogs are counted and
//! nobody is interrupted.
//!
//! Other workers take the un-started fibers that are queued behind a hog. Those that have started wait for it: a fiber
//! never changes its worker. What to do: give way in long loops ([`yield_now`](crate::yield_now)), or run the work in
//! [`offload`](crate::offload).
//!
//! Time in which the worker's thread was ready and the system ran others is not held against the fiber. The monitor costs
//! a worker nothing. While the process is busy it looks some hundred times a second; while every worker sleeps, so does it.
//!
//! # Waits that block the worker
//! Some waits are seen by the hooks and cannot be made to park the fiber: `std::thread::park` and what rests on it
//! (`std::sync::mpsc`, `std::thread::scope`, crossbeam-channel), `parking_lot`, other users of the kernel's futexes. The first
//! of each kind is reported, with the fiber's name, a backtrace and what to use in its place: as a warning through
//! `tracing`, and in [`blocking_waits`]. All are counted, in
//! [`WorkerMetrics::blocking_waits`](crate::WorkerMetrics::blocking_waits).
//!
//! # Stack sizes
//! A stack costs address space, and memory only as far as it is used: the size matters little as long as it is enough. To
//! choose one, build the runtime with [`stack_probe`](crate::Builder::stack_probe), let it do everything it does at its
//! deepest (errors, panics with `RUST_BACKTRACE=1`, the largest inputs, the build that is shipped: unoptimised frames are
//! several times larger), and print [`Handle::stack_usage`](crate::Handle::stack_usage):
//!
//! ```
//! # let runtime = fiber_runtime::Runtime::builder().workers(1).stack_probe(true).build().unwrap();
//! # runtime.handle().spawn_with(fiber_runtime::FiberBuilder::new().name("parser"), || ()).join().unwrap();
//! let table = runtime.stack_usage();
//! println!("{table}");
//! let parser = table.get("parser").expect("a fiber of this name has ended");
//! assert!(parser.used <= parser.size);
//! ```
//!
//! Twice of what was used is a good choice; sizes are powers of two. A name that stands alone far above the others gets a
//! size of its own ([`FiberBuilder::stack_size`](crate::FiberBuilder::stack_size)), or its deep part goes to
//! [`offload`](crate::offload). A fiber that runs off its stack ends the process with a report of its name and size.
//!
//! # The signal and system calls
//! The handler runs on the alternate stack and is installed with `SA_RESTART`, so `read`, `write`, `recv`, `send`,
//! `accept`, `connect`, `open`, `wait4`, `ioctl`, `flock` and waits for a `Mutex` go on by themselves. As `signal(7)` has
//! it, the kernel fails some calls with `EINTR` all the same: `poll`, `select`, `epoll_wait`, `nanosleep`, `sleep`,
//! `pause`, `sigtimedwait`, `semop`, `msgrcv`, `io_getevents`, and socket calls with `SO_RCVTIMEO` or `SO_SNDTIMEO`. `std`
//! repeats what it calls of them. It concerns calls that block a worker only: a fiber that waits through the runtime or a
//! hook is off its worker and is never interrupted. A worker is interrupted only when it has been in
//! one fiber for long, by the monitor or by a dump.
//!
//! # Processors
//! Backtraces are known on x86-64 Linux. On aarch64 a dump has everything else.

pub use crate::dump::{
    Answer, Backtrace, Dump, FiberDump, FiberState, Frame, RuntimeDump, WorkerDump, dump, dump_on_signal,
};
#[cfg(feature = "hook")]
pub use crate::hook::blocking::{BlockingKind, BlockingWait, blocking_waits};
pub use crate::monitor::HogReport;
pub use crate::stack::probe::{StackUsage, StackUsageTable};
