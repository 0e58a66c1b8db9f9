//! The manager's timers as shipped, each on a thread of loom's.

#[path = "../../../src/io_manager/timer.rs"]
mod timer;

use std::cell::RefCell;

use loom::thread::JoinHandle;

use crate::fiber::{Fiber, Handle};

thread_local! {
    /// The fibers of the running iteration, to be joined at its end.
    static STARTED: RefCell<Vec<JoinHandle<()>>> = RefCell::default();
}

fn spawn_named(_runtime: &Handle, _name: &'static str, body: impl FnOnce() + Send + 'static) -> Fiber {
    let (fiber, thread) = Fiber::spawn(body);
    STARTED.with_borrow_mut(|started| started.push(thread));
    fiber
}

/// Waits until the fibers have ended. Hangs, and so fails, if one does not.
fn join_all() {
    for thread in STARTED.take() {
        thread.join().unwrap();
    }
}

// Here, where it sees what the file shows to its folder only.
#[path = "../models/timer.rs"]
mod models;
