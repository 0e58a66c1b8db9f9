//! The kernel, reached without libc: raw system calls by inline assembly, and `errno`.
//!
//! The runtime *defines* libc symbols (`recv`, `send`, ...) to make blocking code cooperative, so neither the hooks
//! nor the scheduler below them may call those symbols: they would arrive in the hooks again. Everything here goes
//! straight to the kernel and leaves `errno` alone.
//!
//! - [`raw`] is the one place with the `syscall` / `svc` instruction.
//! - [`calls`] wraps each call once and returns [`std::io::Result`].
//! - [`signals`] has the handler that takes notes of signals.
//! - [`errno`] reads and writes the calling thread's `errno`, for hooks that must keep it exact.

pub(crate) mod calls;
pub(crate) mod errno;
pub(crate) mod raw;
pub(crate) mod signals;

pub(crate) use calls::*;
#[cfg(feature = "hook")]
pub(crate) use raw::syscall6;
