//! The system call instruction, for x86-64 and aarch64 Linux.

use std::io;

/// Makes system call `number` with six arguments and returns what the kernel returned: a value, or `-errno` in
/// `-4095..0`. `errno` is not touched.
///
/// # Safety
/// The arguments must be what the kernel expects for `number`: pointers valid for the access it makes, descriptors
/// whose closing or changing breaks nobody's ownership.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) unsafe fn syscall6(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    let result: isize;
    // SAFETY: the x86-64 Linux convention: number and result in rax, arguments in rdi rsi rdx r10 r8 r9; the kernel
    // clobbers rcx and r11 and nothing else. That the arguments are sound is the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes system call `number` with six arguments and returns what the kernel returned: a value, or `-errno` in
/// `-4095..0`. `errno` is not touched.
///
/// # Safety
/// The arguments must be what the kernel expects for `number`: pointers valid for the access it makes, descriptors
/// whose closing or changing breaks nobody's ownership.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) unsafe fn syscall6(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    let result: isize;
    // SAFETY: the aarch64 Linux convention: number in x8, arguments in x0..x5, result in x0; no other register
    // changes. That the arguments are sound is the caller's promise.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("fiber-runtime reaches the kernel by inline assembly and knows x86-64 and aarch64 Linux");

/// Turns a raw result into `io::Result`: `-4095..0` is an error number.
#[inline]
pub(crate) fn check(result: isize) -> io::Result<usize> {
    if (-4095..0).contains(&result) {
        Err(io::Error::from_raw_os_error(-result as i32))
    } else {
        Ok(result as usize)
    }
}
