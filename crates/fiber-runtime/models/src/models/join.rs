//! `fiber/join/word.rs`: a fiber's end meets its one joiner, who may wait, give up, or be gone.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::explore;
use crate::fiber::word::{Completed, JoinWord};
use crate::primitive::UnsafeCell;
use crate::waiter::{Waiter, wait};

/// The word, and the result that it guards.
struct Meeting {
    word: JoinWord,
    result: UnsafeCell<u32>,
    dropped: AtomicUsize,
}

// SAFETY: the word says who may touch the result; loom watches the cell.
unsafe impl Sync for Meeting {}
// SAFETY: as above.
unsafe impl Send for Meeting {}

impl Meeting {
    fn new() -> Arc<Meeting> {
        let word = JoinWord::new();
        Arc::new(Meeting { word, result: UnsafeCell::new(0), dropped: AtomicUsize::new(0) })
    }

    /// The fiber's end; as shipped, in `Worker::complete`.
    fn end(&self) {
        // SAFETY: the fiber has not completed, so the result is its own.
        unsafe { *self.result.get() = 7 };
        match self.word.complete() {
            Completed::Wake(waiter) => waiter.wake(),
            Completed::Kept => {}
            Completed::Unwanted => self.drop_result(),
        }
    }

    fn drop_result(&self) {
        // SAFETY: the word gave the result to the caller.
        assert_eq!(unsafe { *self.result.get() }, 7);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Seen failing (a race) with `Relaxed` for the `AcqRel` of `complete` and of `enrol`, and with `Relaxed` in
/// `is_complete`.
#[test]
fn a_joiner_is_woken_and_reads_the_result() {
    explore(3, || {
        let meeting = Meeting::new();
        let fiber = {
            let meeting = Arc::clone(&meeting);
            thread::spawn(move || meeting.end())
        };
        if !meeting.word.is_complete() && meeting.word.enrol(Waiter::current()) {
            while !meeting.word.is_complete() {
                let _ = wait("join", None);
            }
        }
        // SAFETY: complete, and the handle is there.
        assert_eq!(unsafe { *meeting.result.get() }, 7);
        fiber.join().unwrap();
    });
}

/// A joiner whose deadline passes withdraws and enrols again; the fiber takes the one or the other waiter, or none.
///
/// Seen failing when `withdraw` clears the cell whatever it finds.
#[test]
fn a_joiner_that_gives_up_can_wait_again() {
    explore(3, || {
        let meeting = Meeting::new();
        let fiber = {
            let meeting = Arc::clone(&meeting);
            thread::spawn(move || meeting.end())
        };
        if !meeting.word.is_complete() && meeting.word.enrol(Waiter::current()) {
            // As shipped, in `Withdraw`: the deadline has passed.
            if !meeting.word.is_complete() {
                meeting.word.withdraw();
            }
        }
        if !meeting.word.is_complete() && meeting.word.enrol(Waiter::current()) {
            while !meeting.word.is_complete() {
                let _ = wait("join", None);
            }
        }
        // SAFETY: complete, and the handle is there.
        assert_eq!(unsafe { *meeting.result.get() }, 7);
        fiber.join().unwrap();
    });
}

/// Seen failing with `Relaxed` for the `AcqRel` of `abandon`, and with a load and a store in its place.
#[test]
fn a_result_nobody_wants_is_dropped_once() {
    explore(3, || {
        let meeting = Meeting::new();
        let fiber = {
            let meeting = Arc::clone(&meeting);
            thread::spawn(move || meeting.end())
        };
        // As shipped, in the handle's `Drop`.
        if meeting.word.is_complete() || meeting.word.abandon() {
            meeting.drop_result();
        }
        fiber.join().unwrap();
        assert_eq!(meeting.dropped.load(Ordering::Relaxed), 1);
    });
}
