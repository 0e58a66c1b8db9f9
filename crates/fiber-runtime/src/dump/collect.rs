//! Asking the workers of a runtime for their fibers, on a thread of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::capture::{Capture, Record, Wanted};
use super::interrupt::{self, Interrupted};
use super::report::{Answer, FiberDump, FiberState, RuntimeDump, WorkerDump};
use super::symbols::{Backtrace, Symboliser};
use crate::fiber::header::Phase;
use crate::scheduler::port::{Control, Port, State};
use crate::scheduler::shared::Shared;
use crate::scheduler::worker::Worker;
use crate::sync::Spin;

/// How long a worker has for an answer before its thread is interrupted. A worker that gives way now and then answers in
/// a tenth of a millisecond, if the system lets it run.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long a worker has that ran no fiber when it was interrupted, or could not be.
const LONG_PATIENCE: Duration = Duration::from_secs(2);

/// A capture on its way to a worker and back.
struct Request {
    /// Empty when the asker has given up.
    capture: Spin<Option<Capture>>,
    answered: AtomicBool,
    asker: Thread,
}

impl Request {
    /// The worker's side: fills the capture if it is still wanted.
    fn answer(&self, worker: &Worker) {
        if let Some(mut capture) = self.capture.lock(Option::take) {
            capture.fill(worker);
            self.capture.lock(|slot| {
                *slot = Some(capture);
                // Release pairs with the Acquire in `ask`. Under the lock: who finds the capture knows whether it is full.
                self.answered.store(true, Ordering::Release);
            });
            self.asker.unpark();
        }
    }
}

/// Sends a request and waits for the answer. `None`: the worker has not begun to answer in time.
fn ask(port: &'static Port, capture: Capture, patience: Duration) -> Option<Capture> {
    let request = Arc::new(Request {
        capture: Spin::new(Some(capture)),
        answered: AtomicBool::new(false),
        asker: std::thread::current(),
    });
    let sent = request.clone();
    port.send(Control::Visit(Box::new(move |worker| sent.answer(worker))));
    let began = Instant::now();
    while !request.answered.load(Ordering::Acquire) {
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero()
            && let Some(capture) = request.capture.lock(Option::take)
        {
            // Taken back before the worker began, or answered an instant ago. While the worker fills it, it is nowhere.
            return request.answered.load(Ordering::Acquire).then_some(capture);
        }
        std::thread::park_timeout(left.max(Duration::from_millis(1)));
    }
    request.capture.lock(Option::take)
}

/// Describes every fiber of a runtime. Blocks the thread; not for fibers.
pub(super) fn collect(shared: &Shared, symboliser: &mut Symboliser) -> RuntimeDump {
    let mut dump = RuntimeDump {
        name: shared.config().name.clone(),
        workers: Vec::with_capacity(shared.ports().len()),
        fibers: Vec::new(),
        unlisted: 0,
    };
    for (index, &port) in shared.ports().iter().enumerate() {
        let answer = if port.state() == State::Away || port.thread() == 0 {
            Answer::Away
        } else {
            collect_worker(port, index, symboliser, &mut dump.fibers)
        };
        dump.workers.push(WorkerDump { index, answer });
    }
    // A fiber that started while its worker was asked may have been seen twice.
    let started: HashSet<u64> =
        dump.fibers.iter().filter(|fiber| fiber.worker.is_some()).map(|fiber| fiber.id).collect();
    dump.fibers.retain(|fiber| fiber.worker.is_some() || !started.contains(&fiber.id));
    let alive = shared.metrics().alive();
    dump.unlisted = alive.saturating_sub(dump.fibers.len() as u64);
    dump
}

fn collect_worker(
    port: &'static Port,
    index: usize,
    symboliser: &mut Symboliser,
    fibers: &mut Vec<FiberDump>,
) -> Answer {
    let mut stuck = false;
    let mut from = 0;
    loop {
        let wanted = Wanted::All(from);
        let mut capture = Capture::new(wanted);
        let answered = if stuck { None } else { ask(port, capture, PATIENCE) };
        capture = match answered {
            Some(capture) => capture,
            None => {
                capture = Capture::new(wanted);
                if interrupt::capture(port, &mut capture) == Interrupted::Filled {
                    stuck = true;
                    capture
                } else if let Some(capture) = ask(port, capture, LONG_PATIENCE) {
                    // It was between two fibers: slow, not stuck.
                    capture
                } else {
                    return unreachable_worker(port, index, fibers);
                }
            }
        };
        for record in &capture.records {
            fibers.push(describe(record, &capture, Some(index), symboliser));
        }
        match capture.next {
            Some(next) => from = next,
            None if stuck => return Answer::Interrupted,
            None => return Answer::Answered,
        }
    }
}

/// The worker neither answers nor can be interrupted: all that is known is the fiber it resumed last.
fn unreachable_worker(port: &'static Port, index: usize, fibers: &mut Vec<FiberDump>) -> Answer {
    if let Some((id, name)) = port.running.identify() {
        fibers.push(FiberDump {
            id,
            name,
            state: FiberState::Running,
            worker: Some(index),
            backtrace: Backtrace::default(),
        });
    }
    Answer::Silent
}

/// Turns a record into what is shown.
pub(super) fn describe(
    record: &Record,
    capture: &Capture,
    worker: Option<usize>,
    symboliser: &mut Symboliser,
) -> FiberDump {
    let state = match record.phase {
        Phase::Unstarted => FiberState::NotStarted,
        Phase::Ready => FiberState::Ready,
        Phase::Running | Phase::Done => FiberState::Running,
        Phase::Parked => {
            FiberState::Parked { waits_for: record.label, since: Duration::from_nanos(record.waited) }
        }
    };
    FiberDump {
        id: record.id,
        name: record.name.as_ref().map(|name| name.text().to_owned()),
        state,
        worker: worker.filter(|_| record.phase != Phase::Unstarted),
        backtrace: record
            .stack
            .as_ref()
            .map(|stack| symboliser.backtrace(capture, stack))
            .unwrap_or_default(),
    }
}

/// The fibers of the calling thread's own worker: for simulations, whose only thread is asking.
pub(super) fn collect_own(worker: &Worker) -> Vec<Capture> {
    let mut captures = Vec::new();
    let mut from = 0;
    loop {
        let mut capture = Capture::new(Wanted::All(from));
        capture.fill(worker);
        let next = capture.next;
        captures.push(capture);
        match next {
            Some(next) => from = next,
            None => return captures,
        }
    }
}
