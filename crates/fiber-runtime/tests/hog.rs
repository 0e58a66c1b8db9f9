//! Fibers that hold their worker: who is reported, with what, and what happens to the others.

#![allow(clippy::unwrap_used, reason = "a test unwraps what it has arranged")]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{PATIENCE, wait_for};
use fiber_runtime::diagnostics::HogReport;
use fiber_runtime::{Builder, FiberBuilder, Runtime, spawn, yield_now};

type Reports = Arc<Mutex<Vec<HogReport>>>;

/// A runtime whose hogs are collected.
fn watched(workers: usize, limit: Duration) -> (Runtime, Reports) {
    let reports = Reports::default();
    let collected = reports.clone();
    let runtime = Runtime::builder()
        .workers(workers)
        .hog_limit(limit)
        .on_hog(move |report| collected.lock().unwrap().push(report.clone()))
        .build()
        .unwrap();
    (runtime, reports)
}

fn report_of(reports: &Reports, name: &str) -> Option<HogReport> {
    reports.lock().unwrap().iter().find(|report| report.name.as_deref() == Some(name)).cloned()
}

fn functions(report: &HogReport) -> String {
    report.backtrace.frames().map(|frame| format!("{frame}\n")).collect()
}

/// Waits for a state without giving way.
#[inline(never)]
fn spins_until(state: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !state() && Instant::now() < deadline {
        std::hint::spin_loop();
    }
}

#[test]
fn a_fiber_that_computes_is_named_with_its_backtrace() {
    let (runtime, reports) = watched(1, Duration::from_millis(10));
    let seen = reports.clone();
    let hog = runtime.handle().spawn_with(FiberBuilder::new().name("hog"), move || {
        spins_until(|| report_of(&seen, "hog").is_some());
    });
    let id = hog.fiber().id();
    hog.join().unwrap();
    let report = report_of(&reports, "hog").expect("the hog is reported while it holds its worker");
    assert_eq!((report.fiber, report.worker), (id, 0));
    assert!(report.held >= Duration::from_millis(10), "{report}");
    assert!(report.processor.is_some_and(|processor| processor > Duration::ZERO), "{report}");
    assert!(functions(&report).contains("spins_until"), "{report}");
    assert!(runtime.metrics().workers[0].hogs >= 1);
}

#[test]
fn a_fiber_that_blocks_in_the_kernel_is_named_and_its_call_goes_on() {
    #[inline(never)]
    fn reads_for_real(stream: &mut UnixStream) -> usize {
        let read = fiber_runtime::hook::disabled(|| stream.read(&mut [0; 8])).unwrap();
        std::hint::black_box(read)
    }
    let (runtime, reports) = watched(1, Duration::from_millis(10));
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let reader =
        runtime.handle().spawn_with(FiberBuilder::new().name("reader"), move || reads_for_real(&mut ours));
    wait_for("the reader to be reported", || report_of(&reports, "reader").is_some());
    theirs.write_all(b"abcd").unwrap();
    assert_eq!(reader.join().unwrap(), 4, "the signal restarted the call");
    let report = report_of(&reports, "reader").unwrap();
    assert!(functions(&report).contains("reads_for_real"), "{report}");
    assert!(report.processor.is_some_and(|processor| processor < report.held / 2), "{report}");
}

#[test]
fn fibers_that_give_way_are_not_reported() {
    // A wide limit: the machine may be busy with other things.
    let (runtime, reports) = watched(2, Duration::from_millis(400));
    runtime.block_on(|| {
        let began = Instant::now();
        let fibers: Vec<_> = (0..4)
            .map(|_| {
                spawn(move || {
                    while began.elapsed() < Duration::from_millis(1500) {
                        yield_now();
                    }
                })
            })
            .collect();
        for fiber in fibers {
            fiber.join().unwrap();
        }
    });
    let reports = reports.lock().unwrap();
    assert!(reports.is_empty(), "{reports:?}");
}

#[test]
fn a_fiber_that_goes_on_is_reported_again_but_not_at_every_look() {
    let (runtime, reports) = watched(1, Duration::from_millis(2));
    let seen = reports.clone();
    runtime.block_on(|| spins_until(move || seen.lock().unwrap().len() >= 3));
    let reports = reports.lock().unwrap();
    assert_eq!(reports.len(), 3);
    for pair in reports.windows(2) {
        assert!(pair[1].held >= pair[0].held * 10, "{:?} then {:?}", pair[0].held, pair[1].held);
    }
}

#[test]
fn without_a_limit_nobody_is_reported() {
    let (runtime, reports) = watched(1, Duration::ZERO);
    runtime.block_on(|| {
        let began = Instant::now();
        spins_until(|| began.elapsed() > Duration::from_millis(200));
    });
    assert!(reports.lock().unwrap().is_empty());
    assert_eq!(runtime.metrics().workers[0].hogs, 0);
}

#[test]
fn fibers_behind_a_hog_that_have_not_started_run_elsewhere() {
    let (runtime, _) = watched(2, Duration::from_millis(10));
    let done = Arc::new(AtomicU32::new(0));
    let count = done.clone();
    runtime.block_on(move || {
        for _ in 0..100 {
            let done = done.clone();
            spawn(move || done.fetch_add(1, Ordering::Relaxed)).detach();
        }
        // This fiber holds the worker they were put on.
        spins_until(|| done.load(Ordering::Relaxed) == 100);
    });
    assert_eq!(count.load(Ordering::Relaxed), 100);
}

#[test]
fn a_callback_that_panics_does_not_end_the_monitor() {
    let calls = Arc::new(AtomicU32::new(0));
    let called = calls.clone();
    let runtime = Runtime::builder()
        .workers(1)
        .hog_limit(Duration::from_millis(2))
        .on_hog(move |_| {
            called.fetch_add(1, Ordering::Relaxed);
            panic!("the callback's own");
        })
        .build()
        .unwrap();
    runtime.block_on(|| spins_until(|| calls.load(Ordering::Relaxed) >= 2));
    assert!(calls.load(Ordering::Relaxed) >= 2);
}

/// Set in the child process of the tests below.
const CHILD: &str = "FIBER_RUNTIME_HOG_CHILD";

/// Runs the named test again, alone in a process.
fn in_child(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// How often the monitor's thread has given up or lost its processor. `None`: it has not got its name yet.
fn monitor_switches() -> Option<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let status = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .find(|status| status.contains("moon-monitor"))?;
    let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
    Some(counts.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum())
}

#[test]
fn an_idle_process_is_not_woken_by_the_monitor() {
    if std::env::var_os(CHILD).is_none() {
        return in_child("an_idle_process_is_not_woken_by_the_monitor");
    }
    let (runtime, reports) = watched(2, Duration::from_millis(10));
    runtime.block_on(|| spawn(|| ()).join().unwrap());
    // Two equal readings half a second apart, where the monitor would have looked a hundred times.
    let mut before = monitor_switches();
    wait_for("the monitor to sleep", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = monitor_switches();
        std::mem::replace(&mut before, now) == now && now.is_some()
    });
    // And it is there when somebody needs it.
    let seen = reports.clone();
    runtime.block_on(|| spins_until(move || !seen.lock().unwrap().is_empty()));
    assert!(report_of(&reports, "block_on").is_some());
}

/// Keeps the text of every event.
struct Recorder(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(event.metadata().level().to_string() + " ");
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn hogs_are_warned_of_through_tracing_at_most_once_a_second() {
    if std::env::var_os(CHILD).is_none() {
        return in_child("hogs_are_warned_of_through_tracing_at_most_once_a_second");
    }
    let lines = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(Recorder(lines.clone())).unwrap();
    let builder: Builder = Runtime::builder();
    let runtime = builder.workers(1).hog_limit(Duration::from_millis(5)).build().unwrap();
    let handle = runtime.handle();
    let began = Instant::now();
    let done = AtomicBool::new(false);
    runtime.block_on(|| {
        // Each turn is a hog of its own.
        while !done.load(Ordering::Relaxed) {
            let before = handle.metrics().workers[0].hogs;
            spins_until(|| handle.metrics().workers[0].hogs > before);
            yield_now();
            done.store(handle.metrics().workers[0].hogs >= 10, Ordering::Relaxed);
        }
    });
    let seconds = began.elapsed().as_secs() as usize;
    let lines = lines.lock().unwrap();
    let warnings: Vec<&String> = lines.iter().filter(|line| line.contains("holds its worker")).collect();
    assert!((1..=seconds + 1).contains(&warnings.len()), "{} warnings in {seconds} s", warnings.len());
    assert!(warnings[0].starts_with("WARN"), "{}", warnings[0]);
    assert!(warnings[0].contains("block_on") && warnings[0].contains("spins_until"), "{}", warnings[0]);
}
