//! When the core ticks.

use std::time::{Duration, Instant};

/// Turns time into ticks: one per tick length on average, and never two for one look at the clock.
///
/// After a stall (a stopped process, a busy machine) there is one tick, not as many as fit into the stall: the time that
/// passed without this node is no reason for an election. What came in during the stall is stepped before that tick.
#[derive(Debug)]
pub(super) struct Ticker {
    length: Duration,
    next: Instant,
}

impl Ticker {
    pub(super) fn new(length: Duration, now: Instant) -> Ticker {
        Ticker { length, next: now + length }
    }

    /// When the next tick is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Whether a tick is due; if so, sets the next one.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next += self.length;
        if self.next <= now {
            self.next = now + self.length;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    #[test]
    fn being_late_now_and_then_does_not_make_ticks_rarer() {
        let start = Instant::now();
        let mut ticker = Ticker::new(TICK, start);
        let mut ticks = 0;
        // The clock is looked at every 7 ms.
        for look in 0..1000 {
            ticks += u32::from(ticker.is_due(start + Duration::from_millis(7) * look));
        }
        assert!((690..=700).contains(&ticks), "{ticks} ticks in 7 s");
    }

    #[test]
    fn a_stall_is_one_tick() {
        let start = Instant::now();
        let mut ticker = Ticker::new(TICK, start);
        let after = start + Duration::from_secs(60);
        assert!(ticker.is_due(after));
        assert!(!ticker.is_due(after));
        assert_eq!(ticker.next(), after + TICK);
    }
}
