//! Metrics: each counts what it says, and the texts have all of them.

#![allow(clippy::unwrap_used, reason = "a test unwraps what it has arranged")]

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::{PATIENCE, runtime, wait_for};
use fiber_runtime::{Runtime, WorkerMetrics, park, spawn, spawn_local, time, yield_now};

fn first(runtime: &Runtime) -> WorkerMetrics {
    runtime.metrics().workers[0]
}

#[test]
fn fibers_are_counted_from_spawn_to_end() {
    let runtime = runtime(2);
    runtime.block_on(|| {
        let fibers: Vec<_> = (0..100).map(|_| spawn(yield_now)).collect();
        for fiber in fibers {
            fiber.join().unwrap();
        }
    });
    wait_for("all to be counted out", || runtime.metrics().total().ended == 101);
    let metrics = runtime.metrics();
    let total = metrics.total();
    assert_eq!((total.spawned, metrics.spawned_outside), (100, 1));
    assert_eq!((total.started, total.alive, metrics.alive()), (101, 0, 0));
    assert!(total.switches >= 201, "{metrics}");
}

#[test]
fn parked_and_ready_fibers_are_told_apart() {
    let runtime = runtime(1);
    let parked: Vec<_> = (0..10).map(|_| runtime.spawn(park)).collect();
    wait_for("ten to park", || first(&runtime).parked == 10);
    let now = first(&runtime);
    assert_eq!((now.alive, now.ready), (10, 0));
    runtime.block_on(|| {
        let handle = fiber_runtime::Handle::current();
        let began = Instant::now();
        let fibers: Vec<_> = (0..5)
            .map(|_| {
                spawn_local(move || {
                    while began.elapsed() < Duration::from_millis(50) {
                        yield_now();
                    }
                })
            })
            .collect();
        let mut most = 0;
        while began.elapsed() < Duration::from_millis(50) {
            yield_now();
            most = most.max(handle.metrics().workers[0].ready);
        }
        assert!((4..=6).contains(&most), "{most} ready");
        for fiber in fibers {
            fiber.join().unwrap();
        }
    });
    assert_eq!(first(&runtime).parked, 10);
    for fiber in parked {
        fiber.fiber().unpark();
        fiber.join().unwrap();
    }
    wait_for("nobody to be parked", || first(&runtime).parked == 0);
}

#[test]
fn timers_are_armed_fire_and_are_cancelled() {
    let runtime = runtime(1);
    runtime.block_on(|| {
        let lost = spawn(|| fiber_runtime::park_until(Some(time::now() + PATIENCE)));
        yield_now();
        for _ in 0..10 {
            time::sleep(Duration::from_micros(100));
        }
        lost.fiber().unpark();
        lost.join().unwrap();
    });
    wait_for("no timer to be pending", || first(&runtime).timers_pending == 0);
    let now = first(&runtime);
    assert_eq!((now.timers_armed, now.timers, now.timers_cancelled()), (11, 10, 1));
}

#[test]
fn a_wake_from_a_thread_is_a_post_and_a_signal() {
    let runtime = runtime(1);
    let fiber = runtime.spawn(park);
    wait_for("it to park", || first(&runtime).parked == 1);
    let before = first(&runtime);
    // A worker that sleeps is woken by a system call, once.
    wait_for("the worker to sleep and be woken", || {
        let sleeps = first(&runtime).sleeps;
        fiber.fiber().unpark();
        wait_for("the end", || fiber.is_finished());
        sleeps > 0
    });
    let after = first(&runtime);
    assert_eq!((after.wakes - before.wakes, after.posts - before.posts), (1, 1));
    assert!(after.signals > before.signals);
}

#[test]
fn a_wake_by_a_neighbour_is_no_post() {
    let runtime = runtime(1);
    runtime.block_on(|| {
        let neighbour = spawn_local(park);
        yield_now();
        let metrics = || fiber_runtime::Handle::current().metrics().workers[0];
        let before = metrics();
        neighbour.fiber().unpark();
        neighbour.join().unwrap();
        let after = metrics();
        // One for the neighbour, one for this fiber, which waited for its end.
        assert_eq!((after.wakes - before.wakes, after.posts - before.posts), (2, 0));
    });
}

#[test]
fn stolen_fibers_and_kept_stacks_are_counted() {
    let runtime = runtime(2);
    runtime.block_on(|| {
        let handle = fiber_runtime::Handle::current();
        wait_for("a theft", || {
            let fibers: Vec<_> = (0..100)
                .map(|_| {
                    spawn(|| {
                        let began = Instant::now();
                        while began.elapsed() < Duration::from_micros(100) {
                            std::hint::spin_loop();
                        }
                    })
                })
                .collect();
            for fiber in fibers {
                fiber.join().unwrap();
            }
            handle.metrics().total().stolen > 0
        });
    });
    wait_for("kept stacks to be published", || {
        runtime.block_on(|| spawn(yield_now).join().unwrap());
        runtime.metrics().total().stacks_cached > 0
    });
}

#[test]
fn run_times_are_sampled_on_a_busy_worker() {
    let runtime = runtime(1);
    runtime.block_on(|| {
        let handle = fiber_runtime::Handle::current();
        let runs = || handle.metrics().workers[0].runs;
        // The worker never sleeps, so all samples come from its looks around.
        let deadline = Instant::now() + PATIENCE;
        while runs().count() < 20 {
            assert!(Instant::now() < deadline, "{:?}", runs());
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            yield_now();
        }
        // A run takes a millisecond or a little more; the machine may be busy, so nothing is said of the slowest.
        assert!(runs().quantile(0.5) >= Duration::from_micros(500), "{:?}", runs());
        assert!(runs().quantile(0.1) <= Duration::from_millis(100), "{:?}", runs());
    });
}

#[test]
fn run_times_are_sampled_on_a_worker_that_sleeps_between_runs() {
    let runtime = runtime(1);
    runtime.block_on(|| {
        let handle = fiber_runtime::Handle::current();
        let before = handle.metrics().workers[0].runs.count();
        wait_for("five samples", || {
            time::sleep(Duration::from_micros(200));
            handle.metrics().workers[0].runs.count() >= before + 5
        });
    });
}

#[test]
fn quantiles_are_ordered() {
    let runtime = runtime(1);
    runtime.block_on(|| {
        for turn in 0..50_000 {
            if turn % 1000 == 0 {
                std::thread::yield_now();
            }
            yield_now();
        }
    });
    let runs = first(&runtime).runs;
    assert!(runs.count() > 0);
    let marks = [0.0, 0.5, 0.9, 0.99, 1.0].map(|share| runs.quantile(share));
    assert!(marks.is_sorted(), "{marks:?}");
    assert_eq!(runs.buckets().map(|(_, count)| count).sum::<u64>(), runs.count());
}

#[test]
fn the_text_for_prometheus_is_well_formed() {
    let runtime = runtime(2);
    runtime.block_on(|| (0..1000).for_each(|_| yield_now()));
    let text = runtime.metrics().prometheus("moon");
    let mut described = HashSet::new();
    let mut lines = 0;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.split(' ');
            assert!(matches!(words.next(), Some("HELP" | "TYPE")), "{line}");
            described.insert(words.next().unwrap().to_owned());
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let base = name.split('{').next().unwrap();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
        assert!(described.contains(base) || described.contains(family), "{line} comes without a description");
        assert!(base.starts_with("moon_"), "{line}");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        lines += 1;
    }
    assert!(lines > 100, "{text}");
    // Buckets of a histogram count up to its count.
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(
        value("moon_run_seconds_bucket{worker=\"0\",le=\"+Inf\"}"),
        value("moon_run_seconds_count{worker=\"0\"}")
    );
}

#[test]
fn the_table_for_people_has_a_column_for_each_worker() {
    let runtime = runtime(3);
    let table = runtime.metrics().to_string();
    let head = table.lines().next().unwrap();
    assert!(head.contains("total") && head.contains("worker 2") && !head.contains("worker 3"), "{table}");
    for name in ["fibers_alive", "switches", "timers_cancelled", "run time p99", "blocking pool"] {
        assert!(table.contains(name), "{name} is missing:\n{table}");
    }
}
