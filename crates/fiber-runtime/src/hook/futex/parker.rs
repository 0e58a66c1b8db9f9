//! The word of `std::thread::park`, which must block the thread.
//!
//! Each thread has one, and `park` assumes that one at a time waits for it: it takes one from the word, 0 becoming
//! [`PARKED`], and waits while it is `PARKED`. Suppose a fiber that is in there parked as if it waited for a lock, and that
//! another fiber of the thread called `park`:
//!
//! ```text
//!   fiber A              fiber B, same thread                     word
//!   park: takes one                                              PARKED
//!   waits for it
//!                        park: takes one                         PARKED - 1
//!                        waits while it is PARKED: returns at once, and again, and again
//!                                          some thread: unpark   1, and no wake, for the word was not PARKED
//!                        finds the 1, takes it, goes on          0
//!   sleeps on, although the wake was perhaps its own
//! ```
//!
//! Nothing here could help: B does not get as far as a system call before it has changed the word, and a token says for
//! which thread it is, not for which fiber. A wake is lost, and `park` promises that none is. So the wait is a plain one,
//! and blocks every fiber of the worker. `std::sync::mpsc`, `std::thread::scope` and crossbeam-channel wait by `park`.
//!
//! # Which word it is
//! The wait looks like any other, but for the value that is expected, and a lock may have that, too. So when a thread that
//! drives a worker first waits for that value, it is made to park once with a time-out of zero, and the word for which it
//! then waits is noted. That works inside of `park` as well: the first attempt finds the word `PARKED - 1` and gives up
//! without waiting, which leaves it 0, and the second one waits. An `unpark` that comes meanwhile may be taken by one of the
//! attempts; therefore one is made up for: the next `park` of the thread returns without a reason, as it may.
//!
//! A library with a `std` of its own (a `cdylib` that was loaded) has parkers of its own, which are not known here.

use std::cell::Cell;
use std::time::Duration;

use crate::hook::outcome::Errno;

/// What a parked thread's word is.
pub(super) const PARKED: u32 = u32::MAX;

/// Attempts to see the thread wait for its word. Two are enough, unless others keep on waking it.
const ATTEMPTS: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parker {
    Unknown,
    /// The thread is made to park.
    Sought,
    At(usize),
}

thread_local! {
    static PARKER: Cell<Parker> = const { Cell::new(Parker::Unknown) };
}

/// Why a thread waits for a word while it is [`PARKED`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It parks.
    Parks,
    /// It is made to park, to see for which word.
    Sought,
    /// The word is that of a lock.
    Lock,
}

/// Why the calling thread is about to wait for `word` while it is [`PARKED`].
#[cold]
pub(super) fn reason(word: usize) -> Reason {
    let address = match PARKER.get() {
        Parker::At(address) => address,
        Parker::Sought => {
            PARKER.set(Parker::At(word));
            return Reason::Sought;
        }
        // A thread that is woken all the time blocks once more: the lesser evil.
        Parker::Unknown => seek().unwrap_or(word),
    };
    if address == word { Reason::Parks } else { Reason::Lock }
}

fn seek() -> Option<usize> {
    let errno = Errno::save();
    PARKER.set(Parker::Sought);
    for _ in 0..ATTEMPTS {
        // Arrives in `reason`, and waits until a time that has passed.
        std::thread::park_timeout(Duration::ZERO);
        if PARKER.get() != Parker::Sought {
            break;
        }
    }
    std::thread::current().unpark();
    let _: isize = errno.finish(Ok(0), 0);
    match PARKER.get() {
        Parker::At(address) => Some(address),
        Parker::Sought | Parker::Unknown => {
            PARKER.set(Parker::Unknown);
            None
        }
    }
}
