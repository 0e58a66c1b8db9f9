//! Timers with callbacks. Each is a fiber that parks until its time, and is unparked when its time changes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::spawn_named;
use crate::sync::Spin;
use crate::{Fiber, Handle, park_until, time};

/// A timer of an [`super::IoManager`]. Dropping the handle leaves the timer running.
#[derive(Clone)]
pub struct Timer {
    shared: Arc<Shared>,
}

struct Shared {
    state: Spin<State>,
    recurring: bool,
}

struct State {
    /// `None` once it is cancelled, or has fired for the last time.
    due: Option<Instant>,
    delay: Duration,
    /// The fiber that waits, once it is known.
    waits: Option<Fiber>,
}

impl Timer {
    /// Ends the timer. False if it had ended already. A callback that runs at this moment runs to its end.
    pub fn cancel(&self) -> bool {
        self.shared.change(|state| state.due = None)
    }

    /// Starts the delay over. False if the timer has ended.
    pub fn refresh(&self) -> bool {
        self.shared.change(|state| state.due = Some(after(state.delay)))
    }

    /// Sets another delay: with `from_now` it begins now, else where the present one began. False if the timer has
    /// ended.
    pub fn reset(&self, delay: Duration, from_now: bool) -> bool {
        let delay = delay.min(LONGEST);
        self.shared.change(|state| {
            let begun = state.due.and_then(|due| due.checked_sub(state.delay));
            state.due = match begun {
                Some(begun) if !from_now => Some(begun + delay),
                _ => Some(after(delay)),
            };
            state.delay = delay;
        })
    }

    /// When it fires next; `None` if it has ended.
    pub fn due(&self) -> Option<Instant> {
        self.shared.state.lock(|state| state.due)
    }
}

impl Shared {
    /// Changes a timer that has not ended, and lets its fiber look at it.
    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let (alive, waits) = self.state.lock(|state| {
            let alive = state.due.is_some();
            if alive {
                change(state);
            }
            (alive, state.waits.clone())
        });
        if let Some(fiber) = waits {
            fiber.unpark();
        }
        alive
    }

    /// The fiber's side: fires whenever the time has come, until there is none.
    fn run(&self, mut callback: impl FnMut()) {
        while let Some(due) = self.state.lock(|state| state.due) {
            if due > time::now() {
                park_until(Some(due));
                continue;
            }
            let fire = self.state.lock(|state| {
                // Changed or cancelled since it was looked at.
                if state.due != Some(due) {
                    return false;
                }
                state.due = self.recurring.then(|| after(state.delay));
                true
            });
            if fire {
                callback();
            }
        }
    }
}

/// A longer delay counts as this one, a hundred years: the clock cannot express every duration.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `delay` from now; it is at most [`LONGEST`].
fn after(delay: Duration) -> Instant {
    time::now() + delay
}

/// The timers that have not ended: recurring ones must not hold up a stop.
#[derive(Default)]
pub(super) struct Timers(Spin<List>);

#[derive(Default)]
struct List {
    timers: Vec<Timer>,
    /// How long the list may grow before those that have ended are taken out, so that adding one costs little.
    sweep_at: usize,
}

impl List {
    fn push(&mut self, timer: Timer) {
        const SMALL: usize = 64;

        if self.timers.len() >= self.sweep_at.max(SMALL) {
            self.timers.retain(|timer| timer.due().is_some());
            self.sweep_at = self.timers.len() * 2;
        }
        self.timers.push(timer);
    }
}

impl Timers {
    pub(super) fn add(
        &self,
        runtime: &Handle,
        delay: Duration,
        recurring: bool,
        callback: impl FnMut() + Send + 'static,
    ) -> Timer {
        let delay = delay.min(LONGEST);
        let state = State { due: Some(after(delay)), delay, waits: None };
        let timer = Timer { shared: Arc::new(Shared { state: Spin::new(state), recurring }) };
        let shared = Arc::clone(&timer.shared);
        let fiber = spawn_named(runtime, "timer", move || {
            shared.run(callback);
            // The handle may outlive the fiber; the fiber's name for itself need not.
            drop(shared.state.lock(|state| state.waits.take()));
        });
        timer.shared.state.lock(|state| {
            if state.due.is_some() {
                state.waits = Some(fiber.clone());
            }
        });
        // It may have been changed before its fiber was known.
        fiber.unpark();
        self.0.lock(|list| list.push(timer.clone()));
        timer
    }

    /// When the next timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.lock(|list| list.timers.iter().filter_map(Timer::due).min())
    }

    pub(super) fn end_recurring(&self) {
        let timers = self.0.lock(|list| list.timers.clone());
        for timer in timers.iter().filter(|timer| timer.shared.recurring) {
            timer.cancel();
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("due", &self.due()).field("recurring", &self.shared.recurring).finish()
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("next", &self.next()).finish()
    }
}
