//! `sync/spin.rs` and `sync/wait.rs`: the lock under everything, and how a wait in a list ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::thread;

use super::wait::{Enter, WaitList, Waited, Wakes, wait};
use crate::models::explore;
use crate::primitive::UnsafeCell;
use crate::sync::Spin;
use crate::{time, waiter};

/// Seen failing with `Relaxed` for the `Acquire` of `acquire` and for the `Release` of `Unlock`, and without the
/// contended path's second exchange.
#[test]
fn a_lock_admits_one_at_a_time_and_shows_it_what_the_last_one_did() {
    explore(3, || {
        let lock = Arc::new(Spin::new(0));
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || (0..2).for_each(|_| lock.lock(|sum| *sum += 1)))
        };
        lock.lock(|sum| *sum += 10);
        other.join().unwrap();
        assert_eq!(lock.lock(|sum| *sum), 12);
    });
}

/// A stock of things, and those who wait for one: the smallest user of a wait list. A thing is handed to the first in
/// line, so that nobody takes it in between.
struct Stock {
    things: usize,
    line: WaitList<bool>,
}

struct Shop {
    stock: Spin<Stock>,
    /// Written by whoever brings a thing, read by whoever gets it.
    news: UnsafeCell<u32>,
}

// SAFETY: who may touch the news follows from the protocol; loom watches the cell.
unsafe impl Sync for Shop {}
// SAFETY: as above.
unsafe impl Send for Shop {}

impl Shop {
    fn new() -> Arc<Shop> {
        let stock = Stock { things: 0, line: WaitList::new() };
        Arc::new(Shop { stock: Spin::new(stock), news: UnsafeCell::new(0) })
    }

    /// Under the lock: the thing goes to the first in line, or into the stock.
    fn put(stock: &mut Stock, wakes: &mut Wakes) {
        match stock.line.front() {
            Some(given) => {
                *given = true;
                wakes.push(stock.line.notify_front());
            }
            None => stock.things += 1,
        }
    }

    fn bring(&self) {
        let mut wakes = Wakes::new();
        self.stock.lock(|stock| Self::put(stock, &mut wakes));
        wakes.wake();
    }

    /// Takes a thing, waiting for it; false when it does not come in time.
    fn take(&self, in_time: bool) -> bool {
        let waited = wait(
            (&self.stock, |stock| &mut stock.line),
            "a thing",
            false,
            in_time.then(time::now),
            |stock, _| {
                if stock.things == 0 {
                    return Enter::Back;
                }
                stock.things -= 1;
                Enter::Ready(())
            },
            || {},
            |stock, notified, given, wakes| {
                assert_eq!(notified, *given);
                if notified {
                    Self::put(stock, wakes);
                }
            },
        );
        match waited {
            Waited::Ready(()) => true,
            Waited::Notified(given) => {
                assert!(given, "notified, and given nothing");
                true
            }
            Waited::TimedOut(given) => {
                assert!(!given, "timed out with a thing in its hands");
                false
            }
        }
    }

    fn things(&self) -> usize {
        self.stock.lock(|stock| stock.things)
    }
}

/// Seen failing (a race or a deadlock) with `Relaxed` for the `Release` in `notify_front` and for the `Acquire` in
/// `is_notified`, and when the flag is set before the handle is taken out.
#[test]
fn a_waiter_gets_what_is_brought_in_either_order() {
    explore(3, || {
        let shop = Shop::new();
        let bringer = {
            let shop = Arc::clone(&shop);
            thread::spawn(move || {
                // SAFETY: `get` has asserted that nobody else is at it.
                unsafe { *shop.news.get() += 1 };
                shop.bring();
            })
        };
        assert!(shop.take(false));
        // SAFETY: as above.
        assert_eq!(unsafe { *shop.news.get() }, 1);
        bringer.join().unwrap();
        assert_eq!(shop.things(), 0);
    });
}

/// A deadline that passes at any moment: the thing is got or stays in the stock, never both, never neither.
///
/// Seen failing when the waiter leaves without looking at the flag again under the lock.
#[test]
fn a_waiter_that_times_out_loses_nothing() {
    explore(3, || {
        let shop = Shop::new();
        let bringer = {
            let shop = Arc::clone(&shop);
            thread::spawn(move || shop.bring())
        };
        let got = shop.take(true);
        bringer.join().unwrap();
        assert_eq!(shop.things(), usize::from(!got));
    });
}

/// A cancelled waiter gives back what it was given, however late the cancellation comes.
///
/// Seen failing without the call of `abandoned` for a waiter that was notified.
#[test]
fn a_cancelled_waiter_passes_on_what_it_was_given() {
    explore(2, || {
        let shop = Shop::new();
        let cancelled = {
            let shop = Arc::clone(&shop);
            thread::spawn(move || {
                waiter::cancel_current();
                // Unwinds if it waits; takes the thing if it is there.
                catch_unwind(AssertUnwindSafe(|| shop.take(false))).is_ok()
            })
        };
        shop.bring();
        // If it comes first it finds the thing there. Otherwise this waiter is behind it in the line, or comes later.
        let there = cancelled.join();
        if there.unwrap() {
            shop.bring();
        }
        assert!(shop.take(false));
        assert_eq!(shop.things(), 0);
    });
}
