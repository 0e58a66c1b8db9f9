//! `stack/cache.rs`: stacks go from worker to worker through the depot, and none is in two hands.

use std::cell::RefCell;
use std::collections::HashSet;

use loom::thread;

use super::explore;
use crate::stack::arena::CARVED;
use crate::stack::{StackCache, trim};
use crate::sys;

thread_local! {
    /// The stacks that fibers run on. loom runs its threads on one thread of the system.
    static IN_USE: RefCell<HashSet<usize>> = RefCell::default();
}

/// A worker's life: more fibers at once than its cache keeps, then its end.
fn work(fibers: usize) {
    let mut cache = StackCache::new(false);
    let taken: Vec<_> = (0..fibers).map(|_| cache.take(0).unwrap()).collect();
    for stack in &taken {
        assert!(IN_USE.with_borrow_mut(|used| used.insert(stack.0)), "{stack:?} is in two hands");
    }
    for stack in taken {
        IN_USE.with_borrow_mut(|used| used.remove(&stack.0));
        cache.give(stack);
    }
}

/// Two workers start, spill to the depot, empty what is over its budget, and end. In the end every stack is there, once.
///
/// Seen failing when `Depot::take` or `trim` leaves what it gives away, and when `trim` loses it.
#[test]
fn no_stack_is_in_two_hands_and_none_is_lost() {
    explore(2, || {
        sys::on_empty(|number| {
            assert!(!IN_USE.with_borrow(|used| used.contains(&number)), "stack {number} is emptied in use");
        });
        let other = thread::spawn(|| work(3));
        work(3);
        other.join().unwrap();
        while trim() {}
        // What is left is drained, for the next iteration.
        let carved = CARVED.replace(0);
        let mut cache = StackCache::new(false);
        let left: HashSet<usize> = (0..carved).map(|_| cache.take(0).unwrap().0).collect();
        assert_eq!(CARVED.replace(0), 0, "a stack is lost: a new one was made for it");
        assert_eq!(left.len(), carved, "a stack is there twice");
    });
}
