//! The ends of processes and threads.

use std::ptr;

use libc::{c_int, c_void, id_t, idtype_t, pid_t, pthread_t, rusage, siginfo_t};

use super::{Symbol, in_fiber};
use crate::hook::outcome::{Errno, plain};
use crate::hook::self_test::Probe;
use crate::hook::{process, thread};

/// What is defined here.
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("wait", wait as *const ()),
    Symbol::new("waitpid", waitpid as *const ()),
    Symbol::new("wait3", wait3 as *const ()),
    Symbol::new("wait4", wait4 as *const ()),
    Symbol::new("waitid", waitid as *const ()),
    Symbol::new("pthread_join", pthread_join as *const ()),
];

/// # Safety
/// As for libc's `wait`.
#[unsafe(no_mangle)]
unsafe extern "C" fn wait(status: *mut c_int) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait4(-1, status, 0, ptr::null_mut()) }
}

/// # Safety
/// As for libc's `waitpid`.
#[unsafe(no_mangle)]
unsafe extern "C" fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait4(pid, status, options, ptr::null_mut()) }
}

/// # Safety
/// As for libc's `wait3`.
#[unsafe(no_mangle)]
unsafe extern "C" fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait4(-1, status, options, usage) }
}

/// # Safety
/// As for libc's `wait4`.
#[unsafe(no_mangle)]
unsafe extern "C" fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { process::wait4_raw(pid, status, options, usage) }) as pid_t;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { process::wait4(pid, status, options, usage) };
    errno.finish(outcome, libc::ETIMEDOUT)
}

/// # Safety
/// As for libc's `waitid`.
#[unsafe(no_mangle)]
unsafe extern "C" fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int {
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return plain(unsafe { process::waitid_raw(kind, id, info, options) }) as c_int;
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise.
    let outcome = unsafe { process::waitid(kind, id, info, options) };
    errno.finish(outcome, libc::ETIMEDOUT)
}

/// # Safety
/// As for libc's `pthread_join`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    if !in_fiber(Probe::Other) {
        // SAFETY: the caller's promise.
        return unsafe { thread::join_plainly(thread, result) };
    }
    let errno = Errno::save();
    // SAFETY: the caller's promise. This call reports its error as the value.
    let error = unsafe { thread::join(thread, result) };
    errno.finish(Ok(error as usize), 0)
}
