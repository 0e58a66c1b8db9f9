//! Name lookup by `std` in fibers: the resolver runs elsewhere.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use common::{PATIENCE, on_fibers, runtime};
use fiber_runtime::{Handle, no_yield, spawn_local, time, yield_now};

/// Calls that the pool has done.
fn offloaded() -> u64 {
    Handle::current().metrics().blocking_done
}

#[test]
fn a_hundred_lookups_leave_the_worker_to_others() {
    on_fibers(1, || {
        let ticks = Rc::new(Cell::new(0_u32));
        let stop = Rc::new(Cell::new(false));
        let (counted, stopped) = (ticks.clone(), stop.clone());
        let ticker = spawn_local(move || {
            while !stopped.get() {
                counted.set(counted.get() + 1);
                yield_now();
            }
        });
        let lookups: Vec<_> = (0..100)
            .map(|port| {
                spawn_local(move || {
                    let found: Vec<SocketAddr> = ("localhost", port).to_socket_addrs().unwrap().collect();
                    assert!(!found.is_empty());
                    assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == port));
                })
            })
            .collect();
        // The first round makes all calls of the pool; the others run while its threads are at work.
        let before = ticks.get();
        lookups.into_iter().for_each(|lookup| lookup.join().unwrap());
        let during = ticks.get() - before;
        stop.set(true);
        ticker.join().unwrap();
        assert_eq!(offloaded(), 100);
        assert!(during > 0, "nobody else ran");
    });
}

#[test]
fn an_address_needs_no_lookup() {
    on_fibers(1, || {
        let unspecified = unsafe_lookup(c"::1", libc::AI_NUMERICHOST);
        assert_eq!(unspecified, 0);
        assert_eq!(unsafe_lookup(c"127.0.0.1", 0), 0);
        assert_eq!(unsafe_lookup(c"fe80::1%lo", 0), 0);
        assert_eq!(unsafe_lookup(c"localhost", libc::AI_NUMERICHOST), libc::EAI_NONAME);
        assert_eq!(("127.0.0.1", 80).to_socket_addrs().unwrap().count(), 1);
        assert_eq!(offloaded(), 0);
        assert_eq!(unsafe_lookup(c"localhost", 0), 0);
        assert_eq!(offloaded(), 1);
    });
}

fn unsafe_lookup(host: &CStr, flags: i32) -> i32 {
    // SAFETY: hints of zeros are valid, the name ends in a zero byte, and what is found is freed.
    unsafe {
        let mut hints: libc::addrinfo = std::mem::zeroed();
        hints.ai_flags = flags;
        let mut found = ptr::null_mut();
        let result = libc::getaddrinfo(host.as_ptr(), ptr::null(), &raw const hints, &raw mut found);
        if result == 0 {
            libc::freeaddrinfo(found);
        }
        result
    }
}

#[test]
fn failures_are_the_resolvers_and_errno_stays() {
    on_fibers(1, || {
        let error = ("no such name", 1).to_socket_addrs().map(drop).unwrap_err();
        let plain =
            fiber_runtime::hook::disabled(|| ("no such name", 1).to_socket_addrs().map(drop).unwrap_err());
        assert_eq!(error.to_string(), plain.to_string());
        // SAFETY: `errno` is this thread's.
        unsafe { *libc::__errno_location() = 4095 };
        assert_eq!(unsafe_lookup(c"localhost", 0), 0);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(4095));
    });
}

#[test]
fn a_cancelled_fiber_asks_nobody() {
    on_fibers(1, || {
        let asking = spawn_local(|| {
            while fiber_runtime::hook::enabled() && unsafe_lookup(c"localhost", 0) == 0 {
                yield_uncancelled();
            }
            let result = unsafe_lookup(c"localhost", 0);
            (result, io::Error::last_os_error().raw_os_error())
        });
        time::sleep(Duration::from_millis(5));
        asking.cancel();
        assert_eq!(asking.join().unwrap(), (libc::EAI_SYSTEM, Some(libc::ECANCELED)));
    });
}

/// Gives way without being unwound.
fn yield_uncancelled() {
    // SAFETY: takes no arguments.
    assert_eq!(unsafe { libc::sched_yield() }, 0);
}

#[test]
fn who_must_not_give_way_looks_the_name_up_itself() {
    on_fibers(1, || {
        assert_eq!(no_yield(|| unsafe_lookup(c"localhost", 0)), 0);
        assert_eq!(offloaded(), 0);
    });
    let runtime = runtime(1);
    assert!(("localhost", 1).to_socket_addrs().unwrap().count() > 0);
    assert!(runtime.stop(PATIENCE).is_clean());
}

#[test]
fn an_address_has_a_name() {
    on_fibers(1, || {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as _,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
            sin_zero: [0; 8],
        };
        let mut host: [c_char; 256] = [0; 256];
        // SAFETY: the address and the buffer live through the call.
        let result = unsafe {
            libc::getnameinfo(
                (&raw const address).cast(),
                size_of::<libc::sockaddr_in>() as u32,
                host.as_mut_ptr(),
                256,
                ptr::null_mut(),
                0,
                0,
            )
        };
        assert_eq!(result, 0);
        assert_ne!(host[0], 0);
        assert_eq!(offloaded(), 1);
    });
}
