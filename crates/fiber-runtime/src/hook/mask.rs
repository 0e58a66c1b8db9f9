//! The signal mask that `ppoll`, `pselect` and `epoll_pwait` set for the time of their wait.
//!
//! A mask belongs to the thread, and a fiber that waits is off its worker's thread. A mask that keeps more signals out has
//! nothing to do there: no signal interrupts the wait of a fiber. One that lets signals in which are blocked otherwise is
//! how a program takes signals at no other moment; it would not get them if other fibers ran with the thread's own mask
//! meanwhile. Such a call is plain, and blocks the worker. Waiting for signals has a type of its own: `signal::Signals`.

use std::ptr;

use libc::sigset_t;

use crate::sys;

/// The size of the kernel's set, of which libc's is longer.
pub(super) const SIZE: usize = 8;

/// Whether a wait with this mask would let in a signal that the calling thread blocks.
///
/// # Safety
/// `mask` is null or points to a set.
pub(super) unsafe fn lets_in(mask: *const sigset_t) -> bool {
    // SAFETY: the caller's promise; the kernel's set is the first word of libc's.
    let Some(during) = (unsafe { mask.cast::<u64>().as_ref() }) else { return false };
    let mut now = 0u64;
    // SAFETY: no set is given, and the kernel writes the current one, for which there is room.
    unsafe { sys::syscall6(libc::SYS_rt_sigprocmask, 0, 0, ptr::from_mut(&mut now) as usize, SIZE, 0, 0) };
    now & !during != 0
}
