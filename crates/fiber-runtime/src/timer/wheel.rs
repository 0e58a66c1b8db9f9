//! The wheel.
//!
//! Time is counted in ticks of 1.024 us since the worker's clock began. A deadline is kept on the level at which its
//! tick first differs, six bits at a time, from the current tick:
//!
//! ```text
//!   tick   ...| level 2 | level 1 | level 0 |      level 0: 64 slots of 1 tick
//!          ...| 6 bits  | 6 bits  | 6 bits  |      level 1: 64 slots of 64 ticks, and so on: 9 levels hold 2^54 ticks
//! ```
//!
//! Hence every timer of a lower level is due before every timer of a higher one, and the earliest is found by two
//! bit scans. When time reaches a slot of a higher level its timers are dealt to lower levels, at most once per level
//! in a timer's life. Each slot remembers a lower bound of its deadlines, so that a worker sleeps until the deadline
//! and does not wake just to deal.
//!
//! A timer never fires early, and late by at most one tick beyond what the sleep itself adds.

use std::cell::Cell;
use std::ptr::NonNull;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// A tick is 2^10 ns, so u64 nanoseconds are 2^54 ticks: nine levels of six bits.
const LEVELS: usize = 9;
const TICK_SHIFT: u32 = 10;
/// The last tick that fits the levels. Deadlines beyond it (584 years) share it.
const LAST_TICK: u64 = (1 << (BITS * LEVELS as u32)) - 1;

/// The slot of a node that is in no wheel.
const IDLE: u16 = u16::MAX;

/// A timer, armed or not. Must not move while armed.
pub(crate) struct TimerNode {
    next: Cell<*const TimerNode>,
    previous: Cell<*const TimerNode>,
    tick: Cell<u64>,
    /// Index of the list it is in, `level * SLOTS + slot`, or `IDLE`.
    list: Cell<u16>,
}

impl TimerNode {
    pub(crate) const fn new() -> Self {
        TimerNode {
            next: Cell::new(std::ptr::null()),
            previous: Cell::new(std::ptr::null()),
            tick: Cell::new(0),
            list: Cell::new(IDLE),
        }
    }

    /// Whether it is in a wheel.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.list.get() != IDLE
    }
}

/// One slot's list: where it begins and how early its earliest timer can be.
#[derive(Clone, Copy)]
struct List {
    first: *const TimerNode,
    bound: u64,
}

const EMPTY: List = List { first: std::ptr::null(), bound: u64::MAX };

/// See the module's documentation.
///
/// # Invariants
/// Every armed node's tick is greater than `now`; on level `l` it agrees with `now` in all bits above the level's six
/// and is greater in those six. `occupied[l]` has a bit for each non-empty list of the level.
pub(crate) struct Wheel {
    now: u64,
    occupied: [u64; LEVELS],
    lists: Box<[List; LEVELS * SLOTS]>,
    armed: usize,
}

impl Wheel {
    pub(crate) fn new(now_nanos: u64) -> Self {
        let lists: Box<[List]> = vec![EMPTY; LEVELS * SLOTS].into();
        Wheel {
            now: now_nanos >> TICK_SHIFT,
            occupied: [0; LEVELS],
            lists: lists.try_into().unwrap_or_else(|_| unreachable!("the box has the array's length")),
            armed: 0,
        }
    }

    /// The number of armed timers.
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Moves an empty wheel's time forward, so that the next timer starts on the level its distance calls for.
    #[inline]
    pub(crate) fn skip_to(&mut self, now_nanos: u64) {
        assert!(self.is_empty(), "{} timers are armed", self.armed);
        self.now = self.now.max((now_nanos >> TICK_SHIFT).min(LAST_TICK));
    }

    /// Arms `node` for `deadline` and returns when it will fire: the deadline, rounded up to a tick. `None`, and nothing
    /// happens, when that is not after the last `advance`.
    ///
    /// # Safety
    /// The node stays where it is and alive until it fires or is disarmed, and is used by this thread only. `fire` gets
    /// this very pointer, so it may point into something larger.
    #[inline]
    pub(crate) unsafe fn arm(&mut self, node: NonNull<TimerNode>, deadline_nanos: u64) -> Option<u64> {
        // Rounded up: a timer does not fire early.
        let tick = deadline_nanos.div_ceil(1 << TICK_SHIFT).min(LAST_TICK);
        if tick <= self.now {
            return None;
        }
        // SAFETY: alive by the caller's promise.
        let timer = unsafe { node.as_ref() };
        assert!(!timer.is_armed(), "a fiber arms one timer at a time");
        timer.tick.set(tick);
        // SAFETY: as above.
        unsafe { self.link(node) };
        self.armed += 1;
        Some(tick << TICK_SHIFT)
    }

    /// Disarms `node`; does nothing if it is not armed.
    ///
    /// # Safety
    /// If the node is armed, then in this wheel.
    #[inline]
    pub(crate) unsafe fn disarm(&mut self, node: &TimerNode) {
        if node.is_armed() {
            self.unlink(node);
            self.armed -= 1;
        }
    }

    /// When the earliest timer is due, or a little before: never after. `None` without timers.
    pub(crate) fn next_deadline_nanos(&self) -> Option<u64> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let tick = self.lists[level * SLOTS + slot].bound.max(self.slot_start(level, slot));
        Some(tick.saturating_mul(1 << TICK_SHIFT))
    }

    /// Moves time forward and calls `fire` on each timer that is due, earliest tick first, in the order of arming
    /// within a tick (as far as they were armed on the same level). The node is disarmed when `fire` gets it.
    pub(crate) fn advance(&mut self, now_nanos: u64, mut fire: impl FnMut(NonNull<TimerNode>)) {
        // Rounded down, as deadlines are rounded up.
        let target = (now_nanos >> TICK_SHIFT).min(LAST_TICK);
        while let Some(level) = self.occupied.iter().position(|&slots| slots != 0) {
            let slot = self.occupied[level].trailing_zeros() as usize;
            let start = self.slot_start(level, slot);
            if start > target {
                break;
            }
            self.now = start;
            let at = level * SLOTS + slot;
            let mut node = std::mem::replace(&mut self.lists[at], EMPTY).first;
            self.occupied[level] &= !(1 << slot);
            // New nodes go to the front of a list, so reversing gives the order of arming.
            node = reverse(node);
            while let Some(timer) = NonNull::new(node.cast_mut()) {
                // SAFETY: nodes in the wheel are alive and of this thread (`arm`).
                let timer_ref = unsafe { timer.as_ref() };
                node = timer_ref.next.get();
                if timer_ref.tick.get() <= start {
                    timer_ref.list.set(IDLE);
                    self.armed -= 1;
                    fire(timer);
                } else {
                    // SAFETY: as above.
                    unsafe { self.link(timer) };
                }
            }
        }
        self.now = self.now.max(target);
    }

    /// The first tick of a slot in the current turn of its level.
    #[inline]
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = BITS * level as u32;
        let above = self.now >> (shift + BITS) << (shift + BITS);
        above | ((slot as u64) << shift)
    }

    /// # Safety
    /// As for [`Wheel::arm`].
    #[inline]
    unsafe fn link(&mut self, node: NonNull<TimerNode>) {
        // SAFETY: the caller's promise.
        let timer = unsafe { node.as_ref() };
        let tick = timer.tick.get();
        debug_assert!(tick > self.now, "tick {tick} is not after {}", self.now);
        let level = ((u64::BITS - 1 - (tick ^ self.now).leading_zeros()) / BITS) as usize;
        let slot = (tick >> (BITS * level as u32)) as usize & (SLOTS - 1);
        let at = level * SLOTS + slot;
        let list = &mut self.lists[at];
        timer.previous.set(std::ptr::null());
        timer.next.set(list.first);
        if !list.first.is_null() {
            // SAFETY: nodes in the wheel are alive and of this thread (`arm`).
            unsafe { (*list.first).previous.set(node.as_ptr()) };
        }
        list.first = node.as_ptr();
        list.bound = list.bound.min(tick);
        timer.list.set(at as u16);
        self.occupied[level] |= 1 << slot;
    }

    #[inline]
    fn unlink(&mut self, timer: &TimerNode) {
        let at = usize::from(timer.list.replace(IDLE));
        let (next, previous) = (timer.next.get(), timer.previous.get());
        // SAFETY: the neighbours of an armed node are armed nodes, alive and of this thread (`arm`).
        unsafe {
            if !next.is_null() {
                (*next).previous.set(previous);
            }
            if !previous.is_null() {
                (*previous).next.set(next);
                return;
            }
        }
        self.lists[at].first = next;
        if next.is_null() {
            self.lists[at] = EMPTY;
            self.occupied[at / SLOTS] &= !(1 << (at % SLOTS));
        }
    }
}

/// Turns a list round; `previous` links are set anew by whoever links the nodes again.
fn reverse(mut node: *const TimerNode) -> *const TimerNode {
    let mut reversed: *const TimerNode = std::ptr::null();
    while !node.is_null() {
        // SAFETY: nodes of a list taken out of the wheel are alive and of this thread (`arm`).
        let next = unsafe { &(*node).next };
        let rest = next.replace(reversed);
        reversed = node;
        node = rest;
    }
    reversed
}

#[cfg(test)]
mod tests;
