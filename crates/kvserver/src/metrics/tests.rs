//! The text that a scrape sees.

use std::time::Duration;

use super::*;

#[test]
fn families_are_grouped_with_help_and_type() {
    let registry = Registry::new();
    registry.counter("kv_a_total", "First.", &[("command", "get")]).add(2);
    registry.gauge("kv_b", "Second.", &[]).set(-3);
    registry.counter("kv_a_total", "First.", &[("command", "set")]).increment();
    let mut out = String::new();
    registry.encode(&mut out);
    assert_eq!(
        out,
        "# HELP kv_a_total First.\n# TYPE kv_a_total counter\n\
         kv_a_total{command=\"get\"} 2\nkv_a_total{command=\"set\"} 1\n\
         # HELP kv_b Second.\n# TYPE kv_b gauge\nkv_b -3\n"
    );
}

#[test]
fn asking_twice_gives_the_same_metric() {
    let registry = Registry::new();
    let first = registry.counter("kv_a_total", "A.", &[("x", "1")]);
    let second = registry.clone().counter("kv_a_total", "A.", &[("x", "1")]);
    first.increment();
    assert_eq!(second.get(), 1);
    assert_eq!(registry.counter("kv_a_total", "A.", &[("x", "2")]).get(), 0);
}

#[test]
#[should_panic(expected = "metric kv_a_total is not a gauge")]
fn one_name_has_one_kind() {
    let registry = Registry::new();
    registry.counter("kv_a_total", "A.", &[]);
    registry.gauge("kv_a_total", "A.", &[]);
}

#[test]
fn histogram_buckets_are_cumulative() {
    let registry = Registry::new();
    let histogram = registry.histogram("kv_request_duration_seconds", "Time.", &[]);
    histogram.observe(Duration::from_micros(10));
    histogram.observe_many(Duration::from_micros(11), 2);
    histogram.observe(Duration::from_secs(3600));
    let mut out = String::new();
    registry.encode(&mut out);
    let line = |line: &str| assert!(out.lines().any(|found| found == line), "no {line:?} in\n{out}");
    line("kv_request_duration_seconds_bucket{le=\"0.00001\"} 1");
    line("kv_request_duration_seconds_bucket{le=\"0.000025\"} 3");
    line("kv_request_duration_seconds_bucket{le=\"10\"} 3");
    line("kv_request_duration_seconds_bucket{le=\"+Inf\"} 4");
    line("kv_request_duration_seconds_count 4");
    line("kv_request_duration_seconds_sum 3600.000032");
    assert_eq!(histogram.count(), 4);
}

#[test]
fn label_values_are_escaped() {
    assert_eq!(text::labels(&[("a", "x\"y\\z\n"), ("b", "")]), "a=\"x\\\"y\\\\z\\n\",b=\"\"");
}

#[test]
fn the_process_has_memory_and_threads() {
    let usage = process::usage();
    assert!(usage.resident_bytes > 0 && usage.threads > 0, "{usage:?}");
    let mut out = String::new();
    process::encode(&mut out);
    assert!(out.contains("process_resident_memory_bytes "));
}
