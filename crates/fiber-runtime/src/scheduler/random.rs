//! Random choices among workers: whom to ask first, whom to give a fiber.

use std::cell::Cell;

/// A cheap random number of the calling thread, for choices that need no quality.
pub(crate) fn thread_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    STATE.with(|state| {
        let mut x = state.get();
        if x == 0 {
            // The address differs from thread to thread.
            x = std::ptr::from_ref(state) as u64 | 1;
        }
        // xorshift64
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}
