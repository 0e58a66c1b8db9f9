//! What may's own operations cost: yield, spawn, a channel round trip, a parked coroutine, a tree of coroutines, a sleep.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench_kit::{Arguments, fail, report, report_each, report_waits, resident_bytes, skynet_sum, timed};
use may::coroutine::{self, JoinHandle, yield_now};
use may::go;
use may::sync::mpsc::{self, Sender};

/// Runs `body` as a coroutine and waits for it.
pub(crate) fn run<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    go!(body).join().unwrap_or_else(|_| fail("the coroutine panicked"))
}

/// A yield is not enough: a worker fetches new coroutines only when none of its own is ready.
pub(crate) fn let_others_start() {
    coroutine::sleep(Duration::from_millis(1));
}

/// `fibers` ready coroutines take turns, `turns` each.
pub(crate) fn yields(arguments: &Arguments) {
    let (fibers, turns) = (arguments.number("fibers", 2), arguments.number("turns", 500_000));
    let took = run(move || {
        let handles: Vec<JoinHandle<(Instant, Instant)>> = (0..fibers)
            .map(|_| {
                go!(move || {
                    yield_now(); // all are started before the clock is
                    let start = Instant::now();
                    for _ in 0..turns {
                        yield_now();
                    }
                    (start, Instant::now())
                })
            })
            .collect();
        let times: Vec<_> =
            handles.into_iter().map(|handle| handle.join().expect("the coroutine ends")).collect();
        let start = times.iter().map(|(start, _)| *start).min().expect("there are coroutines");
        let end = times.iter().map(|(_, end)| *end).max().expect("there are coroutines");
        end - start
    });
    report_each("yield", took, fibers * turns);
}

/// An empty coroutine after the other, each joined before the next.
pub(crate) fn spawns(arguments: &Arguments) {
    let count = arguments.number("count", 500_000);
    let took = run(move || {
        let run = |count| (0..count).for_each(|_| go!(|| ()).join().expect("an empty coroutine ends"));
        run(count / 10);
        timed(|| run(count))
    });
    report_each("spawn_join", took, count);
}

/// A number goes to another coroutine and comes back, over two channels: two wakes.
pub(crate) fn ping_pong(arguments: &Arguments) {
    let count = arguments.number("count", 500_000);
    let took = run(move || {
        let (ping, pings) = mpsc::channel::<u64>();
        let (pong, pongs) = mpsc::channel::<u64>();
        let echo = go!(move || {
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

/// `count` coroutines park; then all are woken and joined. Reports how many there were if the system gives no more.
pub(crate) fn parked(arguments: &Arguments) {
    let count = arguments.number("count", 20_000);
    run(move || {
        let before = resident_bytes();
        let mut handles = Vec::with_capacity(count as usize);
        let waiting = Arc::new(AtomicU64::new(0));
        let started = timed(|| {
            for _ in 0..count {
                let waiting = Arc::clone(&waiting);
                let body = move || {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    coroutine::park();
                };
                // may panics when there is no memory for a stack.
                match panic::catch_unwind(AssertUnwindSafe(|| go!(body))) {
                    Ok(handle) => handles.push(handle),
                    Err(_) => break,
                }
            }
            while waiting.load(Ordering::Relaxed) < handles.len() as u64 {
                let_others_start();
            }
        });
        let resident = resident_bytes();
        let alive = handles.len() as u64;
        report("alive", alive as f64, "fibers");
        let woken = timed(|| {
            handles.iter().for_each(|handle| handle.coroutine().unpark());
            handles.drain(..).for_each(|handle| handle.join().expect("an unparked coroutine ends"));
        });
        report("resident_each", resident.saturating_sub(before) as f64 / alive.max(1) as f64, "B");
        report("resident_total", resident as f64 / 1e9, "GB");
        report_each("start_and_park", started, alive);
        report_each("wake_and_join", woken, alive);
    });
}

/// A tree of coroutines, ten below each, that adds up the numbers of its leaves over channels.
pub(crate) fn skynet(arguments: &Arguments) {
    let leaves = arguments.number("leaves", 1_000_000);
    let start = Instant::now();
    let sum = run(move || {
        let (result, results) = mpsc::channel();
        go!(move || branch(&result, 0, leaves));
        results.recv()
    });
    assert_eq!(sum, Ok(skynet_sum(leaves)));
    report("total", start.elapsed().as_secs_f64() * 1000.0, "ms");
    report("resident_after", resident_bytes() as f64 / 1e6, "MB");
}

fn branch(result: &Sender<u64>, first: u64, leaves: u64) {
    let sum = if leaves == 1 {
        first
    } else {
        let (sender, sums) = mpsc::channel();
        for child in 0..10 {
            let sender = sender.clone();
            go!(move || branch(&sender, first + child * (leaves / 10), leaves / 10));
        }
        (0..10).map(|_| sums.recv().expect("every child answers")).sum()
    };
    result.send(sum).expect("the parent waits for it");
}

/// How late sleeps of one millisecond end, a hundred at a time.
pub(crate) fn sleeps(arguments: &Arguments) {
    const SLEEP: Duration = Duration::from_millis(1);
    let (fibers, turns) = (arguments.number("fibers", 100), arguments.number("turns", 100) as usize);
    let late = run(move || {
        let handles: Vec<_> = (0..fibers)
            .map(|_| {
                go!(move || {
                    let mut late = Vec::with_capacity(turns);
                    coroutine::sleep(SLEEP);
                    for _ in 0..turns {
                        let start = Instant::now();
                        coroutine::sleep(SLEEP);
                        late.push(start.elapsed().saturating_sub(SLEEP));
                    }
                    late
                })
            })
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a coroutine ends")).collect::<Vec<_>>()
    });
    report_waits(late);
}
