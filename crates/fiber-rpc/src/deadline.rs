//! Deadlines on the wire: time left, in microseconds, 0 for none.

use std::time::{Duration, Instant};

/// Longest deadline that is taken at its word; a longer one is no deadline.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is left at `now`, at least one microsecond: zero would mean "for ever".
pub(crate) fn to_wire(deadline: Option<Instant>, now: Instant) -> u64 {
    match deadline {
        None => 0,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(now);
            u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1)
        }
    }
}

/// The deadline of a frame that was received at `now`.
pub(crate) fn from_wire(deadline_us: u64, now: Instant) -> Option<Instant> {
    let left = Duration::from_micros(deadline_us);
    if deadline_us == 0 || left > FOREVER { None } else { now.checked_add(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_travels_as_time_left() {
        let now = Instant::now();
        let deadline = now + Duration::from_micros(1500);
        assert_eq!(to_wire(Some(deadline), now), 1500);
        let later = now + Duration::from_secs(7);
        assert_eq!(from_wire(1500, later), Some(later + Duration::from_micros(1500)));
    }

    #[test]
    fn passed_deadline_is_not_for_ever_and_for_ever_is_not_a_deadline() {
        let now = Instant::now();
        assert_eq!(to_wire(Some(now), now + Duration::from_secs(1)), 1);
        assert_eq!(to_wire(None, now), 0);
        assert_eq!(from_wire(0, now), None);
        assert_eq!(from_wire(u64::MAX, now), None);
    }
}
