//! What tokio's own operations cost: yield, spawn, a channel round trip, a waiting task, a tree of tasks, a sleep.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench_kit::{Arguments, report, report_each, report_waits, resident_bytes, skynet_sum};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, yield_now};

use crate::run;

/// `fibers` ready tasks take turns, `turns` each.
pub(crate) fn yields(runtime: &Runtime, arguments: &Arguments) {
    let (fibers, turns) = (arguments.number("fibers", 2), arguments.number("turns", 500_000));
    let took = run(runtime, async move {
        let handles: Vec<_> = (0..fibers)
            .map(|_| {
                tokio::spawn(async move {
                    yield_now().await; // all are started before the clock is
                    let start = Instant::now();
                    for _ in 0..turns {
                        yield_now().await;
                    }
                    (start, Instant::now())
                })
            })
            .collect();
        let mut times = Vec::new();
        for handle in handles {
            times.push(handle.await.expect("the task ends"));
        }
        let start = times.iter().map(|(start, _)| *start).min().expect("there are tasks");
        let end = times.iter().map(|(_, end)| *end).max().expect("there are tasks");
        end - start
    });
    report_each("yield", took, fibers * turns);
}

/// An empty task after the other, each joined before the next.
pub(crate) fn spawns(runtime: &Runtime, arguments: &Arguments) {
    async fn spawn(count: u64) {
        for _ in 0..count {
            tokio::spawn(async {}).await.expect("an empty task ends");
        }
    }
    let count = arguments.number("count", 500_000);
    let took = run(runtime, async move {
        spawn(count / 10).await;
        let start = Instant::now();
        spawn(count).await;
        start.elapsed()
    });
    report_each("spawn_join", took, count);
}

/// The same with the tasks of a `LocalSet`, which need not be `Send`.
pub(crate) fn local_spawns(runtime: &Runtime, arguments: &Arguments) {
    async fn spawn(count: u64) {
        for _ in 0..count {
            tokio::task::spawn_local(async {}).await.expect("an empty task ends");
        }
    }
    let count = arguments.number("count", 500_000);
    let set = LocalSet::new();
    let body = set.run_until(async move {
        let all = tokio::task::spawn_local(async move {
            spawn(count / 10).await;
            let start = Instant::now();
            spawn(count).await;
            start.elapsed()
        });
        all.await.expect("the task ends")
    });
    report_each("spawn_join", runtime.block_on(body), count);
}

/// A number goes to another task and comes back, over two channels: two wakes.
pub(crate) fn ping_pong(runtime: &Runtime, arguments: &Arguments) {
    async fn run_trips(ping: &mpsc::Sender<u64>, pongs: &mut mpsc::Receiver<u64>, count: u64) {
        for number in 0..count {
            ping.send(number).await.expect("the echo is there");
            assert_eq!(pongs.recv().await, Some(number));
        }
    }
    let count = arguments.number("count", 500_000);
    let took = run(runtime, async move {
        let (ping, mut pings) = mpsc::channel::<u64>(1);
        let (pong, mut pongs) = mpsc::channel::<u64>(1);
        let echo = tokio::spawn(async move {
            while let Some(number) = pings.recv().await {
                pong.send(number).await.expect("the other side waits for it");
            }
        });
        run_trips(&ping, &mut pongs, count / 10).await;
        let start = Instant::now();
        run_trips(&ping, &mut pongs, count).await;
        let took = start.elapsed();
        drop(ping);
        echo.await.expect("the echo ends with its channel");
        took
    });
    report_each("round_trip", took, count);
}

/// `count` tasks wait; then all are woken and joined.
pub(crate) fn parked(runtime: &Runtime, arguments: &Arguments) {
    let count = arguments.number("count", 20_000);
    run(runtime, async move {
        let before = resident_bytes();
        let (gate, waiting) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let mut handles = Vec::with_capacity(count as usize);
        let start = Instant::now();
        for _ in 0..count {
            let (gate, waiting) = (Arc::clone(&gate), Arc::clone(&waiting));
            handles.push(tokio::spawn(async move {
                waiting.fetch_add(1, Ordering::Relaxed);
                gate.notified().await;
            }));
        }
        // A yield alone lets only some of the others run.
        while waiting.load(Ordering::Relaxed) < count {
            yield_now().await;
        }
        let started = start.elapsed();
        let resident = resident_bytes();
        let start = Instant::now();
        gate.notify_waiters();
        for handle in handles {
            handle.await.expect("a woken task ends");
        }
        let woken = start.elapsed();
        report("alive", count as f64, "fibers");
        report("resident_each", resident.saturating_sub(before) as f64 / count.max(1) as f64, "B");
        report("resident_total", resident as f64 / 1e9, "GB");
        report_each("start_and_park", started, count);
        report_each("wake_and_join", woken, count);
    });
}

/// A tree of tasks, ten below each, that adds up the numbers of its leaves over channels.
pub(crate) fn skynet(runtime: &Runtime, arguments: &Arguments) {
    let leaves = arguments.number("leaves", 1_000_000);
    let start = Instant::now();
    let sum = run(runtime, async move {
        let (result, mut results) = mpsc::channel(1);
        tokio::spawn(branch(result, 0, leaves));
        results.recv().await
    });
    assert_eq!(sum, Some(skynet_sum(leaves)));
    report("total", start.elapsed().as_secs_f64() * 1000.0, "ms");
    report("resident_after", resident_bytes() as f64 / 1e6, "MB");
}

/// Boxed, as a future that contains itself must be.
fn branch(result: mpsc::Sender<u64>, first: u64, leaves: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let sum = if leaves == 1 {
            first
        } else {
            let (sender, mut sums) = mpsc::channel(10);
            for child in 0..10 {
                tokio::spawn(branch(sender.clone(), first + child * (leaves / 10), leaves / 10));
            }
            let mut sum = 0;
            for _ in 0..10 {
                sum += sums.recv().await.expect("every child answers");
            }
            sum
        };
        result.send(sum).await.expect("the parent waits for it");
    })
}

/// How late sleeps of one millisecond end, a hundred at a time.
pub(crate) fn sleeps(runtime: &Runtime, arguments: &Arguments) {
    const SLEEP: Duration = Duration::from_millis(1);
    let (fibers, turns) = (arguments.number("fibers", 100), arguments.number("turns", 100) as usize);
    let late = run(runtime, async move {
        let handles: Vec<_> = (0..fibers)
            .map(|_| {
                tokio::spawn(async move {
                    let mut late = Vec::with_capacity(turns);
                    tokio::time::sleep(SLEEP).await;
                    for _ in 0..turns {
                        let start = Instant::now();
                        tokio::time::sleep(SLEEP).await;
                        late.push(start.elapsed().saturating_sub(SLEEP));
                    }
                    late
                })
            })
            .collect();
        let mut all = Vec::new();
        for handle in handles {
            all.extend(handle.await.expect("a sleeping task ends"));
        }
        all
    });
    report_waits(late);
}
