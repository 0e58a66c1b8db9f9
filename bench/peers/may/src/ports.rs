//! What the runtimes measure themselves by, on may: may's own benchmarks and tokio's in our words, a ring, the wait of a
//! woken coroutine, many timers of which most are cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench_kit::{Arguments, report_each, report_waits, timed};
use may::coroutine::{self, JoinHandle, yield_now};
use may::go;
use may::sync::mpsc;

use crate::basic::{let_others_start, run};

fn join_all(handles: Vec<JoinHandle<()>>) {
    handles.into_iter().for_each(|handle| handle.join().expect("the coroutine ends"));
}

/// Does something so often, after a tenth of it as warm-up, and reports what each of its `operations` took.
fn repeated(name: &str, arguments: &Arguments, operations: u64, mut once: impl FnMut()) {
    let times = arguments.number("times", 100);
    (0..times.div_ceil(10)).for_each(|_| once());
    let took = timed(|| (0..times).for_each(|_| once()));
    report_each(name, took, times * operations);
}

/// `yield_bench`: one coroutine, alone, yields 10,000 times.
pub(crate) fn may_yield(arguments: &Arguments) {
    const YIELDS: u64 = 10_000;
    repeated("each", arguments, YIELDS, || run(|| (0..YIELDS).for_each(|_| yield_now())));
}

/// Runs `work` on so many plain threads.
fn on_threads(threads: u64, work: fn()) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

/// `spawn_bench_1`: two plain threads spawn 500 empty coroutines each and join them.
pub(crate) fn may_spawn(arguments: &Arguments) {
    repeated("each", arguments, 1000, || {
        on_threads(2, || join_all((0..500).map(|_| go!(|| ())).collect()));
    });
}

/// `smoke_bench`: five plain threads spawn 200 coroutines each, which yield 1,000 times.
pub(crate) fn may_smoke(arguments: &Arguments) {
    repeated("each", arguments, 5 * 200 * 1000, || {
        on_threads(5, || {
            join_all((0..200).map(|_| go!(|| (0..1000).for_each(|_| yield_now()))).collect());
        });
    });
}

/// `smoke_bench_3`: a hundred coroutines spawn a hundred each, which yield four times.
pub(crate) fn may_nested(arguments: &Arguments) {
    repeated("each", arguments, 100 * 100, || {
        let below = || join_all((0..100).map(|_| go!(|| (0..4).for_each(|_| yield_now()))).collect());
        join_all((0..100).map(|_| go!(below)).collect());
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

/// tokio's `spawn_many_local`: a coroutine spawns 10,000 that nobody joins; the last one says so.
pub(crate) fn spawn_many_local(arguments: &Arguments) {
    repeated("each", arguments, MANY, || {
        let (countdown, done) = Countdown::new(MANY);
        go!(move || {
            for _ in 0..MANY {
                let countdown = countdown.clone();
                go!(move || countdown.one_less());
            }
        });
        done.recv().expect("the last one says so");
    });
}

/// tokio's `spawn_many_remote_idle`: the same from a plain thread.
pub(crate) fn spawn_many_remote(arguments: &Arguments) {
    repeated("each", arguments, MANY, || {
        let (countdown, done) = Countdown::new(MANY);
        for _ in 0..MANY {
            let countdown = countdown.clone();
            go!(move || countdown.one_less());
        }
        done.recv().expect("the last one says so");
    });
}

/// tokio's `yield_many`: 200 coroutines yield 1,000 times each.
pub(crate) fn yield_many(arguments: &Arguments) {
    repeated("each", arguments, 200 * 1000, || {
        let (countdown, done) = Countdown::new(200);
        for _ in 0..200 {
            let countdown = countdown.clone();
            go!(move || {
                (0..1000).for_each(|_| yield_now());
                countdown.one_less();
            });
        }
        done.recv().expect("the last one says so");
    });
}

/// tokio's `ping_pong`: a thousand coroutines spawn a partner each and exchange two messages with it. may has no
/// one-shot channel; these are its channels of many messages.
pub(crate) fn ping_pong_many(arguments: &Arguments) {
    repeated("each", arguments, 1000, || {
        let (countdown, done) = Countdown::new(1000);
        let pair = |countdown: Countdown| {
            let (ping, pinged) = mpsc::channel();
            let (pong, ponged) = mpsc::channel();
            go!(move || {
                pinged.recv().expect("the partner sends");
                pong.send(()).expect("the partner waits");
            });
            ping.send(()).expect("the partner waits");
            ponged.recv().expect("the partner sends");
            countdown.one_less();
        };
        go!(move || {
            for _ in 0..1000 {
                let countdown = countdown.clone();
                go!(move || pair(countdown));
            }
        });
        done.recv().expect("the last one says so");
    });
}

/// tokio's `chained_spawn`: each of a thousand coroutines spawns the next.
pub(crate) fn chained_spawn(arguments: &Arguments) {
    fn link(left: u64, countdown: Countdown) {
        if left == 0 {
            countdown.one_less();
        } else {
            go!(move || link(left - 1, countdown));
        }
    }
    repeated("each", arguments, 1000, || {
        let (countdown, done) = Countdown::new(1);
        go!(move || link(1000, countdown));
        done.recv().expect("the last one says so");
    });
}

/// A token goes round a ring of a thousand coroutines.
pub(crate) fn ring(arguments: &Arguments) {
    let (fibers, laps) = (arguments.number("fibers", 1000), arguments.number("laps", 200));
    let took = run(move || {
        let (first, mut next) = mpsc::channel::<u64>();
        for _ in 1..fibers {
            let (sender, receiver) = mpsc::channel();
            let from = std::mem::replace(&mut next, receiver);
            go!(move || {
                while let Ok(token) = from.recv() {
                    let _ = sender.send(token + 1); // the ring is torn down at the end
                }
            });
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

/// How long after a plain thread sends to it a coroutine runs, whose worker had nothing to do and slept.
pub(crate) fn wake_latency(arguments: &Arguments) {
    let count = arguments.number("count", 2000);
    let (sender, receiver) = mpsc::channel::<Instant>();
    let sleeper = go!(move || {
        let mut waits = Vec::new();
        while let Ok(sent) = receiver.recv() {
            waits.push(sent.elapsed());
        }
        waits
    });
    for _ in 0..count {
        thread::sleep(Duration::from_micros(200)); // the worker goes to sleep meanwhile
        sender.send(Instant::now()).expect("the coroutine receives");
    }
    drop(sender);
    report_waits(sleeper.join().expect("the coroutine ends with its channel"));
}

/// A round trip over two channels with a timeout on each of the two waits: armed and cancelled, never reached.
pub(crate) fn timeouts(arguments: &Arguments) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let count = arguments.number("count", 200_000);
    let took = run(move || {
        let (ping, pings) = mpsc::channel::<u64>();
        let (pong, pongs) = mpsc::channel::<u64>();
        let echo = go!(move || {
            while let Ok(number) = pings.recv_timeout(PATIENCE) {
                pong.send(number).expect("the other side waits for it");
            }
        });
        let run = |count| {
            for number in 0..count {
                ping.send(number).expect("the echo is there");
                assert_eq!(pongs.recv_timeout(PATIENCE), Ok(number));
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

/// `count` coroutines wait with a timeout; 95 of 100 are woken before it. The others are left as they are, while in the
/// other contestants' programs their timeouts come true: with may 0.3.51 a short timeout among many long ones that were
/// cancelled did not end in any of our runs.
pub(crate) fn timers(arguments: &Arguments) {
    const FAR: Duration = Duration::from_secs(3600);
    let count = arguments.number("count", 30_000);
    run(move || {
        let steps = Arc::new(AtomicU64::new(0));
        let waiter = || {
            let steps = Arc::clone(&steps);
            move || {
                steps.fetch_add(1, Ordering::Relaxed);
                coroutine::park();
                steps.fetch_add(1, Ordering::Relaxed);
                coroutine::park_timeout(FAR);
                steps.fetch_add(1, Ordering::Relaxed);
            }
        };
        let until = |all: u64| {
            while steps.load(Ordering::Relaxed) < all {
                let_others_start();
            }
        };
        let handles: Vec<_> = (0..count).map(|_| go!(waiter())).collect();
        until(count);
        let armed = timed(|| {
            handles.iter().for_each(|handle| handle.coroutine().unpark());
            until(2 * count);
        });
        let others = || handles.iter().enumerate().filter(|(number, _)| !number.is_multiple_of(20));
        let cancelled = others().count() as u64;
        let cancelling = timed(|| {
            others().for_each(|(_, handle)| handle.coroutine().unpark());
            until(2 * count + cancelled);
        });
        report_each("arm", armed, count);
        report_each("cancel", cancelling, cancelled);
    });
}
