//! One of each wait that cannot fail and would last for ever: for tests of what ends waits.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::sync::Arc;
use std::time::Duration;

use fiber_runtime::sync::{Condvar, Mutex, RwLock, Semaphore, WaitGroup, channel, oneshot};
use fiber_runtime::{park, spawn, time, yield_now};

type Wait = Box<dyn FnOnce()>;

/// Calls `end` with the name of each wait and the wait. In a fiber.
pub(crate) fn for_each_endless_wait(mut end: impl FnMut(&'static str, Wait)) {
    let held = Arc::new(Mutex::new(()));
    let _held = held.lock();
    let shut = Arc::new(RwLock::new(()));
    let _shut = shut.write();
    let (full, _receiver) = channel::bounded(1);
    full.send(0).unwrap();
    let (_sender, empty) = channel::bounded::<u8>(1);
    let (_promise, answer) = oneshot::channel::<u8>();
    let group = Arc::new(WaitGroup::new());
    group.add(1);
    let endless = spawn(park);
    let never = endless.fiber().clone();
    let (lock, read) = (held.clone(), shut.clone());
    end("park", Box::new(park));
    end("sleep", Box::new(|| time::sleep(Duration::from_secs(3600))));
    end("sleep for ever", Box::new(|| time::sleep(Duration::MAX)));
    end(
        "yield",
        Box::new(|| {
            loop {
                yield_now();
            }
        }),
    );
    end("lock", Box::new(move || drop(lock.lock())));
    end("read lock", Box::new(move || drop(read.read())));
    end("send", Box::new(move || assert!(full.send(1).is_err())));
    end("recv", Box::new(move || assert!(empty.recv().is_err())));
    end("oneshot", Box::new(move || assert!(answer.recv().is_err())));
    end("semaphore", Box::new(|| drop(Semaphore::new(0).acquire())));
    end("wait group", Box::new(move || group.wait()));
    end("condvar", Box::new(|| drop(Condvar::new().wait(Mutex::new(()).lock()))));
    end("join", Box::new(move || drop(endless.join())));
    never.cancel();
}
