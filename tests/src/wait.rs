//! Waiting for a state with a deadline, which is what tests do instead of sleeping and hoping.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks at a state.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `state` gives something, and returns that.
///
/// # Panics
/// When `limit` has passed, saying `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: impl Display, limit: Duration, mut state: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = state() {
            return found;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Looks until `state` holds.
///
/// # Panics
/// When `limit` has passed, saying `what` was waited for.
#[track_caller]
pub fn wait_until(what: impl Display, limit: Duration, mut state: impl FnMut() -> bool) {
    wait_for(what, limit, || state().then_some(()));
}
