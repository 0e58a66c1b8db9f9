//! The resolver.

#[cfg(not(target_feature = "crt-static"))]
use libc::{addrinfo, c_char, c_int, sockaddr, socklen_t};

use super::Symbol;
#[cfg(not(target_feature = "crt-static"))]
use super::in_fiber;
#[cfg(not(target_feature = "crt-static"))]
use crate::hook::{name, self_test::Probe};

/// What is defined here.
#[cfg(not(target_feature = "crt-static"))]
pub(super) const SYMBOLS: &[Symbol] = &[
    Symbol::new("getaddrinfo", getaddrinfo as *const ()),
    Symbol::new("getnameinfo", getnameinfo as *const ()),
];

/// What is defined here: nothing, because the resolver could not be reached behind it.
#[cfg(target_feature = "crt-static")]
pub(super) const SYMBOLS: &[Symbol] = &[];

/// # Safety
/// As for libc's `getaddrinfo`.
#[cfg(not(target_feature = "crt-static"))]
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    found: *mut *mut addrinfo,
) -> c_int {
    let Some(find) = name::find() else { return libc::EAI_FAIL };
    // SAFETY: the caller's promise.
    let call = move || unsafe { find(node, service, hints, found) };
    // SAFETY: the caller's promise.
    if !in_fiber(Probe::Other) || unsafe { name::is_numeric(node, hints) } {
        return call();
    }
    // SAFETY: the call uses nothing but its arguments, whose memory the caller keeps; what it finds is of malloc's.
    unsafe { name::elsewhere(call) }
}

/// # Safety
/// As for libc's `getnameinfo`.
#[cfg(not(target_feature = "crt-static"))]
#[unsafe(no_mangle)]
unsafe extern "C" fn getnameinfo(
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_length: socklen_t,
    service: *mut c_char,
    service_length: socklen_t,
    flags: c_int,
) -> c_int {
    let Some(name) = name::name() else { return libc::EAI_FAIL };
    // SAFETY: the caller's promise.
    let call = move || unsafe { name(address, length, host, host_length, service, service_length, flags) };
    if !in_fiber(Probe::Other) || host.is_null() || flags & libc::NI_NUMERICHOST != 0 {
        return call();
    }
    // SAFETY: the call uses nothing but its arguments, whose memory the caller keeps.
    unsafe { name::elsewhere(call) }
}
