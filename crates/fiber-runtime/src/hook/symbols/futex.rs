//! The system call by number, through which `std::sync` waits and wakes.

use libc::c_long;

use super::Symbol;
use crate::hook::futex;
use crate::hook::outcome::plain;
use crate::sys;

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[Symbol::new("syscall", syscall as *const ())];

/// Variadic for its callers; a function with variable arguments cannot be written in stable Rust. On x86-64 and aarch64
/// Linux integers and pointers are passed in the same places either way: six registers and the stack, or seven registers.
/// What the caller has not passed is read all the same, as libc's own definition does, and handed on to a kernel that does
/// not look at it. A 32-bit argument leaves the upper half of its place undefined.
///
/// # Safety
/// As for libc's `syscall`: what the arguments must be follows from the number.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    if number == libc::SYS_futex {
        // SAFETY: the caller's promise.
        return unsafe { futex::call(a, b, c, d, e, f) } as c_long;
    }
    // SAFETY: the caller's promise.
    plain(unsafe { sys::syscall6(number, a, b, c, d, e, f) }) as c_long
}
