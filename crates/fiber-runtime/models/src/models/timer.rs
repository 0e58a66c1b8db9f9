//! `io_manager/timer.rs`: a timer that is cancelled or changed by one thread while its fiber fires it.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::{AtomicUsize, Ordering};

use super::join_all;
use super::timer::{Timer, Timers};
use crate::fiber::Handle;
use crate::models::explore;

const LONG: Duration = Duration::from_secs(3600);

fn timer(delay: Duration) -> (Timer, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&calls);
    let timer = Timers::default().add(&Handle, delay, false, move || {
        counts.fetch_add(1, Ordering::Relaxed);
    });
    (timer, calls)
}

/// The callback runs, or `cancel` says that it will not: one of the two.
///
/// Seen failing without the second look at `due` under the lock, in `Shared::run`.
#[test]
fn a_timer_is_cancelled_or_fires() {
    explore(3, || {
        let (timer, calls) = timer(Duration::ZERO);
        let cancelled = timer.cancel();
        join_all();
        assert_eq!(calls.load(Ordering::Relaxed), usize::from(!cancelled));
        assert!(!timer.cancel(), "it has ended, this way or that");
    });
}

/// A timer that sleeps for an hour hears of a new delay, and of its cancellation, at any moment of its fiber.
///
/// Seen failing (the fiber sleeps on) without the `unpark` in `Shared::change`.
#[test]
fn a_sleeping_timer_hears_of_every_change() {
    explore(3, || {
        let (timer, calls) = timer(LONG);
        let reset = timer.reset(Duration::ZERO, true);
        join_all();
        assert!(reset);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
    explore(3, || {
        let (timer, calls) = timer(LONG);
        assert!(timer.cancel());
        join_all();
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    });
}
