//! The figures of the runtime that serves the scrape, one series per worker.

use fiber_runtime::{Handle, WorkerMetrics};

use super::text::{Text, labels};
use crate::logging;

type Figure = (&'static str, &'static str, &'static str, fn(&WorkerMetrics) -> u64);

const FIGURES: &[Figure] = &[
    ("fiber_alive", "Fibers that have started on the worker and not ended.", "gauge", |worker| worker.alive),
    ("fiber_ready", "Fibers that wait for their turn.", "gauge", |worker| worker.ready),
    ("fiber_spawned_total", "Fibers spawned on the worker.", "counter", |worker| worker.spawned),
    ("fiber_started_total", "Fibers that first ran on the worker.", "counter", |worker| worker.started),
    ("fiber_ended_total", "Fibers that ended on the worker.", "counter", |worker| worker.ended),
    ("fiber_switches_total", "Switches to fibers.", "counter", |worker| worker.switches),
    ("fiber_stolen_total", "Unstarted fibers taken from other workers.", "counter", |worker| worker.stolen),
    ("fiber_polls_total", "Times the worker asked the kernel for events.", "counter", |worker| worker.polls),
    ("fiber_events_total", "Events the kernel reported.", "counter", |worker| worker.events),
    ("fiber_sleeps_total", "Times the worker slept in the kernel.", "counter", |worker| worker.sleeps),
    ("fiber_timers_total", "Timers that fired.", "counter", |worker| worker.timers),
    ("fiber_posts_total", "Fibers handed over by other threads.", "counter", |worker| worker.posts),
];

/// Appends the metrics of the current runtime; nothing outside of one.
pub fn encode(out: &mut String) {
    let mut text = Text::new(out);
    text.counter(
        "kv_log_lines_dropped_total",
        "Log lines that were dropped because the writer could not keep up.",
        logging::dropped_lines(),
    );
    let Some(runtime) = Handle::try_current() else { return };
    let metrics = runtime.metrics();
    for (name, help, kind, figure) in FIGURES {
        text.family(name, help, kind);
        for (index, worker) in metrics.workers.iter().enumerate() {
            text.sample(name, &labels(&[("worker", &index.to_string())]), figure(worker));
        }
    }
    text.gauge("fiber_blocking_threads", "Threads of the blocking pool.", metrics.blocking_threads);
    text.gauge("fiber_blocking_queued", "Calls that wait for a blocking thread.", metrics.blocking_queued);
    text.counter("fiber_blocking_done_total", "Calls that blocking threads finished.", metrics.blocking_done);
}
