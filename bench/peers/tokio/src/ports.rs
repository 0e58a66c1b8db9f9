//! What the runtimes measure themselves by, on tokio: tokio's own benchmarks and may's in our words, a ring, the wait of a
//! woken task, many timers of which most are cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench_kit::{Arguments, fail, report_each, report_waits, timed};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use crate::run;

async fn join_all(handles: Vec<JoinHandle<()>>) {
    for handle in handles {
        handle.await.expect("the task ends");
    }
}

async fn yields(count: u64) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Does something so often, after a tenth of it as warm-up, and reports what each of its `operations` took.
fn repeated(name: &str, arguments: &Arguments, operations: u64, mut once: impl FnMut()) {
    // A plain thread waits for what the workers do; the current-thread runtime has none.
    if arguments.text("flavor") != Some("multi") {
        bench_kit::unknown(arguments);
    }
    let times = arguments.number("times", 100);
    (0..times.div_ceil(10)).for_each(|_| once());
    let took = timed(|| (0..times).for_each(|_| once()));
    report_each(name, took, times * operations);
}

/// may's `yield_bench`: one task, alone, yields 10,000 times.
pub(crate) fn may_yield(runtime: &Runtime, arguments: &Arguments) {
    const YIELDS: u64 = 10_000;
    repeated("each", arguments, YIELDS, || run(runtime, yields(YIELDS)));
}

/// Runs `work` on so many plain threads.
fn on_threads(runtime: &Runtime, threads: u64, work: fn(&Handle)) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(runtime.handle()));
        }
    });
}

/// may's `spawn_bench_1`: two plain threads spawn 500 empty tasks each and join them.
pub(crate) fn may_spawn(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 1000, || {
        on_threads(runtime, 2, |handle| {
            handle.block_on(join_all((0..500).map(|_| handle.spawn(async {})).collect()));
        });
    });
}

/// may's `smoke_bench`: five plain threads spawn 200 tasks each, which yield 1,000 times.
pub(crate) fn may_smoke(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 5 * 200 * 1000, || {
        on_threads(runtime, 5, |handle| {
            handle.block_on(join_all((0..200).map(|_| handle.spawn(yields(1000))).collect()));
        });
    });
}

/// may's `smoke_bench_3`: a hundred tasks spawn a hundred each, which yield four times.
pub(crate) fn may_nested(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 100 * 100, || {
        let below = || join_all((0..100).map(|_| tokio::spawn(yields(4))).collect());
        runtime.block_on(join_all((0..100).map(|_| runtime.spawn(async move { below().await })).collect()));
    });
}

/// What the last of many does.
#[derive(Clone)]
struct Countdown {
    left: Arc<AtomicU64>,
    done: std::sync::mpsc::SyncSender<()>,
}

impl Countdown {
    fn new(from: u64) -> (Self, std::sync::mpsc::Receiver<()>) {
        let (done, receiver) = std::sync::mpsc::sync_channel(1);
        (Countdown { left: Arc::new(AtomicU64::new(from)), done }, receiver)
    }

    fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.send(()).expect("somebody waits for the last");
        }
    }
}

const MANY: u64 = 10_000;

/// `spawn_many_local`: a task spawns 10,000 that nobody joins; the last one says so.
pub(crate) fn spawn_many_local(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, MANY, || {
        let (countdown, done) = Countdown::new(MANY);
        runtime.spawn(async move {
            for _ in 0..MANY {
                let countdown = countdown.clone();
                tokio::spawn(async move { countdown.one_less() });
            }
        });
        done.recv().expect("the last one says so");
    });
}

/// `spawn_many_remote_idle`: the same from a plain thread.
pub(crate) fn spawn_many_remote(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, MANY, || {
        let (countdown, done) = Countdown::new(MANY);
        for _ in 0..MANY {
            let countdown = countdown.clone();
            runtime.spawn(async move { countdown.one_less() });
        }
        done.recv().expect("the last one says so");
    });
}

/// `yield_many`: 200 tasks yield 1,000 times each.
pub(crate) fn yield_many(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 200 * 1000, || {
        let (countdown, done) = Countdown::new(200);
        for _ in 0..200 {
            let countdown = countdown.clone();
            runtime.spawn(async move {
                yields(1000).await;
                countdown.one_less();
            });
        }
        done.recv().expect("the last one says so");
    });
}

/// `ping_pong`: a thousand tasks spawn a partner each and exchange two one-shot messages with it.
pub(crate) fn ping_pong_many(runtime: &Runtime, arguments: &Arguments) {
    async fn pair(countdown: Countdown) {
        let (ping, pinged) = oneshot::channel();
        let (pong, ponged) = oneshot::channel();
        tokio::spawn(async move {
            pinged.await.expect("the partner sends");
            pong.send(()).expect("the partner waits");
        });
        ping.send(()).expect("the partner waits");
        ponged.await.expect("the partner sends");
        countdown.one_less();
    }
    repeated("each", arguments, 1000, || {
        let (countdown, done) = Countdown::new(1000);
        runtime.spawn(async move {
            for _ in 0..1000 {
                tokio::spawn(pair(countdown.clone()));
            }
        });
        done.recv().expect("the last one says so");
    });
}

/// `chained_spawn`: each of a thousand tasks spawns the next.
pub(crate) fn chained_spawn(runtime: &Runtime, arguments: &Arguments) {
    fn link(left: u64, countdown: Countdown) {
        if left == 0 {
            countdown.one_less();
        } else {
            tokio::spawn(async move { link(left - 1, countdown) });
        }
    }
    repeated("each", arguments, 1000, || {
        let (countdown, done) = Countdown::new(1);
        runtime.spawn(async move { link(1000, countdown) });
        done.recv().expect("the last one says so");
    });
}

/// A token goes round a ring of a thousand tasks.
pub(crate) fn ring(runtime: &Runtime, arguments: &Arguments) {
    async fn run_laps(first: &mpsc::Sender<u64>, last: &mut mpsc::Receiver<u64>, laps: u64, fibers: u64) {
        for _ in 0..laps {
            first.send(1).await.expect("the ring is whole");
            assert_eq!(last.recv().await, Some(fibers));
        }
    }
    let (fibers, laps) = (arguments.number("fibers", 1000), arguments.number("laps", 200));
    let took = run(runtime, async move {
        let (first, mut next) = mpsc::channel::<u64>(1);
        for _ in 1..fibers {
            let (sender, receiver) = mpsc::channel(1);
            let mut from = std::mem::replace(&mut next, receiver);
            tokio::spawn(async move {
                while let Some(token) = from.recv().await {
                    let _ = sender.send(token + 1).await; // the ring is torn down at the end
                }
            });
        }
        run_laps(&first, &mut next, laps.div_ceil(10), fibers).await;
        let start = Instant::now();
        run_laps(&first, &mut next, laps, fibers).await;
        start.elapsed()
    });
    report_each("hop", took, fibers * laps);
}

/// How long after a plain thread sends to it a task runs, whose worker had nothing to do and slept.
pub(crate) fn wake_latency(runtime: &Runtime, arguments: &Arguments) {
    let count = arguments.number("count", 2000);
    let (sender, mut receiver) = mpsc::channel::<Instant>(1);
    let sleeper = runtime.spawn(async move {
        let mut waits = Vec::new();
        while let Some(sent) = receiver.recv().await {
            waits.push(sent.elapsed());
        }
        waits
    });
    let waker = thread::spawn(move || {
        for _ in 0..count {
            thread::sleep(Duration::from_micros(200)); // the worker goes to sleep meanwhile
            if sender.blocking_send(Instant::now()).is_err() {
                fail("the task receives");
            }
        }
    });
    // The current-thread runtime runs here meanwhile.
    report_waits(runtime.block_on(sleeper).expect("the task ends with its channel"));
    waker.join().expect("the waking thread ends");
}

/// A round trip over two channels with a timeout on each of the two waits: armed and cancelled, never reached.
pub(crate) fn timeouts(runtime: &Runtime, arguments: &Arguments) {
    const PATIENCE: Duration = Duration::from_secs(10);
    async fn run_trips(ping: &mpsc::Sender<u64>, pongs: &mut mpsc::Receiver<u64>, count: u64) {
        for number in 0..count {
            ping.send(number).await.expect("the echo is there");
            assert_eq!(timeout(PATIENCE, pongs.recv()).await, Ok(Some(number)));
        }
    }
    let count = arguments.number("count", 200_000);
    let took = run(runtime, async move {
        let (ping, mut pings) = mpsc::channel::<u64>(1);
        let (pong, mut pongs) = mpsc::channel::<u64>(1);
        let echo = tokio::spawn(async move {
            while let Ok(Some(number)) = timeout(PATIENCE, pings.recv()).await {
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

/// `count` tasks wait with a timeout; 95 of 100 are woken before it, the others sleep until theirs has come, which are spread
/// over a second.
pub(crate) fn timers(runtime: &Runtime, arguments: &Arguments) {
    const FAR: Duration = Duration::from_secs(3600);
    let (count, near) = (arguments.number("count", 1_000_000), arguments.number("near_ms", 4000));
    run(runtime, async move {
        let (nearest, steps) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let gate = Arc::new(Notify::new());
        let start = Instant::now();
        let mut tasks = Vec::new();
        for number in 0..count {
            let (nearest, steps, gate) = (Arc::clone(&nearest), Arc::clone(&steps), Arc::clone(&gate));
            let wake = Arc::new(Notify::new());
            let woken = Arc::clone(&wake);
            let task = tokio::spawn(async move {
                steps.fetch_add(1, Ordering::Relaxed);
                gate.notified().await;
                steps.fetch_add(1, Ordering::Relaxed);
                if number.is_multiple_of(20) {
                    let spread = Duration::from_millis(number / 20 % 1000);
                    let deadline = start + Duration::from_nanos(nearest.load(Ordering::Relaxed)) + spread;
                    let _ = tokio::time::timeout_at(deadline.into(), woken.notified()).await;
                    return Some(deadline.elapsed());
                }
                let _ = timeout(FAR, woken.notified()).await;
                steps.fetch_add(1, Ordering::Relaxed);
                None
            });
            tasks.push((wake, task));
        }
        let all_have = |times: u64| {
            let steps = Arc::clone(&steps);
            async move {
                while steps.load(Ordering::Relaxed) < times {
                    yield_now().await;
                }
            }
        };
        all_have(count).await;
        nearest.store((start.elapsed() + Duration::from_millis(near)).as_nanos() as u64, Ordering::Relaxed);
        let begin = Instant::now();
        gate.notify_waiters();
        all_have(2 * count).await;
        report_each("arm", begin.elapsed(), count);
        let begin = Instant::now();
        let others = || tasks.iter().enumerate().filter(|(number, _)| !number.is_multiple_of(20));
        others().for_each(|(_, (wake, _))| wake.notify_one());
        let cancelled = others().count() as u64;
        all_have(2 * count + cancelled).await;
        report_each("cancel", begin.elapsed(), cancelled);
        let mut late = Vec::new();
        for (_, task) in tasks {
            late.extend(task.await.expect("the task ends"));
        }
        report_waits(late);
    });
}
