//! What the rivals measure themselves by, on fiber-runtime: may's and tokio's own benchmarks in our words, a ring, the wait
//! of a woken fiber as brpc reports it, a million timers of which most are cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bench_kit::{Arguments, report_each, report_waits, timed};
use fiber_runtime::sync::{channel, oneshot};
use fiber_runtime::{Handle, JoinHandle, Runtime, Wake, park, park_until, spawn, spawn_local, yield_now};

fn join_all(handles: Vec<JoinHandle<()>>) {
    handles.into_iter().for_each(|handle| handle.join().expect("the fiber ends"));
}

/// Does something so often, after a tenth of it as warm-up, and reports what each of its `operations` took.
fn repeated(name: &str, arguments: &Arguments, operations: u64, mut once: impl FnMut()) {
    let times = arguments.number("times", 100);
    (0..times.div_ceil(10)).for_each(|_| once());
    let took = timed(|| (0..times).for_each(|_| once()));
    report_each(name, took, times * operations);
}

/// may's `yield_bench`: one fiber, alone, yields 10,000 times.
pub(crate) fn may_yield(runtime: &Runtime, arguments: &Arguments) {
    const YIELDS: u64 = 10_000;
    repeated("each", arguments, YIELDS, || {
        let fiber = runtime.spawn(|| (0..YIELDS).for_each(|_| yield_now()));
        fiber.join().expect("the fiber ends");
    });
}

/// Runs `work` on so many plain threads.
fn on_threads(runtime: &Runtime, threads: u64, work: fn(&Handle)) {
    let handle = runtime.handle();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&handle));
        }
    });
}

/// may's `spawn_bench_1`: two plain threads spawn 500 empty fibers each and join them.
pub(crate) fn may_spawn(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 1000, || {
        on_threads(runtime, 2, |handle| join_all((0..500).map(|_| handle.spawn(|| ())).collect()));
    });
}

/// may's `smoke_bench`: five plain threads spawn 200 fibers each, which yield 1,000 times.
pub(crate) fn may_smoke(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 5 * 200 * 1000, || {
        on_threads(runtime, 5, |handle| {
            let body = || (0..1000).for_each(|_| yield_now());
            join_all((0..200).map(|_| handle.spawn(body)).collect());
        });
    });
}

/// may's `smoke_bench_3`: a hundred fibers spawn a hundred each, which yield four times.
pub(crate) fn may_nested(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 100 * 100, || {
        let below = || join_all((0..100).map(|_| spawn(|| (0..4).for_each(|_| yield_now()))).collect());
        join_all((0..100).map(|_| runtime.spawn(below)).collect());
    });
}

/// What the last of many does.
#[derive(Clone)]
struct Countdown {
    left: Arc<AtomicU64>,
    done: mpsc::SyncSender<()>,
}

impl Countdown {
    fn new(from: u64) -> (Self, mpsc::Receiver<()>) {
        let (done, receiver) = mpsc::sync_channel(1);
        (Countdown { left: Arc::new(AtomicU64::new(from)), done }, receiver)
    }

    fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.send(()).expect("somebody waits for the last");
        }
    }
}

const MANY: u64 = 10_000;

/// tokio's `spawn_many_local`: a fiber spawns 10,000 that nobody joins; the last one says so.
pub(crate) fn spawn_many_local(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, MANY, || {
        let (countdown, done) = Countdown::new(MANY);
        let spawner = runtime.spawn(move || {
            for _ in 0..MANY {
                let countdown = countdown.clone();
                spawn(move || countdown.one_less()).detach();
            }
        });
        spawner.detach();
        done.recv().expect("the last one says so");
    });
}

/// tokio's `spawn_many_remote_idle`: the same from a plain thread.
pub(crate) fn spawn_many_remote(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, MANY, || {
        let (countdown, done) = Countdown::new(MANY);
        for _ in 0..MANY {
            let countdown = countdown.clone();
            runtime.spawn(move || countdown.one_less()).detach();
        }
        done.recv().expect("the last one says so");
    });
}

/// tokio's `yield_many`: 200 fibers yield 1,000 times each.
pub(crate) fn yield_many(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 200 * 1000, || {
        let (countdown, done) = Countdown::new(200);
        for _ in 0..200 {
            let countdown = countdown.clone();
            let fiber = runtime.spawn(move || {
                (0..1000).for_each(|_| yield_now());
                countdown.one_less();
            });
            fiber.detach();
        }
        done.recv().expect("the last one says so");
    });
}

/// tokio's `ping_pong`: a thousand fibers spawn a partner each and exchange two one-shot messages with it.
pub(crate) fn ping_pong_many(runtime: &Runtime, arguments: &Arguments) {
    repeated("each", arguments, 1000, || {
        let (countdown, done) = Countdown::new(1000);
        let pair = |countdown: Countdown| {
            let (ping, pinged) = oneshot::channel();
            let (pong, ponged) = oneshot::channel();
            spawn(move || {
                pinged.recv().expect("the partner sends");
                pong.send(()).expect("the partner waits");
            })
            .detach();
            ping.send(()).expect("the partner waits");
            ponged.recv().expect("the partner sends");
            countdown.one_less();
        };
        let spawner = runtime.spawn(move || {
            for _ in 0..1000 {
                let countdown = countdown.clone();
                spawn(move || pair(countdown)).detach();
            }
        });
        spawner.detach();
        done.recv().expect("the last one says so");
    });
}

/// tokio's `chained_spawn`: each of a thousand fibers spawns the next.
pub(crate) fn chained_spawn(runtime: &Runtime, arguments: &Arguments) {
    fn link(left: u64, countdown: Countdown) {
        match left {
            0 => countdown.one_less(),
            _ => spawn(move || link(left - 1, countdown)).detach(),
        }
    }
    repeated("each", arguments, 1000, || {
        let (countdown, done) = Countdown::new(1);
        runtime.spawn(move || link(1000, countdown)).detach();
        done.recv().expect("the last one says so");
    });
}

/// A token goes round a ring of a thousand fibers.
pub(crate) fn ring(runtime: &Runtime, arguments: &Arguments) {
    let (fibers, laps) = (arguments.number("fibers", 1000), arguments.number("laps", 200));
    let took = runtime.block_on(move || {
        let (first, mut next) = channel::bounded::<u64>(1);
        for _ in 1..fibers {
            let (sender, receiver) = channel::bounded(1);
            let from = std::mem::replace(&mut next, receiver);
            spawn_local(move || {
                while let Ok(token) = from.recv() {
                    let _ = sender.send(token + 1); // the ring is torn down at the end
                }
            })
            .detach();
        }
        let lap = || {
            first.send(1).expect("the ring is whole");
            assert_eq!(next.recv(), Ok(fibers));
        };
        (0..laps.div_ceil(10)).for_each(|_| lap());
        timed(|| (0..laps).for_each(|_| lap()))
    });
    report_each("hop", took, fibers * laps);
}

/// How long after a plain thread sends to it a fiber runs, whose worker had nothing to do and slept.
pub(crate) fn wake_latency(runtime: &Runtime, arguments: &Arguments) {
    let count = arguments.number("count", 2000);
    let (sender, receiver) = channel::bounded::<Instant>(1);
    let sleeper = runtime.spawn(move || {
        let mut waits = Vec::new();
        while let Ok(sent) = receiver.recv() {
            waits.push(sent.elapsed());
        }
        waits
    });
    for _ in 0..count {
        thread::sleep(Duration::from_micros(200)); // the worker goes to sleep meanwhile
        sender.send(Instant::now()).expect("the fiber receives");
    }
    drop(sender);
    report_waits(sleeper.join().expect("the fiber ends with its channel"));
}

/// A round trip over two channels with a deadline on each of the two waits: armed and cancelled, never reached.
pub(crate) fn timeouts(runtime: &Runtime, arguments: &Arguments) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let count = arguments.number("count", 200_000);
    let took = runtime.block_on(move || {
        let (ping, pings) = channel::bounded::<u64>(1);
        let (pong, pongs) = channel::bounded::<u64>(1);
        let echo = spawn_local(move || {
            while let Ok(number) = pings.recv_until(Instant::now() + PATIENCE) {
                pong.send(number).expect("the other side waits for it");
            }
        });
        let run = |count| {
            for number in 0..count {
                ping.send(number).expect("the echo is there");
                assert_eq!(pongs.recv_until(Instant::now() + PATIENCE), Ok(number));
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

/// `count` fibers wait with a deadline; 95 of 100 are woken before it, the others sleep until theirs has come, which are spread
/// over a second.
pub(crate) fn timers(runtime: &Runtime, arguments: &Arguments) {
    const FAR: Duration = Duration::from_secs(3600);
    let (count, near) = (arguments.number("count", 1_000_000), arguments.number("near_ms", 4000));
    runtime.block_on(move || {
        let (nearest, steps) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let waiter = |number: u64| {
            let (nearest, steps) = (Arc::clone(&nearest), Arc::clone(&steps));
            move || {
                steps.fetch_add(1, Ordering::Relaxed);
                park();
                steps.fetch_add(1, Ordering::Relaxed);
                if number.is_multiple_of(20) {
                    let spread = Duration::from_millis(number / 20 % 1000);
                    let deadline = start + Duration::from_nanos(nearest.load(Ordering::Relaxed)) + spread;
                    while park_until(Some(deadline)) != Wake::TimedOut {}
                    return Some(deadline.elapsed());
                }
                park_until(Some(Instant::now() + FAR));
                steps.fetch_add(1, Ordering::Relaxed);
                None
            }
        };
        let until = |all: u64| {
            while steps.load(Ordering::Relaxed) < all {
                yield_now();
            }
        };
        let handles: Vec<_> = (0..count).map(|number| spawn_local(waiter(number))).collect();
        until(count);
        nearest.store((start.elapsed() + Duration::from_millis(near)).as_nanos() as u64, Ordering::Relaxed);
        let armed = timed(|| {
            handles.iter().for_each(|handle| handle.fiber().unpark());
            until(2 * count);
        });
        let others = || handles.iter().enumerate().filter(|(number, _)| !number.is_multiple_of(20));
        let cancelled = others().count() as u64;
        let cancelling = timed(|| {
            others().for_each(|(_, handle)| handle.fiber().unpark());
            until(2 * count + cancelled);
        });
        report_each("arm", armed, count);
        report_each("cancel", cancelling, cancelled);
        report_waits(
            handles.into_iter().filter_map(|handle| handle.join().expect("the fiber ends")).collect(),
        );
    });
}
