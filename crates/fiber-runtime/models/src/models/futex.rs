//! `hook/futex/bucket.rs`: fibers that wait for a word, and who wakes them.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::sync::{Mutex, Notify};
use loom::thread;

use super::explore;
use crate::primitive::{AtomicU32, Ordering, UnsafeCell};
use crate::time;

#[path = "../../../src/hook/futex/bucket.rs"]
mod bucket;

use bucket::{Bucket, Ended};

/// Where threads wait for words: the kernel, whose part is indivisible here.
struct Kernel(Mutex<VecDeque<Arc<Notify>>>);

impl Kernel {
    fn wait(&self, word: &AtomicU32, expected: u32) {
        let woken = Arc::new(Notify::new());
        {
            let mut waiting = self.0.lock().unwrap();
            if word.load(Ordering::SeqCst) != expected {
                return;
            }
            waiting.push_back(Arc::clone(&woken));
        }
        woken.wait();
    }

    fn wake(&self, count: u32) -> isize {
        let mut waiting = self.0.lock().unwrap();
        let woken = (count as usize).min(waiting.len());
        waiting.drain(..woken).for_each(|thread| thread.notify());
        woken as isize
    }
}

/// A word with a bucket of its own, and what it guards.
struct Word {
    word: AtomicU32,
    bucket: Bucket,
    kernel: Kernel,
    cargo: UnsafeCell<u32>,
}

// SAFETY: who may touch the cargo follows from the protocol; loom watches the cell.
unsafe impl Sync for Word {}
// SAFETY: as above.
unsafe impl Send for Word {}

impl Word {
    fn new() -> Arc<Word> {
        Arc::new(Word {
            word: AtomicU32::new(0),
            bucket: Bucket::new(),
            kernel: Kernel(Mutex::new(VecDeque::new())),
            cargo: UnsafeCell::new(0),
        })
    }

    fn wait(&self, expected: u32, in_time: bool) -> Ended {
        self.bucket.wait(&self.word, expected, in_time.then(time::now))
    }

    fn wake(&self, count: u32) -> isize {
        let word = std::ptr::from_ref(&self.word).addr();
        self.bucket.wake(word, count, |count| self.kernel.wake(count)).result
    }

    /// As `std::sync::Mutex` does it on Linux, in its words' values: free, locked, locked and somebody waits.
    fn lock(&self, wait: impl Fn(&Self)) {
        if self.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        while self.word.swap(2, Ordering::Acquire) != 0 {
            wait(self);
        }
    }

    fn unlock(&self) {
        if self.word.swap(0, Ordering::Release) == 2 {
            self.wake(1);
        }
    }

    fn use_cargo(&self) {
        // SAFETY: `get` has asserted that nobody else is at it.
        unsafe { *self.cargo.get() += 1 };
    }

    fn lock_in_fiber(&self) {
        self.lock(|word| {
            word.wait(2, false);
        });
        self.use_cargo();
        self.unlock();
    }

    fn lock_in_thread(&self) {
        self.lock(|word| word.kernel.wait(&word.word, 2));
        self.use_cargo();
        self.unlock();
    }
}

/// Seen failing (a deadlock) without either of the two fences.
#[test]
fn a_wake_reaches_who_waits_or_the_word_has_changed() {
    explore(3, || {
        let word = Word::new();
        let waker = {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                // Relaxed, as a condition variable of std changes it.
                word.word.store(1, Ordering::Relaxed);
                word.wake(1)
            })
        };
        let ended = word.wait(0, false);
        let woken = waker.join().unwrap();
        assert_ne!(ended, Ended::TimedOut);
        assert_eq!(woken, isize::from(ended == Ended::Woken));
    });
}

/// Whoever changes the word does not wake in vain, and nobody is woken who has left.
///
/// Seen failing when the waiter leaves without looking at the flag again under the lock.
#[test]
fn a_wake_and_the_end_of_time_do_not_both_count() {
    explore(3, || {
        let word = Word::new();
        let waker = {
            let word = Arc::clone(&word);
            thread::spawn(move || word.wake(1))
        };
        let ended = word.wait(0, true);
        let woken = waker.join().unwrap();
        assert_ne!(ended, Ended::Changed);
        assert_eq!(woken, isize::from(ended == Ended::Woken));
        assert_eq!(word.wake(1), 0, "nobody is left");
    });
}

/// Who leaves by its time may stand first, and the others are found all the same.
///
/// Seen failing when the second in line does not take the place of the first that leaves.
#[test]
fn who_leaves_does_not_hide_who_stays() {
    explore(2, || {
        let word = Word::new();
        let hasty = {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                assert_eq!(word.wait(0, true), Ended::TimedOut);
                word.word.store(1, Ordering::Relaxed);
                word.wake(1)
            })
        };
        let ended = word.wait(0, false);
        let woken = hasty.join().unwrap();
        assert_ne!(ended, Ended::TimedOut);
        assert_eq!(woken, isize::from(ended == Ended::Woken));
    });
}

/// Two fibers and a lock of std.
///
/// Seen failing (a deadlock) without the waiter's fence.
#[test]
fn fibers_pass_a_lock_of_std_to_each_other() {
    explore(2, || {
        let word = Word::new();
        let other = {
            let word = Arc::clone(&word);
            thread::spawn(move || word.lock_in_fiber())
        };
        word.lock_in_fiber();
        other.join().unwrap();
        word.use_cargo();
    });
}

/// A fiber, a thread, and a lock of std.
///
/// Seen failing (a deadlock) when a wake that finds no fiber does not go on to the kernel.
#[test]
fn a_fiber_and_a_thread_pass_a_lock_of_std_to_each_other() {
    explore(2, || {
        let word = Word::new();
        let fiber = {
            let word = Arc::clone(&word);
            thread::spawn(move || word.lock_in_fiber())
        };
        word.lock_in_thread();
        fiber.join().unwrap();
        word.use_cargo();
    });
}

/// Both wait for it.
#[test]
fn a_fiber_and_a_thread_that_both_wait_both_get_the_lock() {
    explore(1, || {
        let word = Word::new();
        word.lock(|_| unreachable!("nobody else is there"));
        let fiber = {
            let word = Arc::clone(&word);
            thread::spawn(move || word.lock_in_fiber())
        };
        let thread = {
            let word = Arc::clone(&word);
            thread::spawn(move || word.lock_in_thread())
        };
        word.unlock();
        fiber.join().unwrap();
        thread.join().unwrap();
        word.use_cargo();
    });
}
