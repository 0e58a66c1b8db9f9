//! Metrics as text: for people, and in the format that Prometheus reads.

use std::fmt;
use std::time::Duration;

use crate::metrics::{Metrics, WorkerMetrics};

/// A figure of one worker: name, whether it only grows, what it is, and where it is.
type Figure = (&'static str, bool, &'static str, fn(&WorkerMetrics) -> u64);

const FIGURES: [Figure; 21] = [
    ("fibers_alive", false, "fibers that have started and not ended", |worker| worker.alive),
    ("fibers_ready", false, "fibers waiting for the processor", |worker| worker.ready),
    ("fibers_parked", false, "fibers waiting for something", |worker| worker.parked),
    ("fibers_spawned_total", true, "fibers spawned by fibers", |worker| worker.spawned),
    ("fibers_started_total", true, "fibers started", |worker| worker.started),
    ("fibers_ended_total", true, "fibers ended", |worker| worker.ended),
    ("fibers_stolen_total", true, "un-started fibers taken from other workers", |worker| worker.stolen),
    ("switches_total", true, "times a fiber was given the processor", |worker| worker.switches),
    ("wakes_total", true, "times a waiting fiber was woken", |worker| worker.wakes),
    ("posts_total", true, "fibers handed over by other threads", |worker| worker.posts),
    ("signals_total", true, "times the worker itself was woken", |worker| worker.signals),
    ("polls_total", true, "times the kernel was asked for events", |worker| worker.polls),
    ("events_total", true, "events it reported", |worker| worker.events),
    ("sleeps_total", true, "times the worker slept", |worker| worker.sleeps),
    ("timers_armed_total", true, "timers armed", |worker| worker.timers_armed),
    ("timers_fired_total", true, "timers that fired", |worker| worker.timers),
    ("timers_cancelled_total", true, "timers disarmed before they fired", WorkerMetrics::timers_cancelled),
    ("timers_pending", false, "timers armed now", |worker| worker.timers_pending),
    ("stacks_cached", false, "stacks kept for the next fibers", |worker| worker.stacks_cached),
    ("hogs_total", true, "fibers that held the worker longer than the limit", |worker| worker.hogs),
    ("blocking_waits_total", true, "waits of fibers that blocked the worker", |worker| worker.blocking_waits),
];

/// A table: one line a figure, one column a worker, and the sum.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        write!(f, "{:<24}{:>14}", "", "total")?;
        for worker in 0..self.workers.len() {
            write!(f, "{:>14}", format!("worker {worker}"))?;
        }
        writeln!(f)?;
        for (name, _, _, figure) in FIGURES {
            write!(f, "{:<24}{:>14}", name.trim_end_matches("_total"), figure(&total))?;
            for worker in &self.workers {
                write!(f, "{:>14}", figure(worker))?;
            }
            writeln!(f)?;
        }
        for (name, share) in [("run time p50 below", 0.5), ("run time p99 below", 0.99)] {
            write!(f, "{name:<24}{:>14}", format!("{:?}", total.runs.quantile(share)))?;
            for worker in &self.workers {
                write!(f, "{:>14}", format!("{:?}", worker.runs.quantile(share)))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "{:<24}{:>14}", "spawned from outside", self.spawned_outside)?;
        writeln!(
            f,
            "blocking pool: {} threads ({} idle), {} calls queued, {} done, waited {:?} in all and {:?} at most",
            self.blocking_threads,
            self.blocking_idle,
            self.blocking_queued,
            self.blocking_done,
            self.blocking_wait,
            self.blocking_wait_max,
        )
    }
}

impl Metrics {
    /// The figures in the text format that Prometheus reads, with `prefix` before each name: `fiber_runtime`, say.
    ///
    /// ```
    /// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
    /// let text = runtime.metrics().prometheus("fiber_runtime");
    /// assert!(text.contains("fiber_runtime_fibers_alive{worker=\"0\"} 0"));
    /// ```
    pub fn prometheus(&self, prefix: &str) -> String {
        let mut text = Text { prefix, text: String::new() };
        for (name, grows, help, figure) in FIGURES {
            text.head(name, if grows { "counter" } else { "gauge" }, help);
            for (worker, metrics) in self.workers.iter().enumerate() {
                text.line(name, &format!("{{worker=\"{worker}\"}}"), figure(metrics));
            }
        }
        self.run_times(&mut text);
        let seconds = |duration: Duration| duration.as_secs_f64();
        text.single("spawned_outside_total", "counter", "fibers spawned by threads", self.spawned_outside);
        text.single("blocking_threads", "gauge", "threads of the blocking pool", self.blocking_threads);
        text.single("blocking_idle", "gauge", "threads of it without a call", self.blocking_idle);
        text.single("blocking_queued", "gauge", "calls waiting for one", self.blocking_queued);
        text.single("blocking_done_total", "counter", "calls finished", self.blocking_done);
        text.single("blocking_full_total", "counter", "times its queue was full", self.blocking_full);
        text.single(
            "blocking_wait_seconds_total",
            "counter",
            "time calls have waited",
            seconds(self.blocking_wait),
        );
        text.single(
            "blocking_wait_max_seconds",
            "gauge",
            "the longest of these",
            seconds(self.blocking_wait_max),
        );
        text.text
    }

    fn run_times(&self, text: &mut Text<'_>) {
        const NAME: &str = "run_seconds";
        text.head(NAME, "histogram", "how long fibers run at a time, sampled");
        for (worker, metrics) in self.workers.iter().enumerate() {
            let mut below = 0;
            let mut sum = 0.0;
            for (bound, count) in metrics.runs.all_buckets() {
                below += count;
                if bound < Duration::MAX {
                    // Runs of a bucket take three quarters of its bound on average.
                    sum += bound.as_secs_f64() * 0.75 * count as f64;
                    let labels = format!("{{worker=\"{worker}\",le=\"{}\"}}", bound.as_secs_f64());
                    text.line("run_seconds_bucket", &labels, below);
                }
            }
            text.line("run_seconds_bucket", &format!("{{worker=\"{worker}\",le=\"+Inf\"}}"), below);
            text.line("run_seconds_sum", &format!("{{worker=\"{worker}\"}}"), sum);
            text.line("run_seconds_count", &format!("{{worker=\"{worker}\"}}"), below);
        }
    }
}

/// Text in the making.
struct Text<'a> {
    prefix: &'a str,
    text: String,
}

impl Text<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let prefix = self.prefix;
        self.text.push_str(&format!("# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        self.text.push_str(&format!("{}_{name}{labels} {value}\n", self.prefix));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }
}
