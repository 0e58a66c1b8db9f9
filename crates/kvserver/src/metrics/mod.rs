//! Metrics: plain atomics on the path of a request, Prometheus text at `/metrics`.
//!
//! A part of the server asks the [`Registry`] for its [`Counter`]s, [`Gauge`]s and [`Histogram`]s once and then only
//! touches atomics. What is a number somewhere else already (the log's syncs, the term) is written at the time of
//! the scrape with [`Text`]. Names are etcd's in spirit: `kv_`, `raft_`, `wal_`, `rpc_`, `fiber_`, `process_`, base units, `_total`
//! for what only grows.

pub mod text;

pub mod value;

pub mod process;

pub mod fibers;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use fiber_runtime::sync::Spin;

pub use text::Text;
pub use value::{Counter, Gauge, Histogram};

/// The metrics of one server. Cheap to clone; all clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<Spin<Vec<Family>>>,
}

/// All metrics of one name. They differ in their labels.
#[derive(Clone)]
struct Family {
    name: &'static str,
    help: &'static str,
    series: Vec<(String, Series)>,
}

#[derive(Clone)]
enum Series {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
}

impl Registry {
    /// A registry without metrics.
    pub fn new() -> Self {
        Registry::default()
    }

    /// The counter of this name and these labels; made when it is new. `name` ends in `_total`.
    ///
    /// # Panics
    /// If the name belongs to a metric of another kind.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Arc<Counter> {
        match self.series(name, help, labels, || Series::Counter(Arc::default())) {
            Series::Counter(counter) => counter,
            _ => panic!("metric {name} is not a counter"),
        }
    }

    /// The gauge of this name and these labels; made when it is new.
    ///
    /// # Panics
    /// If the name belongs to a metric of another kind.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Arc<Gauge> {
        match self.series(name, help, labels, || Series::Gauge(Arc::default())) {
            Series::Gauge(gauge) => gauge,
            _ => panic!("metric {name} is not a gauge"),
        }
    }

    /// The histogram of durations of this name and these labels; made when it is new. `name` ends in `_seconds`.
    ///
    /// # Panics
    /// If the name belongs to a metric of another kind.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Arc<Histogram> {
        match self.series(name, help, labels, || Series::Histogram(Arc::default())) {
            Series::Histogram(histogram) => histogram,
            _ => panic!("metric {name} is not a histogram"),
        }
    }

    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Series,
    ) -> Series {
        let labels = text::labels(labels);
        let made = make();
        self.families.lock(|families| {
            let at = families.iter().position(|family| family.name == name).unwrap_or_else(|| {
                families.push(Family { name, help, series: Vec::new() });
                families.len() - 1
            });
            let family = &mut families[at];
            if let Some((_, known)) = family.series.iter().find(|(known, _)| *known == labels) {
                return known.clone();
            }
            family.series.push((labels, made.clone()));
            made
        })
    }

    /// Appends every metric in the Prometheus text format.
    pub fn encode(&self, out: &mut String) {
        // The values are read outside the lock: a scrape must not hold up a connection that registers.
        let families = self.families.lock(|families| families.clone());
        let mut text = Text::new(out);
        for Family { name, help, series } in families {
            let kind = match series.first() {
                Some((_, Series::Gauge(_))) => "gauge",
                Some((_, Series::Histogram(_))) => "histogram",
                _ => "counter",
            };
            text.family(name, help, kind);
            for (labels, series) in &series {
                match series {
                    Series::Counter(counter) => text.sample(name, labels, counter.get()),
                    Series::Gauge(gauge) => text.sample(name, labels, gauge.get()),
                    Series::Histogram(histogram) => histogram.encode(&mut text, name, labels),
                }
            }
        }
    }
}
