//! The figures of the runtime that serves the scrape, one series per worker.

use fiber_runtime::Handle;

use super::text::Text;
use crate::logging;

/// Appends the metrics of logging and of the current runtime; outside of one, the former.
pub fn encode(out: &mut String) {
    Text::new(out).counter(
        "kv_log_lines_dropped_total",
        "Log lines that were dropped because the writer could not keep up.",
        logging::dropped_lines(),
    );
    if let Some(runtime) = Handle::try_current() {
        out.push_str(&runtime.metrics().prometheus("fiber_runtime"));
    }
}
