//! The monitor: one thread of the process that looks for fibers which hold their worker too long.
//!
//! Workers do nothing for it. They count their resumes anyway, and say which fiber they run; the monitor reads both every
//! half limit. A count that has not moved since the last look, while the worker is awake, is a fiber that has not given
//! way. When that has lasted for the limit, the fiber's stack is captured by a signal ([`crate::dump::interrupt`]), it is
//! reported ([`report`]), and a sleeping worker is woken to take the un-started fibers that are queued behind it.
//!
//! An idle process is left alone: when no worker has anything to do the monitor sleeps without a timeout, and the first
//! worker to wake wakes it. That is a Dekker handshake as in [`crate::scheduler::port`]:
//!
//! ```text
//!   monitor                                   worker that wakes
//!   ASLEEP = true          (SeqCst)           state = Running      (SeqCst)
//!   fence                  (SeqCst)           fence                (SeqCst)
//!   every worker asleep?   sleep              ASLEEP? -> false, and unpark the monitor
//! ```

mod report;
mod thread_time;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

pub use report::HogReport;
pub(crate) use report::OnHog;

use crate::scheduler::shared::{Shared, SharedRef};
use report::Reporter;
use watch::Watch;

/// Looks at idle workers before the monitor sleeps: a process that is busy every few milliseconds keeps it awake rather
/// than paying for a wake each time.
const IDLE_LOOKS: u32 = 4;
/// The monitor looks no more often than this, whatever the limits are.
const MIN_TICK: Duration = Duration::from_micros(500);
const MAX_TICK: Duration = Duration::from_secs(1);

/// The monitor sleeps until somebody wakes it.
static ASLEEP: AtomicBool = AtomicBool::new(false);

static MONITOR: Mutex<Monitor> = Mutex::new(Monitor { thread: None, new: Vec::new() });

struct Monitor {
    /// Started with the first runtime that has a limit.
    thread: Option<Thread>,
    /// Runtimes the thread has not seen yet.
    new: Vec<Weak<Shared>>,
}

/// A runtime with a limit for hogs has been built.
pub(crate) fn watch(shared: &SharedRef) -> std::io::Result<()> {
    let mut monitor = MONITOR.lock().unwrap_or_else(PoisonError::into_inner);
    monitor.new.push(Arc::downgrade(shared));
    if let Some(thread) = &monitor.thread {
        ASLEEP.store(false, Ordering::SeqCst);
        thread.unpark();
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("moon-monitor".to_owned()).spawn(run)?;
    monitor.thread = Some(thread.thread().clone());
    Ok(())
}

/// A worker has woken: called after it has said so.
#[inline]
pub(crate) fn worker_awake() {
    // Pairs with the fence in `sleep`: either the monitor sees the worker awake, or the worker sees it asleep.
    fence(Ordering::SeqCst);
    if ASLEEP.load(Ordering::Relaxed) {
        wake();
    }
}

#[cold]
fn wake() {
    if ASLEEP.swap(false, Ordering::SeqCst) {
        let thread = MONITOR.lock().unwrap_or_else(PoisonError::into_inner).thread.clone();
        if let Some(thread) = thread {
            thread.unpark();
        }
    }
}

/// The monitor's life.
fn run() {
    let mut watches: Vec<Watch> = Vec::new();
    let mut reporter = Reporter::new();
    let mut idle_looks = 0;
    loop {
        let new = std::mem::take(&mut MONITOR.lock().unwrap_or_else(PoisonError::into_inner).new);
        for shared in new.iter().filter_map(Weak::upgrade) {
            watches.extend(Watch::of(&shared));
        }
        let now = Instant::now();
        watches.retain_mut(|watch| watch.look(now, &mut reporter));
        idle_looks = if all_asleep(&watches) { idle_looks + 1 } else { 0 };
        if idle_looks < IDLE_LOOKS {
            let tick = watches.iter().map(|watch| watch.limit() / 2).min().unwrap_or(MAX_TICK);
            std::thread::park_timeout(tick.clamp(MIN_TICK, MAX_TICK));
        } else {
            idle_looks = 0;
            sleep(&watches);
        }
    }
}

fn all_asleep(watches: &[Watch]) -> bool {
    watches.iter().all(Watch::is_asleep)
}

/// Sleeps until a worker wakes or a runtime is built.
fn sleep(watches: &[Watch]) {
    ASLEEP.store(true, Ordering::SeqCst);
    // Pairs with the fence in `worker_awake`.
    fence(Ordering::SeqCst);
    let is_news = || !MONITOR.lock().unwrap_or_else(PoisonError::into_inner).new.is_empty();
    if !all_asleep(watches) || is_news() {
        ASLEEP.store(false, Ordering::SeqCst);
        return;
    }
    while ASLEEP.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
