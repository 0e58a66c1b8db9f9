//! Fibers and plain threads at the same locks of `std::sync`, held across whatever blocks: sleeps of libc and of the runtime,
//! round trips through a socket that another fiber of the worker answers, waits for a `Condvar`.
//!
//! Ends with what was done, or, when nobody has got on for a while, with a list of those who wait. With `--hooks 0` the
//! locks block the workers, as they do without the feature `hook`; then it does not take long until that happens.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use common::{Flag, numbers};
use fiber_runtime::{FiberBuilder, Runtime, hook, time};

/// Nobody has got on for so long: a deadlock.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How often those who wait without a time-out are given tickets.
const TICKETS_EVERY: Duration = Duration::from_millis(10);

/// What one lock guards. The two counts differ while somebody is inside.
struct Guarded {
    entered: u64,
    left: u64,
    tickets: u64,
    peer: UnixStream,
}

struct Place {
    lock: Mutex<Guarded>,
    changed: Condvar,
    /// Taken before the lock: shared mostly.
    gate: RwLock<()>,
}

struct World {
    places: Vec<Place>,
    stop: AtomicBool,
    by_fibers: AtomicU64,
    by_threads: AtomicU64,
    longest_nanos: AtomicU64,
}

fn main() -> ExitCode {
    let [fibers, workers, threads, locks, seconds, hooks] = numbers(
        "Fibers and plain threads at the same locks of std::sync, held across what blocks.",
        [
            Flag { name: "--fibers", default: 10_000, help: "fibers" },
            Flag { name: "--workers", default: 2, help: "worker threads" },
            Flag { name: "--threads", default: 4, help: "plain threads at the same locks" },
            Flag { name: "--locks", default: 200, help: "locks" },
            Flag { name: "--seconds", default: 10, help: "how long" },
            Flag { name: "--hooks", default: 1, help: "0: locks block the workers" },
        ],
    );
    match run([fibers, workers, threads, locks, seconds], hooks != 0) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run([fibers, workers, threads, locks, seconds]: [u64; 5], hooks: bool) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let runtime = Runtime::builder().workers(workers as usize).name("stress").build().map_err(failed)?;
    let mut places = Vec::new();
    for _ in 0..locks.max(1) {
        let (peer, mut here) = UnixStream::pair().map_err(failed)?;
        // Answers until the other end goes.
        drop(runtime.spawn(move || {
            let mut byte = [0];
            while here.read_exact(&mut byte).and_then(|()| here.write_all(&byte)).is_ok() {}
        }));
        let lock = Mutex::new(Guarded { entered: 0, left: 0, tickets: 0, peer });
        places.push(Place { lock, changed: Condvar::new(), gate: RwLock::new(()) });
    }
    let world = Arc::new(World {
        places,
        stop: AtomicBool::new(false),
        by_fibers: AtomicU64::new(0),
        by_threads: AtomicU64::new(0),
        longest_nanos: AtomicU64::new(0),
    });
    let began = Instant::now();
    let working: Vec<_> = (0..fibers)
        .map(|at| {
            let world = Arc::clone(&world);
            let body = move || {
                let work = || world.work(at + 1, &world.by_fibers);
                if hooks { work() } else { hook::disabled(work) }
            };
            runtime.handle().spawn_with(FiberBuilder::new().worker(at as usize % workers as usize), body)
        })
        .collect();
    let outside: Vec<_> = (0..threads)
        .map(|at| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.work(fibers + at + 1, &world.by_threads))
        })
        .collect();

    let done = || world.by_fibers.load(Ordering::Relaxed) + world.by_threads.load(Ordering::Relaxed);
    let (mut last, mut since) = (0, Instant::now());
    let all_done =
        |working: &[fiber_runtime::JoinHandle<u64>]| working.iter().all(|fiber| fiber.is_finished());
    while !(world.stop.load(Ordering::Relaxed) && all_done(&working)) {
        thread::sleep(TICKETS_EVERY);
        world.stop.fetch_or(began.elapsed() >= Duration::from_secs(seconds), Ordering::Relaxed);
        world.places.iter().for_each(Place::hand_out_tickets);
        if done() != last {
            (last, since) = (done(), Instant::now());
        } else if since.elapsed() > STANDSTILL {
            println!("{}", runtime.dump());
            return Err(format!("nobody has got on for {STANDSTILL:?}, after {last} turns"));
        }
    }
    let took = began.elapsed();
    let turns: Vec<u64> = working.into_iter().filter_map(|fiber| fiber.join().ok()).collect();
    let by_threads: u64 = outside.into_iter().filter_map(|thread| thread.join().ok()).sum();
    let by_fibers: u64 = turns.iter().sum();
    let inside = |place: &Place| {
        let guarded = place.lock.lock().unwrap_or_else(PoisonError::into_inner);
        (guarded.entered, guarded.left)
    };
    let (entered, left) =
        world.places.iter().map(inside).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let fewest = turns.iter().min().copied().unwrap_or_default();
    let longest = Duration::from_nanos(world.longest_nanos.load(Ordering::Relaxed));
    println!("{} fibers had {by_fibers} turns in {took:.1?}, each at least {fewest}", turns.len());
    println!("{threads} threads had {by_threads} turns; the longest wait for a lock was {longest:.1?}");
    if turns.len() as u64 != fibers || entered != by_fibers + by_threads || left != entered {
        return Err(format!("{entered} went in, {left} came out, {} had a turn", by_fibers + by_threads));
    }
    Ok(())
}

impl World {
    /// Turns at the locks until the end; how many.
    fn work(&self, seed: u64, done: &AtomicU64) -> u64 {
        let mut random = seed;
        let mut turns = 0;
        while !self.stop.load(Ordering::Relaxed) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let choice = random >> 33;
            let place = &self.places[choice as usize % self.places.len()];
            let waited = place.turn(choice / self.places.len() as u64, &self.stop);
            self.longest_nanos.fetch_max(waited.as_nanos() as u64, Ordering::Relaxed);
            turns += 1;
            done.fetch_add(1, Ordering::Relaxed);
        }
        turns
    }
}

impl Place {
    /// One turn in the lock; how long it was waited for.
    fn turn(&self, choice: u64, stop: &AtomicBool) -> Duration {
        let began = Instant::now();
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut guarded = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = began.elapsed();
        guarded.entered += 1;
        let short = Duration::from_micros(choice / 16 % 200);
        let mut byte = [choice as u8];
        match choice % 16 {
            0 => thread::sleep(short),
            1 => time::sleep(short),
            2 | 3 => {
                let mut peer = &guarded.peer;
                let answered = peer.write_all(&byte).and_then(|()| peer.read_exact(&mut byte));
                answered.expect("the other end answers as long as this one is there");
            }
            4 => thread::yield_now(),
            5 => self.changed.notify_all(),
            6 | 7 => {
                guarded.tickets += 1;
                self.changed.notify_one();
            }
            8 => {
                drop(gate);
                let empty = |guarded: &mut Guarded| guarded.tickets == 0 && !stop.load(Ordering::Relaxed);
                guarded = self.changed.wait_while(guarded, empty).unwrap_or_else(PoisonError::into_inner);
                guarded.tickets = guarded.tickets.saturating_sub(1);
            }
            9 => {
                drop(gate);
                let waited =
                    self.changed.wait_timeout(guarded, short).unwrap_or_else(PoisonError::into_inner);
                guarded = waited.0;
            }
            10 if (choice / 16).is_multiple_of(16) => {
                // Alone at the gate, and so without the lock.
                guarded.left += 1;
                drop((guarded, gate));
                let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                thread::sleep(short);
                return waited;
            }
            _ => {}
        }
        guarded.left += 1;
        waited
    }

    /// Nobody waits for a ticket for ever.
    fn hand_out_tickets(&self) {
        // Held for some time by others: then there is another round soon.
        if let Ok(mut guarded) = self.lock.try_lock() {
            guarded.tickets = guarded.tickets.max(1);
        }
        self.changed.notify_all();
    }
}
