//! A fiber beside those that a test looks at: how often it ran says whether their worker was free.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use fiber_runtime::{JoinHandle, spawn_local, time};

/// A fiber of the calling worker that wakes every millisecond, until this goes.
pub(crate) struct Ticker {
    ticks: Rc<Cell<u64>>,
    over: Rc<Cell<bool>>,
    fiber: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start() -> Self {
        let (ticks, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (counted, told) = (ticks.clone(), over.clone());
        let fiber = spawn_local(move || {
            while !told.get() {
                time::sleep(Duration::from_millis(1));
                counted.set(counted.get() + 1);
            }
        });
        Ticker { ticks, over, fiber: Some(fiber) }
    }

    /// How often it has woken.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.get()
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.over.set(true);
        // A test that has failed does not wait: nobody else runs while it unwinds.
        if let Some(fiber) = self.fiber.take().filter(|_| !std::thread::panicking()) {
            fiber.join().unwrap();
        }
    }
}

/// Runs `body` beside such a fiber, and returns its result and how often the other ran meanwhile.
pub(crate) fn beside_a_ticker<T>(body: impl FnOnce() -> T) -> (T, u64) {
    let ticker = Ticker::start();
    let result = body();
    (result, ticker.ticks())
}
