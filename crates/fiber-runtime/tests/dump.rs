//! The fiber dump: who is listed, what is said of each, and where it is.

#![allow(clippy::unwrap_used, reason = "a test unwraps what it has arranged")]

mod common;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{PATIENCE, runtime, wait_for};
use fiber_runtime::diagnostics::{self, Answer, FiberDump, FiberState, RuntimeDump};
use fiber_runtime::sync::{Mutex, channel};
use fiber_runtime::{FiberBuilder, Runtime, park, spawn, time};

/// The functions a fiber is in, in one text.
fn functions(fiber: &FiberDump) -> String {
    fiber.backtrace.frames().map(|frame| format!("{frame}\n")).collect()
}

fn waits_for(fiber: &FiberDump) -> &'static str {
    match fiber.state {
        FiberState::Parked { waits_for, .. } => waits_for,
        state => panic!("{fiber} is {state}"),
    }
}

/// Dumps until `state` holds of a dump.
#[track_caller]
fn dump_until(runtime: &Runtime, what: &str, state: impl Fn(&RuntimeDump) -> bool) -> RuntimeDump {
    let mut last = None;
    wait_for(what, || {
        let dump = runtime.dump();
        let holds = state(&dump);
        last = Some(dump);
        holds
    });
    last.unwrap()
}

fn is_parked(dump: &RuntimeDump, name: &str) -> bool {
    dump.fiber(name).is_some_and(|fiber| matches!(fiber.state, FiberState::Parked { .. }))
}

#[inline(never)]
fn the_outer_function(receiver: &channel::Receiver<u32>) -> u32 {
    let answer = the_inner_function(receiver);
    std::hint::black_box(answer) + 1
}

#[inline(never)]
fn the_inner_function(receiver: &channel::Receiver<u32>) -> u32 {
    let answer = receiver.recv().unwrap();
    std::hint::black_box(answer)
}

#[test]
fn a_parked_fiber_is_shown_with_what_it_waits_for_and_where() {
    let runtime = runtime(2);
    let (sender, receiver) = channel::bounded(1);
    let waiting = runtime
        .handle()
        .spawn_with(FiberBuilder::new().name("waiting"), move || the_outer_function(&receiver));
    let dump = dump_until(&runtime, "the fiber to park", |dump| is_parked(dump, "waiting"));
    let fiber = dump.fiber("waiting").unwrap();
    assert_eq!(fiber.id, waiting.fiber().id());
    assert!(waits_for(fiber).contains("channel"), "{fiber}");
    assert!(fiber.worker.is_some());
    let functions = functions(fiber);
    let inner = functions.find("the_inner_function").unwrap_or_else(|| panic!("{functions}"));
    let outer = functions.find("the_outer_function").unwrap_or_else(|| panic!("{functions}"));
    assert!(inner < outer, "{functions}");
    assert!(functions.contains("dump.rs:"), "{functions}");
    // The dump was read from copies: the fiber goes on as if nothing had been.
    sender.send(6).unwrap();
    assert_eq!(waiting.join().unwrap(), 7);
}

#[test]
fn the_time_of_waiting_grows() {
    let runtime = runtime(1);
    let waiting = runtime.handle().spawn_with(FiberBuilder::new().name("waiting"), park);
    let waited = |dump: &RuntimeDump| match dump.fiber("waiting").map(|fiber| fiber.state) {
        Some(FiberState::Parked { since, .. }) => since,
        _ => Duration::ZERO,
    };
    dump_until(&runtime, "half a tenth of a second to pass", |dump| waited(dump) > Duration::from_millis(50));
    let dump = runtime.dump();
    assert!(waited(&dump) < PATIENCE, "{dump}");
    waiting.fiber().unpark();
    waiting.join().unwrap();
}

#[test]
fn every_kind_of_wait_has_its_name() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    let lock = Arc::new(Mutex::new(()));
    let named = |name: &'static str| FiberBuilder::new().name(name);
    let sleeper = handle.spawn_with(named("sleeper"), || time::sleep(PATIENCE));
    let parker = handle.spawn_with(named("parker"), park);
    let held = lock.clone();
    let holder = handle.spawn_with(named("holder"), move || {
        let _held = held.lock();
        park();
    });
    dump_until(&runtime, "the lock to be held", |dump| is_parked(dump, "holder"));
    let locker = handle.spawn_with(named("locker"), move || drop(lock.lock()));
    let dump = dump_until(&runtime, "all to wait", |dump| {
        ["sleeper", "parker", "holder", "locker"].iter().all(|name| is_parked(dump, name))
    });
    let label = |name| waits_for(dump.fiber(name).unwrap());
    assert_eq!(label("sleeper"), "sleep");
    assert_eq!(label("parker"), "park");
    assert!(label("locker").contains("mutex") || label("locker").contains("lock"), "{}", label("locker"));
    assert!(functions(dump.fiber("locker").unwrap()).contains("mutex"), "{dump}");
    for fiber in [&sleeper, &parker, &holder, &locker] {
        fiber.cancel();
    }
}

#[cfg(feature = "hook")]
#[test]
fn a_fiber_in_a_hooked_call_is_shown_with_its_caller() {
    #[inline(never)]
    fn reads_from_std(stream: &mut UnixStream) -> usize {
        let read = stream.read(&mut [0; 8]).unwrap_or(0);
        std::hint::black_box(read)
    }
    let runtime = runtime(1);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let reader =
        runtime.handle().spawn_with(FiberBuilder::new().name("reader"), move || reads_from_std(&mut ours));
    let dump = dump_until(&runtime, "the reader to park", |dump| is_parked(dump, "reader"));
    let functions = functions(dump.fiber("reader").unwrap());
    assert!(functions.contains("reads_from_std"), "{functions}");
    drop(theirs);
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn a_fiber_can_ask() {
    let runtime = runtime(2);
    let dump = runtime.block_on(|| {
        let children: Vec<_> = (0..10).map(|_| spawn(park)).collect();
        let handle = fiber_runtime::Handle::current();
        let mut dump = handle.dump();
        wait_for("ten children to park", || {
            dump = handle.dump();
            dump.fibers.iter().filter(|fiber| format!("{}", fiber.state).contains("waits for park")).count()
                == 10
        });
        for child in children {
            child.fiber().unpark();
        }
        dump
    });
    assert!(dump.fiber("block_on").is_some(), "{dump}");
    assert!(dump.workers.iter().all(|worker| worker.answer == Answer::Answered), "{dump}");
}

#[test]
fn more_fibers_than_fit_one_piece_are_all_listed_once() {
    const COUNT: usize = 5_000;
    let runtime = runtime(1);
    let fibers = runtime.block_on(|| (0..COUNT).map(|_| spawn(park)).collect::<Vec<_>>());
    let dump = dump_until(&runtime, "all to park", |dump| {
        dump.fibers.iter().filter(|fiber| matches!(fiber.state, FiberState::Parked { .. })).count() == COUNT
    });
    let mut ids: Vec<u64> = dump.fibers.iter().map(|fiber| fiber.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), dump.fibers.len()), (COUNT, COUNT));
    assert_eq!(dump.unlisted, 0);
    let lost: Vec<&FiberDump> = dump.fibers.iter().filter(|fiber| fiber.backtrace.is_empty()).collect();
    assert!(lost.is_empty(), "{} fibers without a backtrace: {:?}", lost.len(), lost[0]);
    // Printed, the backtrace they share stands there once.
    let text = dump.to_string();
    assert!(text.lines().count() < COUNT + 100, "{} lines", text.lines().count());
    for fiber in fibers {
        fiber.fiber().unpark();
    }
}

#[test]
fn a_fiber_that_has_not_started_is_listed() {
    let runtime = runtime(1);
    let stop = Arc::new(AtomicBool::new(false));
    let (started, running) = std::sync::mpsc::channel();
    let stopped = stop.clone();
    let hog = runtime.spawn(move || {
        let child = FiberBuilder::new().name("child").spawn(|| ());
        started.send(()).unwrap();
        // The child never gets its turn, but the worker looks around: this fiber gives way.
        while !stopped.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        child.join().unwrap();
    });
    running.recv().unwrap();
    // The worker is in the hog, so nobody can look into its queues: the child is counted.
    let dump = runtime.dump();
    assert!(dump.fiber("child").is_some() || dump.unlisted == 1, "{dump}");
    stop.store(true, Ordering::Relaxed);
    hog.join().unwrap();
}

#[inline(never)]
fn spins_until(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

#[test]
fn the_fibers_of_a_stuck_worker_are_shown_too() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    let parked = handle.spawn_with(FiberBuilder::new().name("parked"), park);
    dump_until(&runtime, "the fiber to park", |dump| is_parked(dump, "parked"));
    let stop = Arc::new(AtomicBool::new(false));
    let running = Arc::new(AtomicBool::new(false));
    let (stopped, runs) = (stop.clone(), running.clone());
    let hog = handle.spawn_with(FiberBuilder::new().name("hog"), move || {
        runs.store(true, Ordering::Relaxed);
        spins_until(&stopped);
    });
    wait_for("the hog to run", || running.load(Ordering::Relaxed));
    let dump = runtime.dump();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(dump.workers[0].answer, Answer::Interrupted, "{dump}");
    let hog_dump = dump.fiber("hog").unwrap_or_else(|| panic!("{dump}"));
    assert_eq!(hog_dump.state, FiberState::Running);
    assert!(functions(hog_dump).contains("spins_until"), "{dump}");
    let parked_dump = dump.fiber("parked").unwrap_or_else(|| panic!("{dump}"));
    assert_eq!(waits_for(parked_dump), "park");
    assert!(functions(parked_dump).contains("park"), "{dump}");
    assert!(dump.to_string().contains("worker 0 does not answer; it was interrupted"), "{dump}");
    hog.join().unwrap();
    parked.fiber().unpark();
    parked.join().unwrap();
}

#[test]
fn a_worker_blocked_in_the_kernel_is_shown_and_its_call_goes_on() {
    #[inline(never)]
    fn reads_for_real(stream: &mut UnixStream) -> usize {
        let read = fiber_runtime::hook::disabled(|| stream.read(&mut [0; 8])).unwrap();
        std::hint::black_box(read)
    }
    let runtime = runtime(1);
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let running = Arc::new(AtomicBool::new(false));
    let runs = running.clone();
    let reader = runtime.handle().spawn_with(FiberBuilder::new().name("reader"), move || {
        runs.store(true, Ordering::Relaxed);
        reads_for_real(&mut ours)
    });
    wait_for("the reader to run", || running.load(Ordering::Relaxed));
    let dump = dump_until(&runtime, "the reader to be in its call", |dump| {
        dump.fiber("reader").is_some_and(|fiber| functions(fiber).contains("reads_for_real"))
    });
    assert_eq!(dump.fiber("reader").unwrap().state, FiberState::Running);
    std::io::Write::write_all(&mut theirs, b"abc").unwrap();
    assert_eq!(reader.join().unwrap(), 3, "the signal restarted the call");
}

#[test]
fn a_worker_that_nobody_drives_is_said_to_be_away() {
    let runtime = Runtime::builder().workers(1).use_caller(true).build().unwrap();
    runtime.block_on(|| spawn(park).detach());
    let dump = runtime.dump();
    assert_eq!(dump.workers[0].answer, Answer::Away);
    assert_eq!((dump.fibers.len(), dump.unlisted), (0, 1), "{dump}");
}

#[test]
fn a_simulation_can_be_dumped_from_inside() {
    let dump = fiber_runtime::sim::Sim::new(7).run(|| {
        let child = FiberBuilder::new().name("child").spawn(park);
        let state = diagnostics::dump().runtimes[0].fiber("child").map(|fiber| fiber.state);
        assert_eq!(state, Some(FiberState::NotStarted));
        fiber_runtime::yield_now();
        while diagnostics::dump().runtimes[0].fiber("child").is_none_or(|fiber| fiber.backtrace.is_empty()) {
            fiber_runtime::yield_now();
        }
        let dump = diagnostics::dump();
        child.fiber().unpark();
        dump
    });
    let child = dump.runtimes[0].fiber("child").unwrap();
    assert!(functions(child).contains("park"), "{dump}");
}

#[test]
fn dumps_from_many_threads_at_once_do_not_disturb_each_other() {
    let runtime = runtime(2);
    let parked: Vec<_> = (0..50).map(|_| runtime.spawn(park)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let busy = runtime.spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            // Sometimes long enough to be interrupted, sometimes not.
            spins_for(Duration::from_millis(250));
            fiber_runtime::yield_now();
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let dump = runtime.dump();
                    let listed = dump.fibers.len() as u64 + dump.unlisted;
                    assert!(listed >= 51, "{dump}");
                }
            });
        }
    });
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    for fiber in parked {
        fiber.fiber().unpark();
        fiber.join().unwrap();
    }
}

fn spins_for(time: Duration) {
    let began = std::time::Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Set in the child process of the test below.
const CHILD: &str = "FIBER_RUNTIME_DUMP_CHILD";

#[test]
fn a_signal_prints_a_dump_and_the_process_goes_on() {
    const NAME: &str = "a_signal_prints_a_dump_and_the_process_goes_on";
    if std::env::var_os(CHILD).is_some() {
        let runtime = Runtime::builder().workers(1).dump_on_signal(true).build().unwrap();
        let waiting = runtime.handle().spawn_with(FiberBuilder::new().name("waiting"), park);
        dump_until(&runtime, "the fiber to park", |dump| is_parked(dump, "waiting"));
        println!("ready");
        // Goes on when told to, by a line.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        waiting.fiber().unpark();
        waiting.join().unwrap();
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::{BufRead, BufReader, Write};
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")));
    // SAFETY: the child of this process, which has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGUSR1) }, 0);
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut text = String::new();
    while !(text.contains("'waiting'") && text.contains("park")) {
        let line = errors.next().unwrap_or_else(|| panic!("the child ended: {text}")).unwrap();
        text.push_str(&line);
        text.push('\n');
    }
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
}
