//! Where connections and other fibers that stay are started.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{PATIENCE, runtime, wait_for};
use fiber_runtime::net::{Acceptor, TcpListener, UnixListener, UnixStream};
use fiber_runtime::sync::{Spin, oneshot};
use fiber_runtime::{FiberBuilder, Handle, Runtime, spawn, spawn_on, time};

/// How many of something each worker has, by the name of its thread.
#[derive(Clone, Default)]
struct Shares(Arc<Spin<BTreeMap<String, usize>>>);

impl Shares {
    fn count_one(&self) {
        let worker = std::thread::current().name().unwrap().to_owned();
        self.0.lock(|shares| *shares.entry(worker).or_default() += 1);
    }

    fn total(&self) -> usize {
        self.0.lock(|shares| shares.values().sum())
    }

    /// Fails unless each of `workers` has its share of `total`, give or take a quarter.
    #[track_caller]
    fn assert_even(&self, workers: usize, total: usize) {
        let shares = self.0.lock(|shares| shares.clone());
        let even = total / workers;
        assert_eq!(shares.len(), workers, "{shares:?}");
        assert!(shares.values().all(|&share| share.abs_diff(even) <= even / 4), "{shares:?}");
    }
}

/// Serves connections that stay until their client ends them.
fn serve(runtime: &Runtime, shares: &Shares) -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = Acceptor::new(listener.try_clone().unwrap()).name("session");
    let shares = shares.clone();
    drop(runtime.spawn(move || {
        acceptor.serve(move |(mut stream, _)| {
            shares.count_one();
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..count]).unwrap();
            }
        })
    }));
    (listener, address)
}

#[test]
fn long_lived_connections_are_shared_evenly_by_two_to_four_workers() {
    for workers in 2..=4 {
        let runtime = runtime(workers);
        let shares = Shares::default();
        let (listener, address) = serve(&runtime, &shares);
        // All at once: none has begun while the others are placed.
        let mut clients: Vec<_> = (0..240).map(|_| TcpStream::connect(address).unwrap()).collect();
        wait_for("all connections", || shares.total() == 240);
        shares.assert_even(workers, 240);
        for client in &mut clients {
            client.write_all(b"still here").unwrap();
            client.read_exact(&mut [0; 10]).unwrap();
        }
        drop(clients);
        listener.shutdown().unwrap();
        assert!(runtime.stop(PATIENCE).is_clean());
    }
}

#[test]
fn a_loaded_worker_gets_fewer_connections() {
    let runtime = runtime(2);
    let shares = Shares::default();
    // A hundred fibers rest on worker 1.
    let (release, rest): (Vec<_>, Vec<_>) = (0..100).map(|_| oneshot::channel::<()>()).unzip();
    for receiver in rest {
        drop(runtime.handle().spawn_on(1, move || {
            let _ = receiver.recv();
        }));
    }
    wait_for("the resting fibers", || runtime.metrics().workers[1].alive == 100);
    let (listener, address) = serve(&runtime, &shares);
    let clients: Vec<_> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait_for("all connections", || shares.total() == 80);
    let on_loaded = shares.0.lock(|shares| shares.get("test-1").copied().unwrap_or(0));
    assert!(on_loaded <= 8, "{on_loaded} of 80 connections went to the loaded worker");
    drop((clients, release));
    listener.shutdown().unwrap();
    assert!(runtime.stop(PATIENCE).is_clean());
}

#[test]
fn fibers_are_placed_by_load_when_asked_for_from_inside_and_outside() {
    let runtime = runtime(3);
    let shares = Shares::default();
    let (release, rest): (Vec<_>, Vec<_>) = (0..120).map(|_| oneshot::channel::<()>()).unzip();
    let mut rest = rest.into_iter();
    let mut fiber = || {
        let (shares, receiver) = (shares.clone(), rest.next().unwrap());
        move || {
            shares.count_one();
            let _ = receiver.recv();
        }
    };
    let inside: Vec<_> = (0..60).map(|_| fiber()).collect();
    runtime.block_on(move || {
        inside.into_iter().for_each(|body| drop(FiberBuilder::new().balanced().spawn(body)));
    });
    for _ in 0..60 {
        drop(runtime.handle().spawn_with(FiberBuilder::new().balanced(), fiber()));
    }
    wait_for("all fibers", || shares.total() == 120);
    shares.assert_even(3, 120);
    drop(release);
    assert!(runtime.stop(PATIENCE).is_clean());
}

#[test]
fn a_worker_asked_for_by_number_is_not_overruled() {
    let runtime = runtime(2);
    let name = runtime.block_on(|| {
        let builder = FiberBuilder::new().balanced().worker(1);
        builder.spawn(|| std::thread::current().name().map(str::to_owned)).join().unwrap()
    });
    assert_eq!(name.as_deref(), Some("test-1"));
}

#[test]
fn the_number_of_connections_at_once_is_limited() {
    let runtime = runtime(2);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let served = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = Acceptor::new(listener.try_clone().unwrap()).max_connections(3);
    let counts = (now, most.clone(), served.clone());
    let server = runtime.spawn(move || {
        acceptor.serve(move |_| {
            let (now, most, served) = &counts;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            time::sleep(Duration::from_millis(1));
            now.fetch_sub(1, Ordering::SeqCst);
            served.fetch_add(1, Ordering::SeqCst);
        })
    });
    let clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait_for("all connections", || served.load(Ordering::SeqCst) == 50);
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?} at once");
    listener.shutdown().unwrap();
    server.join().unwrap().unwrap();
    drop(clients);
}

#[test]
fn a_handler_that_panics_ends_its_connection_only() {
    let runtime = runtime(1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let acceptor = Acceptor::new(listener.try_clone().unwrap());
    runtime.block_on(move || {
        let server = spawn(move || {
            acceptor.serve(|mut stream: UnixStream| {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                assert_eq!(byte[0], b'!', "a panic that this test asks for");
                stream.write_all(b"ok").unwrap();
            })
        });
        let mut bad = UnixStream::connect(&path).unwrap();
        bad.write_all(b"?").unwrap();
        assert_eq!(bad.read(&mut [0; 8]).unwrap_or(0), 0);
        let mut good = UnixStream::connect(&path).unwrap();
        good.write_all(b"!").unwrap();
        assert_eq!(good.read(&mut [0; 8]).unwrap(), 2);
        listener.shutdown().unwrap();
        server.join().unwrap().unwrap();
    });
}

#[test]
fn an_acceptor_ends_when_its_fiber_is_cancelled() {
    let runtime = runtime(1);
    runtime.block_on(|| {
        let acceptor = Acceptor::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let server = spawn_on(0, move || acceptor.serve(drop));
        time::sleep(Duration::from_millis(1));
        server.cancel();
        let error = server.join().unwrap().unwrap_err();
        assert!(fiber_runtime::Cancelled::is_in(&error), "{error}");
        assert_eq!(Handle::current().workers(), 1);
    });
}
