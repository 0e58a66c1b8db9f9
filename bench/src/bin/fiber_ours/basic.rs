//! What the runtime's own operations cost: yield, spawn, a channel round trip, a parked fiber, a tree of fibers, a sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench_kit::{Arguments, report, report_each, report_waits, resident_bytes, skynet_sum, timed};
use fiber_runtime::sync::channel::{self, Sender};
use fiber_runtime::{JoinHandle, Runtime, park, spawn, spawn_local, time, yield_now};

/// `fibers` ready fibers of one worker take turns, `turns` each.
pub(crate) fn yields(runtime: &Runtime, arguments: &Arguments) {
    let (fibers, turns) = (arguments.number("fibers", 2), arguments.number("turns", 500_000));
    let took = runtime.block_on(move || {
        let handles: Vec<_> = (0..fibers)
            .map(|_| {
                spawn_local(move || {
                    yield_now(); // all are started before the clock is
                    let start = Instant::now();
                    for _ in 0..turns {
                        yield_now();
                    }
                    (start, Instant::now())
                })
            })
            .collect();
        span(handles)
    });
    report_each("yield", took, fibers * turns);
}

/// From the first start to the last end.
fn span(handles: Vec<JoinHandle<(Instant, Instant)>>) -> Duration {
    let times: Vec<_> = handles.into_iter().map(|handle| handle.join().expect("the fiber ends")).collect();
    let start = times.iter().map(|(start, _)| *start).min().expect("there are fibers");
    let end = times.iter().map(|(_, end)| *end).max().expect("there are fibers");
    end - start
}

/// An empty fiber after the other, each joined before the next: fibers that other workers could steal.
pub(crate) fn spawns(runtime: &Runtime, arguments: &Arguments) {
    let count = arguments.number("count", 500_000);
    let took = runtime.block_on(move || {
        let run = |count| (0..count).for_each(|_| spawn(|| ()).join().expect("an empty fiber ends"));
        run(count / 10);
        timed(|| run(count))
    });
    report_each("spawn_join", took, count);
}

/// The same with fibers that stay on their worker.
pub(crate) fn local_spawns(runtime: &Runtime, arguments: &Arguments) {
    let count = arguments.number("count", 500_000);
    let took = runtime.block_on(move || {
        let run = |count| (0..count).for_each(|_| spawn_local(|| ()).join().expect("an empty fiber ends"));
        run(count / 10);
        timed(|| run(count))
    });
    report_each("spawn_join", took, count);
}

/// A number goes to another fiber and comes back, over two channels: two wakes.
pub(crate) fn ping_pong(runtime: &Runtime, arguments: &Arguments) {
    let count = arguments.number("count", 500_000);
    let took = runtime.block_on(move || {
        let (ping, pings) = channel::bounded::<u64>(1);
        let (pong, pongs) = channel::bounded::<u64>(1);
        let echo = spawn_local(move || {
            while let Ok(number) = pings.recv() {
                pong.send(number).expect("the other side waits for it");
            }
        });
        let run = |count| {
            for number in 0..count {
                ping.send(number).expect("the echo is there");
                assert_eq!(pongs.recv(), Ok(number));
            }
        };
        run(count / 10);
        let took = timed(|| run(count));
        drop(ping);
        echo.join().expect("the echo ends with its channel");
        took
    });
    report_each("round_trip", took, count);
}

/// `count` fibers park; then all are woken and joined.
pub(crate) fn parked(runtime: &Runtime, arguments: &Arguments) {
    let count = arguments.number("count", 20_000);
    runtime.block_on(move || {
        let before = resident_bytes();
        let mut handles = Vec::with_capacity(count as usize);
        let waiting = Arc::new(AtomicU64::new(0));
        let started = timed(|| {
            for _ in 0..count {
                let waiting = Arc::clone(&waiting);
                handles.push(spawn_local(move || {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    park();
                }));
            }
            while waiting.load(Ordering::Relaxed) < count {
                yield_now();
            }
        });
        let resident = resident_bytes();
        let woken = timed(|| {
            handles.iter().for_each(|handle| handle.fiber().unpark());
            handles.drain(..).for_each(|handle| handle.join().expect("an unparked fiber ends"));
        });
        report("alive", count as f64, "fibers");
        report("resident_each", resident.saturating_sub(before) as f64 / count.max(1) as f64, "B");
        report("resident_total", resident as f64 / 1e9, "GB");
        report_each("start_and_park", started, count);
        report_each("wake_and_join", woken, count);
    });
}

/// A tree of fibers, ten below each, that adds up the numbers of its leaves over channels.
pub(crate) fn skynet(runtime: &Runtime, arguments: &Arguments) {
    let leaves = arguments.number("leaves", 1_000_000);
    let run = move || {
        let (result, results) = channel::bounded(1);
        spawn(move || branch(&result, 0, leaves)).detach();
        results.recv()
    };
    let start = Instant::now();
    assert_eq!(runtime.block_on(run), Ok(skynet_sum(leaves)));
    report("total", start.elapsed().as_secs_f64() * 1000.0, "ms");
    report("resident_after", resident_bytes() as f64 / 1e6, "MB");
}

fn branch(result: &Sender<u64>, first: u64, leaves: u64) {
    let sum = if leaves == 1 {
        first
    } else {
        let (sender, sums) = channel::bounded(10);
        for child in 0..10 {
            let sender = sender.clone();
            spawn(move || branch(&sender, first + child * (leaves / 10), leaves / 10)).detach();
        }
        (0..10).map(|_| sums.recv().expect("every child answers")).sum()
    };
    result.send(sum).expect("the parent waits for it");
}

/// How late sleeps of one millisecond end, a hundred at a time.
pub(crate) fn sleeps(runtime: &Runtime, arguments: &Arguments) {
    const SLEEP: Duration = Duration::from_millis(1);
    let (fibers, turns) = (arguments.number("fibers", 100), arguments.number("turns", 100) as usize);
    let late = runtime.block_on(move || {
        let handles: Vec<_> = (0..fibers)
            .map(|_| {
                spawn_local(move || {
                    let mut late = Vec::with_capacity(turns);
                    time::sleep(SLEEP);
                    for _ in 0..turns {
                        let start = Instant::now();
                        time::sleep(SLEEP);
                        late.push(start.elapsed().saturating_sub(SLEEP));
                    }
                    late
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("a sleeping fiber ends"))
            .collect::<Vec<_>>()
    });
    report_waits(late);
}
