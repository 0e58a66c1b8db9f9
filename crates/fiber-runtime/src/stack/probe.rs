//! The stack-usage probe: how deep the stacks of fibers were used, by name of fiber.
//!
//! A stack of a runtime with the probe on is all zeroes when a fiber starts on it. So the lowest word that is not zero
//! says how deep it was used, whatever the fiber did in between: nothing has to be counted while it runs. When the fiber
//! ends its stack is looked at and zeroed again as far as it was used.
//!
//! Looking reads the whole unused part of a stack, about a microsecond for each 16 KiB. A word that was used and is zero at
//! the lowest end is missed, so marks may be short by the zeroes of one frame; and a frame that was reserved and not
//! written counts as far as it was written.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::{FiberStack, cache, stack_size};
use crate::fiber::header::{Header, Phase};
use crate::scheduler::port::{Control, State};
use crate::scheduler::shared::Shared;
use crate::scheduler::worker::Worker;
use crate::sync::{Spin, oneshot};

/// Names that are told apart; the fibers of further ones are put together.
const MAX_NAMES: usize = 1024;
/// What those are called, and fibers without a name.
const OTHERS: &str = "(others)";
const UNNAMED: &str = "(unnamed)";
/// How long workers have to look at the stacks of fibers that have not ended.
const PATIENCE: Duration = Duration::from_millis(500);
/// Fibers that a worker looks at before it runs others.
const PIECE: usize = 64;
/// A stack that was used deeper than this is given back to the kernel rather than written full of zeroes.
const MAX_ZEROED: usize = 128 << 10;

/// What is known of the fibers of one name and stack size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackUsage {
    /// The fibers' name.
    pub name: String,
    /// Bytes of stack that each had.
    pub size: usize,
    /// Bytes that the one that used most has used.
    pub used: usize,
    /// How many have ended.
    pub ended: u64,
    /// How many have not, and were looked at where they wait.
    pub alive: u64,
}

/// How deep stacks were used, by name of fiber, those used most first. See
/// [`diagnostics`](crate::diagnostics#stack-sizes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackUsageTable {
    /// One row for each name and size.
    pub rows: Vec<StackUsage>,
    /// Workers that did not answer in time: their fibers that have not ended are not counted.
    pub silent: Vec<usize>,
}

impl StackUsageTable {
    /// The row with this name that used most.
    pub fn get(&self, name: &str) -> Option<&StackUsage> {
        self.rows.iter().find(|row| row.name == name)
    }
}

impl fmt::Display for StackUsageTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>10} {:>10} {:>10} {:>8}  fiber", "used", "of", "ended", "alive")?;
        for row in &self.rows {
            writeln!(
                f,
                "{:>10} {:>10} {:>10} {:>8}  {}",
                row.used, row.size, row.ended, row.alive, row.name
            )?;
        }
        for worker in &self.silent {
            writeln!(f, "worker {worker} did not answer: its fibers that have not ended are missing")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
struct Mark {
    used: usize,
    ended: u64,
    alive: u64,
}

/// Marks by name and class.
#[derive(Default)]
struct Marks(HashMap<(String, u8), Mark>);

impl Marks {
    fn of(&mut self, name: &str, class: u8) -> &mut Mark {
        let is_known = self.0.contains_key(&(name.to_owned(), class));
        let name = if is_known || self.0.len() < MAX_NAMES { name } else { OTHERS };
        self.0.entry((name.to_owned(), class)).or_default()
    }

    fn add(&mut self, fiber: &Header, used: usize) -> &mut Mark {
        let mark = self.of(fiber.name.as_deref().unwrap_or(UNNAMED), fiber.class);
        mark.used = mark.used.max(used);
        mark
    }
}

/// The marks of a runtime's fibers that have ended.
#[derive(Default)]
pub(crate) struct Probe {
    ended: Spin<Marks>,
}

impl Probe {
    /// The fiber has ended: notes how deep it used its stack, and makes the stack ready for the next.
    #[cold]
    pub(crate) fn note_end(&self, fiber: &Header, stack: &FiberStack) {
        let (from, to) = (stack.guard().end, stack.low() + stack.size());
        let used = used_between(from, to);
        self.ended.lock(|marks| marks.add(fiber, used).ended += 1);
        if used > MAX_ZEROED {
            cache::empty(stack);
        } else {
            // SAFETY: the fiber has ended, so nobody uses the stack; the range is its upper end.
            unsafe { std::ptr::write_bytes((to - used) as *mut u8, 0, used) };
        }
    }
}

/// Bytes between the lowest word that is not zero and `to`, of the memory from `from` on.
fn used_between(from: usize, to: usize) -> usize {
    // SAFETY: callers pass the ends of a mapped stack that nobody runs on at the moment. Volatile: it is not for the
    // compiler to know what is there.
    let is_zero = |&address: &usize| unsafe { (address as *const u64).read_volatile() } == 0;
    let lowest = (from..to).step_by(size_of::<u64>()).find(|address| !is_zero(address));
    lowest.map_or(0, |lowest| to - lowest)
}

/// The table of a runtime; empty if it has no probe. Blocks the fiber or the thread for a moment.
pub(crate) fn table(shared: &Shared) -> StackUsageTable {
    let Some(probe) = &shared.probe else { return StackUsageTable::default() };
    let mut silent = Vec::new();
    let mut alive = Marks::default();
    for (index, &port) in shared.ports().iter().enumerate() {
        if port.state() == State::Away {
            silent.push(index);
            continue;
        }
        let (sender, receiver) = oneshot::channel();
        let visit = move |worker: &Worker| visit(worker, 0, Marks::default(), sender);
        port.send(Control::Visit(Box::new(visit)));
        match receiver.recv_until(Instant::now() + PATIENCE) {
            Ok(marks) => {
                for ((name, class), mark) in marks.0 {
                    let sum = alive.of(&name, class);
                    sum.used = sum.used.max(mark.used);
                    sum.alive += mark.alive;
                }
            }
            Err(_) => silent.push(index),
        }
    }
    probe.ended.lock(|marks| {
        for ((name, class), mark) in &marks.0 {
            let sum = alive.of(name, *class);
            sum.used = sum.used.max(mark.used);
            sum.ended += mark.ended;
        }
    });
    let row = |((name, class), mark): ((String, u8), Mark)| StackUsage {
        name,
        size: stack_size(class),
        used: mark.used,
        ended: mark.ended,
        alive: mark.alive,
    };
    let mut rows: Vec<StackUsage> = alive.0.into_iter().map(row).collect();
    rows.sort_by(|one, other| other.used.cmp(&one.used).then_with(|| one.name.cmp(&other.name)));
    StackUsageTable { rows, silent }
}

/// Looks at the stacks of the worker's started fibers, from this place of its table on, a few at a time.
fn visit(worker: &Worker, from: u32, mut marks: Marks, sender: oneshot::Sender<Marks>) {
    let mut left = PIECE;
    let next = worker.for_each_started(from, |fiber| {
        if left == 0 {
            return false;
        }
        left -= 1;
        // One that runs here is blocking its thread while it panics; its stack is in use.
        if matches!(fiber.phase.get(), Phase::Parked | Phase::Ready) {
            let guard = fiber.stack_guard.get();
            let used = used_between(guard.1, guard.1 + stack_size(fiber.class));
            marks.add(fiber, used).alive += 1;
        }
        true
    });
    match next {
        Some(next) => {
            let go_on = move |worker: &Worker| visit(worker, next, marks, sender);
            worker.port().send(Control::Visit(Box::new(go_on)));
        }
        // Nobody waits any more: so be it.
        None => drop(sender.send(marks)),
    }
}
