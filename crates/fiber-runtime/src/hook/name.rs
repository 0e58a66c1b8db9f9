//! Names and addresses: libc's resolver takes as long as the name server likes, by calls within libc that no symbol of ours
//! stands before. So it runs on a thread of the blocking pool while the fiber parks. (Waiters there do not wait for each
//! other or for a fiber, so the pool cannot run dry for good: compare [`super::naps`].)
//!
//! # How the resolver is reached
//! It has no system call of its own to make instead, and by its name one arrives here. `dlsym(RTLD_NEXT)` finds the one
//! behind ours, once, at the first lookup. Elsewhere this crate does without `dlsym`, because it may allocate: a hook
//! that an allocator's lock can be held under must not. Looking up names allocates in any case, so nobody does it there.
//!
//! In a program that is linked statically there is no other definition to find. There the symbols are not defined.

use std::ffi::{CStr, c_void};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{addrinfo, c_char, c_int, sockaddr, socklen_t};

use super::naps;
use crate::fiber::cancel::{self, Shield};
use crate::net::op::Stop;
use crate::sys::errno;

/// `getaddrinfo`.
pub(super) type Find =
    unsafe extern "C" fn(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int;

/// `getnameinfo`.
pub(super) type Name = unsafe extern "C" fn(
    *const sockaddr,
    socklen_t,
    *mut c_char,
    socklen_t,
    *mut c_char,
    socklen_t,
    c_int,
) -> c_int;

/// A function of libc that has our name, too.
struct Hidden {
    name: &'static CStr,
    /// Its address, once it was looked for.
    found: AtomicPtr<c_void>,
}

static FIND: Hidden = Hidden::new(c"getaddrinfo");
static NAME: Hidden = Hidden::new(c"getnameinfo");

impl Hidden {
    const fn new(name: &'static CStr) -> Self {
        Hidden { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    fn address(&self) -> Option<*const c_void> {
        // Relaxed: whoever looks finds the same, and there is nothing behind it that was not there before.
        let mut found = self.found.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: the name ends in a zero byte.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            self.found.store(found, Ordering::Relaxed);
        }
        (!found.is_null()).then_some(found.cast_const())
    }
}

/// libc's `getaddrinfo`.
pub(super) fn find() -> Option<Find> {
    // SAFETY: libc's function of that name has that type.
    FIND.address().map(|address| unsafe { std::mem::transmute::<*const c_void, Find>(address) })
}

/// libc's `getnameinfo`.
pub(super) fn name() -> Option<Name> {
    // SAFETY: libc's function of that name has that type.
    NAME.address().map(|address| unsafe { std::mem::transmute::<*const c_void, Name>(address) })
}

/// Whether a lookup takes no time: there is no name, or it is an address.
///
/// # Safety
/// As for libc's `getaddrinfo`.
pub(super) unsafe fn is_numeric(node: *const c_char, hints: *const addrinfo) -> bool {
    // SAFETY: the caller's promise.
    let hints = unsafe { hints.as_ref() };
    if node.is_null() || hints.is_some_and(|hints| hints.ai_flags & libc::AI_NUMERICHOST != 0) {
        return true;
    }
    // SAFETY: the caller's promise.
    let Ok(node) = (unsafe { CStr::from_ptr(node) }).to_str() else { return false };
    // An address of version 6 may name its interface.
    let version_6 = node.split_once('%').map_or(node, |(address, _)| address);
    node.parse::<Ipv4Addr>().is_ok() || version_6.parse::<Ipv6Addr>().is_ok()
}

/// Makes a call of the resolver on a thread of the pool. Like the resolver, it says `EAI_SYSTEM` where `errno` has the
/// reason. The caller's `errno` is its own business otherwise.
///
/// # Safety
/// `call` may be made on any thread while the caller waits.
pub(super) unsafe fn elsewhere(call: impl FnOnce() -> c_int) -> c_int {
    /// What the caller vouches for.
    struct Movable<T>(T);

    // SAFETY: the caller's promise.
    unsafe impl<T> Send for Movable<T> {}

    impl<T: FnOnce() -> c_int> Movable<T> {
        fn call(self) -> (c_int, c_int) {
            ((self.0)(), errno::get())
        }
    }

    if !naps::may_give_way() {
        return call();
    }
    if let Some(stop) = cancel::stop_of_call() {
        errno::set(match stop {
            Stop::Errno(errno) => errno,
            Stop::TimedOut => libc::ETIMEDOUT,
        });
        return libc::EAI_SYSTEM;
    }
    let before = errno::get();
    let call = Movable(call);
    let (result, reason) = {
        // The lookup writes to the caller's memory: it is waited for whatever happens, and nothing unwinds from here.
        let _shield = Shield::raise();
        crate::offload(move || call.call())
    };
    errno::set(if result == libc::EAI_SYSTEM { reason } else { before });
    result
}
