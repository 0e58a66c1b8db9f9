//! Names to addresses through the blocking pool.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{in_millis, on_fibers, runtime};
use fiber_runtime::net::{self, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use fiber_runtime::{Runtime, offload, spawn, with_timeout, yield_now};

#[test]
fn a_name_is_looked_up_in_fibers_and_in_threads() {
    fn check() {
        let addresses = net::lookup("localhost", 80).unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        assert_eq!(net::lookup("127.0.0.1", 5).unwrap(), ["127.0.0.1:5".parse().unwrap()]);
        assert!("localhost:80".to_socket_addrs().unwrap().contains(&addresses[0]));
        assert!(net::lookup("no such name", 1).is_err());
        let socket = UdpSocket::bind("localhost:0").unwrap();
        assert!(socket.local_addr().unwrap().ip().is_loopback());
    }
    check();
    on_fibers(1, check);
}

#[test]
fn a_connect_by_name_arrives() {
    on_fibers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect_until(("localhost", port), Some(in_millis(30_000))).unwrap();
        assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());
    });
}

#[test]
fn numbers_need_no_lookup() {
    let runtime = runtime(1);
    runtime.block_on(|| {
        assert!("127.0.0.1:80".to_socket_addrs().is_ok());
        assert!(("::1", 80).to_socket_addrs().is_ok());
    });
    assert_eq!(runtime.metrics().blocking_done, 0);
}

/// Runs `body` while the only thread of the blocking pool is held up, as by a name server that does not answer.
fn while_the_pool_is_stuck(body: impl FnOnce() + Send + 'static) {
    let runtime = Runtime::builder().workers(1).blocking_threads(1).build().unwrap();
    runtime.block_on(|| {
        let (stuck, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flags = (stuck.clone(), release.clone());
        let holder = spawn(move || {
            offload(move || {
                flags.0.store(true, Ordering::SeqCst);
                while !flags.1.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        });
        while !stuck.load(Ordering::SeqCst) {
            yield_now();
        }
        body();
        release.store(true, Ordering::SeqCst);
        holder.join().unwrap();
    });
}

#[test]
fn a_lookup_that_takes_too_long_is_left() {
    while_the_pool_is_stuck(|| {
        let start = Instant::now();
        let error = net::lookup_until("localhost", 1, Some(in_millis(20))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let error = TcpStream::connect_until("localhost:1", Some(in_millis(20))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        // The deadline of a scope around it does the same.
        let scoped = with_timeout(Duration::from_millis(20), || {
            net::lookup("localhost", 1).map_err(|error| error.kind())
        });
        assert_eq!(scoped, Ok(Err(ErrorKind::TimedOut)));
        assert!(start.elapsed() >= Duration::from_millis(60));
        assert!(start.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_cancelled_fiber_does_not_wait_for_its_lookup() {
    while_the_pool_is_stuck(|| {
        let asking = spawn(|| net::lookup("localhost", 1).map(drop));
        yield_now();
        yield_now();
        asking.cancel();
        let error = asking.join().unwrap().unwrap_err();
        assert!(fiber_runtime::Cancelled::is_in(&error), "{error}");
    });
}
