//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

/// Appends metrics to a string.
///
/// ```
/// let mut out = String::new();
/// kvserver::metrics::Text::new(&mut out).gauge("raft_term", "Current term.", 7);
/// assert_eq!(out, "# HELP raft_term Current term.\n# TYPE raft_term gauge\nraft_term 7\n");
/// ```
pub struct Text<'a> {
    out: &'a mut String,
}

impl<'a> Text<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut String) -> Self {
        Text { out }
    }

    /// A whole family of one counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, help, "counter");
        self.sample(name, "", value);
    }

    /// A whole family of one gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, help, "gauge");
        self.sample(name, "", value);
    }

    /// The head of a family; its samples follow.
    pub fn family(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample; `labels` is what [`labels`] gave.
    pub fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        if labels.is_empty() {
            self.line(format_args!("{name} {value}\n"));
        } else {
            self.line(format_args!("{name}{{{labels}}} {value}\n"));
        }
    }

    pub(super) fn bucket(&mut self, name: &str, labels: &str, bound: f64, value: u64) {
        let comma = if labels.is_empty() { "" } else { "," };
        if bound.is_finite() {
            self.line(format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {value}\n"));
        } else {
            self.line(format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {value}\n"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.out.write_fmt(line).expect("writing to a String does not fail");
    }
}

/// Labels as they stand between the braces of a sample.
pub fn labels(labels: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let comma = if out.is_empty() { "" } else { "," };
        write!(out, "{comma}{name}=\"{value}\"").expect("writing to a String does not fail");
    }
    out
}
