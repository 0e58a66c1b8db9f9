//! A program that has the crate but never starts a runtime: libc's calls are plain system calls, and nothing else happens.
//! No test of this file may start one.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fiber_runtime::hook;

/// What the process has open, and its threads.
fn belongings() -> (Vec<String>, Vec<String>) {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = links.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("comm")).ok());
    (open.map(|link| link.display().to_string()).collect(), names.collect())
}

#[test]
fn blocking_calls_block_their_threads_and_nothing_of_a_runtime_comes_to_be() {
    // The definitions are in the program all the same.
    assert_eq!(hook::symbols().count() > 20, cfg!(feature = "hook"));
    assert_eq!(hook::self_test().is_ok(), cfg!(feature = "hook"));
    assert!(!hook::enabled());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(!hook::enabled());
        let mut word = [0; 5];
        stream.read_exact(&mut word).unwrap();
        thread::sleep(Duration::from_millis(20));
        stream.write_all(&word).unwrap();
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(None).unwrap();
    let start = Instant::now();
    stream.write_all(b"plain").unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"plain");
    assert!(start.elapsed() >= Duration::from_millis(20), "the answer came after {:?}", start.elapsed());
    served.join().unwrap();

    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let pair = Arc::clone(&pair);
            thread::spawn(move || {
                for _ in 0..1000 {
                    *pair.0.lock().unwrap() += 1;
                    pair.1.notify_one();
                }
            })
        })
        .collect();
    let mut sum = pair.0.lock().unwrap();
    while *sum < 4000 {
        sum = pair.1.wait(sum).unwrap();
    }
    drop(sum);
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    let (open, threads) = belongings();
    let of_a_runtime = ["eventpoll", "eventfd", "timerfd"];
    assert!(!open.iter().any(|link| of_a_runtime.iter().any(|kind| link.contains(kind))), "{open:?}");
    assert!(!threads.iter().any(|name| name.starts_with("moon")), "{threads:?}");
}
