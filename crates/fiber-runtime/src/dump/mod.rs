//! The fiber dump: every fiber, what it does, since when, and where.
//!
//! ```text
//!   asker (a thread)                                        worker
//!   ----------------                                        ------
//!   empty capture  -- control message ------------------->  between two resumes: copies headers and stacks into it
//!                  <------------------------- full capture
//!        no answer -- SIGURG ----------------------------->  handler, in the fiber that does not give way: the same
//!   unwinds the copied stacks, names the functions           goes on
//! ```
//!
//! Nothing is recorded in advance: a fiber's suspended stack says where it is, its header what it waits for.
//!
//! - [`capture`]: the copy; [`registers`]: where a stack begins; [`interrupt`]: the signal.
//! - [`collect`]: asking workers; [`unwind`], [`symbols`]: from stacks to functions; [`report`]: what is shown.
//! - [`signal`]: a dump on SIGUSR1.

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nothing is unwound there"))]
pub(crate) mod capture;
mod collect;
pub(crate) mod interrupt;
pub(crate) mod registers;
mod report;
mod signal;
pub(crate) mod symbols;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nothing is unwound there"))]
mod unwind;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use collect::describe;
pub use report::{Answer, Dump, FiberDump, FiberState, RuntimeDump, WorkerDump};
pub use signal::dump_on_signal;
pub use symbols::{Backtrace, Frame};

use crate::scheduler::shared::{Shared, SharedRef};
use crate::scheduler::worker::Worker;
use crate::sync::oneshot;
use symbols::Symboliser;

/// The runtimes of the process.
static RUNTIMES: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// A runtime has been built: dumps of the process will list it.
pub(crate) fn register(shared: &SharedRef) {
    let mut runtimes = RUNTIMES.lock().unwrap_or_else(PoisonError::into_inner);
    runtimes.retain(|runtime| runtime.strong_count() > 0);
    runtimes.push(Arc::downgrade(shared));
}

/// Describes every fiber of every runtime of the process: number, name, state, what it waits for and since when, and a
/// backtrace.
///
/// Fibers of a worker that is stuck in one of them are listed too: its thread is interrupted by a signal, see
/// [`diagnostics`](crate::diagnostics). Works in fibers and in threads; takes milliseconds, and some hundreds of them when
/// a worker is stuck or when the program's debug information is read for the first time.
///
/// ```
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).name("demo").build().unwrap();
/// let waiting = fiber_runtime::FiberBuilder::new().name("waiting");
/// let fiber = runtime.handle().spawn_with(waiting, || fiber_runtime::park());
/// # while runtime.metrics().workers[0].switches == 0 { std::thread::yield_now(); }
/// let dump = fiber_runtime::diagnostics::dump();
/// println!("{dump}");
/// # let demo = dump.runtimes.iter().find(|runtime| runtime.name == "demo").unwrap();
/// # assert!(demo.fiber("waiting").is_some());
/// fiber.fiber().unpark();
/// ```
pub fn dump() -> Dump {
    if let Some(dump) = simulated() {
        return Dump { runtimes: vec![dump] };
    }
    let runtimes: Vec<SharedRef> = {
        let runtimes = RUNTIMES.lock().unwrap_or_else(PoisonError::into_inner);
        runtimes.iter().filter_map(Weak::upgrade).collect()
    };
    Dump { runtimes: collect_all(runtimes) }
}

/// Describes every fiber of one runtime; of the simulation when called in one.
pub(crate) fn dump_one(shared: &SharedRef) -> RuntimeDump {
    if let Some(dump) = simulated() {
        return dump;
    }
    let mut dumps = collect_all(vec![shared.clone()]);
    dumps.pop().expect("one runtime gives one dump")
}

/// Describes every fiber of one runtime, those of `own` included: a worker of the calling thread, which it does not drive
/// at the moment.
pub(crate) fn dump_with(shared: &SharedRef, own: Option<&Worker>) -> RuntimeDump {
    let mut dump = dump_one(shared);
    let captures = own.map(collect::collect_own).unwrap_or_default();
    let mut symboliser = Symboliser::new();
    for capture in &captures {
        let own = capture.records.iter();
        dump.fibers.extend(own.map(|record| describe(record, capture, Some(0), &mut symboliser)));
    }
    dump.unlisted = shared.metrics().alive().saturating_sub(dump.fibers.len() as u64);
    dump
}

/// Asks from a thread that is no worker: the caller's if it is one, else a new one, for whose end the fiber waits.
fn collect_all(runtimes: Vec<SharedRef>) -> Vec<RuntimeDump> {
    let collect = |runtimes: Vec<SharedRef>| {
        let mut symboliser = Symboliser::new();
        runtimes.iter().map(|shared| collect::collect(shared, &mut symboliser)).collect()
    };
    if Worker::with_current(|_| ()).is_some() {
        let (sender, receiver) = oneshot::channel();
        let asked = runtimes.clone();
        let thread = std::thread::Builder::new().name("moon-dump".to_owned());
        if thread.spawn(move || drop(sender.send(collect(asked)))).is_ok()
            && let Ok(dumps) = receiver.recv()
        {
            return dumps;
        }
        // Without a thread the worker asks itself, by signal.
    }
    collect(runtimes)
}

/// The fibers of the simulation the caller is in. They stand still while it asks.
fn simulated() -> Option<RuntimeDump> {
    let captures =
        Worker::with_current(|worker| worker.sim().map(|_| collect::collect_own(worker))).flatten()?;
    let describe = move || {
        let mut symboliser = Symboliser::new();
        let mut fibers = Vec::new();
        for capture in &captures {
            let records = capture.records.iter();
            fibers.extend(records.map(|record| describe(record, capture, Some(0), &mut symboliser)));
        }
        fibers
    };
    // Not on the fiber's stack: naming functions takes more than it may have.
    let fibers = std::thread::scope(|scope| scope.spawn(describe).join()).unwrap_or_default();
    let workers = vec![WorkerDump { index: 0, answer: Answer::Answered }];
    Some(RuntimeDump { name: "sim".to_owned(), workers, fibers, unlisted: 0 })
}
