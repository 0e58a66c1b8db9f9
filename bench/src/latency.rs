//! Latencies: a histogram that keeps three digits from a microsecond to a minute and more.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Durations of operations, in nanoseconds inside.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are in order");
        Latencies { histogram }
    }
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        Latencies::default()
    }

    /// Counts one; what takes longer than ten minutes counts as ten minutes.
    pub fn record(&mut self, duration: Duration) {
        self.histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The figures that are reported.
    pub fn summary(&self) -> Summary {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let at = |quantile: f64| micros(self.histogram.value_at_quantile(quantile));
        Summary {
            count: self.histogram.len(),
            mean_us: self.histogram.mean() / 1000.0,
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(self.histogram.max()),
        }
    }
}

/// Figures of a distribution, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Operations.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 95th percentile.
    pub p95_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: f64| micros / 1000.0;
        write!(
            f,
            "mean {:.3} ms  p50 {:.3}  p95 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3}",
            ms(self.mean_us),
            ms(self.p50_us),
            ms(self.p95_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut first = Latencies::new();
        let mut second = Latencies::new();
        for micros in 1..=500 {
            first.record(Duration::from_micros(micros));
            second.record(Duration::from_micros(micros + 500));
        }
        first.merge(&second);
        let summary = first.summary();
        assert_eq!(summary.count, 1000);
        for (found, expected) in [
            (summary.p50_us, 500.0),
            (summary.p99_us, 990.0),
            (summary.max_us, 1000.0),
            (summary.mean_us, 500.5),
        ] {
            assert!((found - expected).abs() <= expected / 500.0, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_longest_and_the_shortest_are_counted() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.count(), 2);
    }
}
