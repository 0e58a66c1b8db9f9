//! Who waits for a word: fibers in lines, one line a word, the lines of several words in one bucket.
//!
//! Nodes live on the stacks of those who wait, so that neither a wait nor a wake allocates. The first in each line links
//! the lines to each other, so that a wake passes over the lines of other words and not over everybody in them.
//!
//! ```text
//!   bucket -> line of word A: first - second - ... - last
//!                |
//!             line of word B: first - last
//! ```
//!
//! A waiter and a waker must not miss each other. Neither asks the other; each writes and then reads:
//!
//! ```text
//!   waiter, under the bucket's lock               waker
//!   waiters += 1                                  word = something else   (its user's, in whatever order)
//!   fence                         (SeqCst)        fence                   (SeqCst)
//!   word is as expected?  link, release, park     waiters == 0?  nobody waits
//!   else waiters -= 1, release                    else lock; wake the first in line
//! ```
//!
//! One of the two fences is first. If the waker's is, the waiter sees the new word and does not wait. If the waiter's is,
//! the waker sees the count and takes the lock: it finds the node there, or the waiter comes later, and then the lock shows
//! it the new word. The kernel does the same for threads. While nobody waits, the waker's share is a fence and a load.
//!
//! ```text
//!   waiter                                        waker, under the lock
//!   flag set: the node is ours again              unlink the node; its fiber is of this worker: wake it,
//!   flag not set, time is up:                       else take a handle
//!     lock; flag set?  woken, after all           set its flag: the last touch
//!     else unlink: it timed out                   release, wake the handle
//! ```

use std::ptr;
use std::time::Instant;

use crate::primitive::{AtomicBool, AtomicU32, Ordering, UnsafeCell, fence};
use crate::sync::Spin;
use crate::waiter::{self, Sleeper, Waiter, Woken};

/// What a fiber that waits for a lock of `std` is said to wait for.
const LABEL: &str = "std::sync lock";
/// Fibers of other workers that are woken in one critical section, at most: their handles are kept until its end.
const HANDLES: usize = 8;
/// Fibers that are woken in one critical section, at most. More take several.
const BATCH: usize = 64;
/// While fibers wait and no thread was found waiting, one wake in so many asks for threads first all the same.
const PROBE: u32 = 8;

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// There was no wait: the word was not as expected.
    Changed,
    Woken,
    TimedOut,
}

/// Whom a wake has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// How many were woken, fibers and threads; or the kernel's error, when there was nobody but for it.
    pub(crate) result: isize,
    /// Whether a fiber of the calling worker is among them.
    pub(crate) neighbour: bool,
}

/// See the module's documentation.
pub(crate) struct Bucket {
    /// Those in the lines, and those about to be. Written under the lock.
    waiters: AtomicU32,
    /// Whether the last question to the kernel found a thread: then threads and fibers take turns. A hint.
    threads_wait: AtomicBool,
    lines: Spin<Lines>,
}

/// # Invariants
/// Every linked node is alive: [`Bucket::wait`] does not return before its node is unlinked. Slots are touched under the
/// bucket's lock only.
struct Lines {
    first: *const Node,
    /// Waiters that ever came: their order.
    arrivals: u64,
    wakes: u32,
}

// SAFETY: the nodes that it leads to are reached under the bucket's lock only, and those who wait wait until they are
// unlinked.
unsafe impl Send for Lines {}

struct Node {
    /// Set by the waker as its last touch of the node.
    notified: AtomicBool,
    slot: UnsafeCell<Slot>,
}

struct Slot {
    word: usize,
    who: Option<Sleeper>,
    linked: bool,
    arrival: u64,
    /// Neighbours in line; the first has nobody ahead.
    ahead: *const Node,
    behind: *const Node,
    /// Of the first in line: who is the last, and the neighbouring lines.
    last: *const Node,
    line_before: *const Node,
    line_after: *const Node,
}

/// Fibers to be woken once the lock is released.
type Handles = [Option<Waiter>; HANDLES];

impl Bucket {
    /// Nobody waits.
    #[cfg(not(fiber_model))]
    pub(crate) const fn new() -> Self {
        Bucket {
            waiters: AtomicU32::new(0),
            threads_wait: AtomicBool::new(false),
            lines: Spin::new(Lines { first: ptr::null(), arrivals: 0, wakes: 0 }),
        }
    }

    /// Nobody waits. (What a model is made of cannot be made in a constant.)
    #[cfg(fiber_model)]
    pub(crate) fn new() -> Self {
        Bucket {
            waiters: AtomicU32::new(0),
            threads_wait: AtomicBool::new(false),
            lines: Spin::new(Lines { first: ptr::null(), arrivals: 0, wakes: 0 }),
        }
    }

    /// In a forked child: nobody waits, whose fibers and threads it does not have.
    ///
    /// # Safety
    /// There is no other thread yet.
    pub(crate) unsafe fn forget(&self) {
        // What is untouched stays shared with the parent.
        if self.waiters.load(Ordering::Relaxed) != 0 || self.lines.is_locked() {
            self.waiters.store(0, Ordering::Relaxed);
            // SAFETY: the caller's promise; the caller is not in the critical section, which does not fork.
            unsafe { self.lines.renew(Lines { first: ptr::null(), arrivals: 0, wakes: 0 }) };
        }
    }

    /// Parks the calling fiber until `word` is woken, if it is `expected`. Neither cancellation nor the deadline of a
    /// scope ends it: who waits would come again at once.
    ///
    /// Inlined, as everything between a fiber's call and the switch: see `park::switch`.
    #[inline(always)]
    pub(crate) fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Ended {
        let node = Node::new(word);
        // SAFETY: the node stays in this frame, which is not left before it is unlinked: nothing below unwinds.
        if !unsafe { self.enter(&node, word, expected) } {
            return Ended::Changed;
        }
        let mut ended = Woken::Signal;
        while ended == Woken::Signal && !node.is_notified() {
            ended = waiter::wait_uncancelled(LABEL, deadline);
        }
        if node.is_notified() || self.leave(&node) { Ended::Woken } else { Ended::TimedOut }
    }

    /// Links the node, if the word is as expected.
    ///
    /// # Safety
    /// The node is new, and stays where it is, alive, until it is unlinked.
    #[inline(always)]
    unsafe fn enter(&self, node: &Node, word: &AtomicU32, expected: u32) -> bool {
        let who = Sleeper::current();
        self.lines.lock(|lines| {
            // Relaxed, and not one operation: writers hold the lock, and the fence orders it for wakers.
            let waiters = self.waiters.load(Ordering::Relaxed);
            self.waiters.store(waiters + 1, Ordering::Relaxed);
            // Pairs with the fence in `wake`: see the picture above.
            fence(Ordering::SeqCst);
            if word.load(Ordering::Relaxed) != expected {
                self.waiters.store(waiters, Ordering::Relaxed);
                return false;
            }
            // SAFETY: the caller's promise; the lock is held.
            unsafe {
                (*node.slot.get()).who = Some(who);
                lines.link(node);
            }
            true
        })
    }

    /// The deadline of a waiter has passed: takes it out of its line, or finds that it was woken first (true).
    #[cold]
    fn leave(&self, node: &Node) -> bool {
        self.lines.lock(|lines| {
            if node.is_notified() {
                return true;
            }
            // SAFETY: the node was linked in this bucket, and only a waker, who sets the flag, unlinks it otherwise.
            unsafe { self.unlink(lines, node) };
            false
        })
    }

    /// # Safety
    /// The node is linked in these lines, which are this bucket's; the lock is held.
    #[inline(always)]
    unsafe fn unlink(&self, lines: &mut Lines, node: &Node) {
        // Relaxed: as in `enter`. A waker that reads the old number looks in vain.
        self.waiters.store(self.waiters.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { lines.unlink(node) };
    }

    /// Wakes up to `count` of those who wait for the word at address `word`: fibers here, and threads by `kernel`, which
    /// is told how many and says how many it woke, or its error. The word has been changed before.
    #[inline]
    pub(crate) fn wake(&self, word: usize, count: u32, kernel: impl Fn(u32) -> isize) -> Found {
        // Pairs with the fence in `enter`: see the picture above.
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::Relaxed) == 0 {
            return Found { result: kernel(count), neighbour: false };
        }
        self.wake_fibers(word, count, kernel)
    }

    #[cold]
    fn wake_fibers(&self, word: usize, count: u32, kernel: impl Fn(u32) -> isize) -> Found {
        // Who comes later has seen the changed word, and is not meant.
        let (until, threads_first) =
            self.lines.lock(|lines| (lines.arrivals, self.is_threads_turn(lines, word)));
        let mut found = Found { result: 0, neighbour: false };
        let mut asked = None;
        if threads_first {
            asked = Some(self.ask(count, &kernel));
        }
        let mut left = count - asked.map_or(0, |woken| woken.max(0) as u32);
        while left > 0 {
            let mut handles = Handles::default();
            let woken = self.lines.lock(|lines| self.notify(lines, word, (left, until), &mut handles));
            found.neighbour |= woken.neighbour;
            found.result += woken.result;
            left -= woken.result as u32;
            handles.into_iter().flatten().for_each(|who| who.wake());
            if woken.result == 0 {
                break;
            }
        }
        if left > 0 && asked.is_none() {
            asked = Some(self.ask(left, &kernel));
        }
        match asked {
            // An error is of interest if nothing else came of the call.
            Some(error @ ..0) if found.result == 0 => found.result = error,
            Some(woken) => found.result += woken.max(0),
            None => {}
        }
        found
    }

    /// Wakes threads, and notes whether there are any.
    fn ask(&self, count: u32, kernel: impl Fn(u32) -> isize) -> isize {
        let woken = kernel(count);
        // Relaxed: a hint.
        self.threads_wait.store(woken > 0, Ordering::Relaxed);
        woken
    }

    /// Whether this wake asks for threads before fibers: every other one while threads wait, so that neither kind keeps
    /// the other from being woken; else now and then, to see whether one does.
    fn is_threads_turn(&self, lines: &mut Lines, word: usize) -> bool {
        lines.wakes = lines.wakes.wrapping_add(1);
        let every = if self.threads_wait.load(Ordering::Relaxed) { 2 } else { PROBE };
        lines.wakes.is_multiple_of(every) || lines.line(word).is_null()
    }

    /// Unlinks up to so many fibers that wait for the word and came no later than given, and wakes them or takes their
    /// handles. `result` is their number.
    fn notify(
        &self,
        lines: &mut Lines,
        word: usize,
        (left, until): (u32, u64),
        handles: &mut Handles,
    ) -> Found {
        let mut found = Found { result: 0, neighbour: false };
        let mut free = handles.iter_mut();
        let mut room = free.next();
        for _ in 0..BATCH.min(left as usize) {
            let Some(handle) = room.take() else { break };
            let node = lines.line(word);
            // SAFETY: what is linked is alive (invariant), until its flag is set: the last access here. The lock is held.
            unsafe {
                if node.is_null() || (*(*node).slot.get()).arrival > until {
                    break;
                }
                self.unlink(lines, &*node);
                let who = (*(*node).slot.get()).who.take();
                *handle = who.and_then(|who| who.wake_or_handle());
                // Pairs with the acquiring load in `Node::is_notified`.
                (*node).notified.store(true, Ordering::Release);
            }
            found.result += 1;
            match handle {
                Some(_) => room = free.next(),
                None => {
                    found.neighbour = true;
                    room = Some(handle);
                }
            }
        }
        found
    }
}

impl Lines {
    /// The first of those who wait for the word, or null.
    fn line(&self, word: usize) -> *const Node {
        let mut first = self.first;
        // SAFETY: what is linked is alive (invariant), and the borrow stands for the lock.
        while let Some(node) = unsafe { first.as_ref() } {
            // SAFETY: as above.
            let slot = unsafe { &*node.slot.get() };
            if slot.word == word {
                break;
            }
            first = slot.line_after;
        }
        first
    }

    /// # Safety
    /// The node is linked nowhere and stays where it is, alive, until it is unlinked.
    unsafe fn link(&mut self, node: &Node) {
        self.arrivals += 1;
        // SAFETY: as in `line`; no two of these references are to the same slot.
        unsafe {
            let slot = &mut *node.slot.get();
            assert!(!slot.linked, "a waiter is linked once");
            slot.linked = true;
            slot.arrival = self.arrivals;
            match self.line(slot.word).as_ref() {
                Some(first) => {
                    let last = std::mem::replace(&mut (*first.slot.get()).last, node);
                    (*(*last).slot.get()).behind = node;
                    slot.ahead = last;
                }
                None => {
                    slot.last = node;
                    slot.line_after = self.first;
                    if let Some(after) = self.first.as_ref() {
                        (*after.slot.get()).line_before = node;
                    }
                    self.first = node;
                }
            }
        }
    }

    /// # Safety
    /// The node is linked here.
    unsafe fn unlink(&mut self, node: &Node) {
        // SAFETY: as in `link`.
        unsafe {
            let (word, ahead, behind) = {
                let slot = &mut *node.slot.get();
                assert!(slot.linked, "a waiter is unlinked once");
                slot.linked = false;
                (slot.word, slot.ahead, slot.behind)
            };
            if let Some(ahead) = ahead.as_ref() {
                (*ahead.slot.get()).behind = behind;
                match behind.as_ref() {
                    Some(behind) => (*behind.slot.get()).ahead = ahead,
                    None => (*(*self.line(word)).slot.get()).last = ahead,
                }
                return;
            }
            // It was the first: the second takes its place between the lines, or the line ends.
            let (last, line_before, line_after) = {
                let slot = &*node.slot.get();
                (slot.last, slot.line_before, slot.line_after)
            };
            let (before, after) = match behind.as_ref() {
                Some(second) => {
                    let slot = &mut *second.slot.get();
                    (slot.ahead, slot.last) = (ptr::null(), last);
                    (slot.line_before, slot.line_after) = (line_before, line_after);
                    (behind, behind)
                }
                None => (line_before, line_after),
            };
            match line_before.as_ref() {
                Some(line) => (*line.slot.get()).line_after = after,
                None => self.first = after,
            }
            if let Some(line) = line_after.as_ref() {
                (*line.slot.get()).line_before = before;
            }
        }
    }
}

impl Node {
    fn new(word: &AtomicU32) -> Self {
        let nobody = ptr::null();
        let slot = Slot {
            word: ptr::from_ref(word).addr(),
            who: None,
            linked: false,
            arrival: 0,
            ahead: nobody,
            behind: nobody,
            last: nobody,
            line_before: nobody,
            line_after: nobody,
        };
        Node { notified: AtomicBool::new(false), slot: UnsafeCell::new(slot) }
    }

    fn is_notified(&self) -> bool {
        // Pairs with the releasing store in `Bucket::notify`.
        self.notified.load(Ordering::Acquire)
    }
}
