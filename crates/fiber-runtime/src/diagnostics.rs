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
//! # The signal and system calls
//! The handler runs on the alternate stack and is installed with `SA_RESTART`, so `read`, `write`, `recv`, `send`,
//! `accept`, `connect`, `open`, `wait4`, `ioctl`, `flock` and waits for a `Mutex` go on by themselves. As `signal(7)` has
//! it, the kernel fails some calls with `EINTR` all the same: `poll`, `select`, `epoll_wait`, `nanosleep`, `sleep`,
//! `pause`, `sigtimedwait`, `semop`, `msgrcv`, `io_getevents`, and socket calls with `SO_RCVTIMEO` or `SO_SNDTIMEO`. `std`
//! repeats what it calls of them. It concerns calls that block a worker only: a fiber that waits through the runtime or a
//! hook is off its worker and is never interrupted. A worker is interrupted when somebody asks for a dump while it is in
//! one fiber for long.
//!
//! # Processors
//! Backtraces are known on x86-64 Linux. On aarch64 a dump has everything else.

pub use crate::dump::{
    Answer, Backtrace, Dump, FiberDump, FiberState, Frame, RuntimeDump, WorkerDump, dump, dump_on_signal,
};
