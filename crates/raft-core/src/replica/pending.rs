//! Who waits for which entry. Entries carry no client's name: a waiter is matched by the (index, term) its command was
//! appended at, and told honestly when something else was committed there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::core::{EntryId, Index, NodeId};

use super::error::ProposeError;
use super::event::ProposalReply;

/// How much is under way. Bounded: what does not fit is refused.
#[derive(Debug)]
pub(super) struct Gauge {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    max_commands: usize,
    max_bytes: usize,
}

/// A place in a [`Gauge`], given back when it is dropped.
pub(super) struct Admission {
    gauge: Arc<Gauge>,
    commands: usize,
    bytes: usize,
}

impl Gauge {
    pub(super) fn new(max_commands: usize, max_bytes: usize) -> Gauge {
        Gauge { commands: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_commands, max_bytes }
    }

    /// Takes a place if there is one. A batch that is too large for an empty gauge is admitted alone.
    pub(super) fn admit(self: &Arc<Gauge>, commands: usize, bytes: usize) -> Option<Admission> {
        // Relaxed: these are counters, nothing is published through them.
        let commands_before = self.commands.fetch_add(commands, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let admission = Admission { gauge: self.clone(), commands, bytes };
        let fits = commands_before + commands <= self.max_commands && bytes_before + bytes <= self.max_bytes;
        (fits || commands_before == 0).then_some(admission)
    }

    pub(super) fn commands(&self) -> usize {
        self.commands.load(Ordering::Relaxed)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.gauge.commands.fetch_sub(self.commands, Ordering::Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A batch of commands that was appended at `first` and the entries after it, and the client that waits for it.
pub(super) struct Expectation<O> {
    pub(super) first: EntryId,
    pub(super) count: u64,
    pub(super) outputs: Vec<O>,
    pub(super) reply: ProposalReply<O>,
    pub(super) admission: Admission,
}

impl<O> Expectation<O> {
    /// The entry it waits for next.
    fn next(&self) -> EntryId {
        EntryId { term: self.first.term, index: self.first.index + self.outputs.len() as u64 }
    }
}

/// A client and what it is to be told.
type Answer<O> = (ProposalReply<O>, Result<Vec<O>, ProposeError>);

/// All batches that wait, on the apply fiber.
///
/// # Invariants
/// `current` is of one term and ascends by index without overlap. `earlier` holds what older leaderships of this node
/// left behind, in no order; it is short, and mostly empty.
pub(super) struct Waiting<O> {
    current: VecDeque<Expectation<O>>,
    earlier: Vec<Expectation<O>>,
    /// Answers that are due once readers can see what was applied.
    due: Vec<Answer<O>>,
}

impl<O> Waiting<O> {
    pub(super) fn new() -> Waiting<O> {
        Waiting { current: VecDeque::new(), earlier: Vec::new(), due: Vec::new() }
    }

    /// Adds a batch that the core has appended.
    pub(super) fn expect(&mut self, expectation: Expectation<O>) {
        if self.current.back().is_some_and(|last| last.first.term != expectation.first.term) {
            self.earlier.extend(self.current.drain(..));
            // Nobody waits for these any more.
            self.earlier.retain(|earlier| !earlier.reply.is_closed());
        }
        self.current.push_back(expectation);
    }

    /// The entry `id` was applied, with this output if it was a command.
    pub(super) fn applied(&mut self, id: EntryId, output: Option<O>, leader: Option<NodeId>) {
        if let Some(front) = self.current.front_mut()
            && front.next().index == id.index
        {
            if front.first.term != id.term {
                // Another leader's entry is committed here. A log that has it cannot have any later entry of our
                // term either: the term's entries are contiguous (log matching, paper §5.3).
                for lost in self.current.drain(..) {
                    self.due.push(lose(lost, leader));
                }
            } else if let Some(output) = output {
                front.outputs.push(output);
                if front.outputs.len() as u64 == front.count {
                    let done = self.current.pop_front().expect("it is the front");
                    self.due.push((done.reply, Ok(done.outputs)));
                    drop(done.admission);
                }
                return;
            }
        }
        if !self.earlier.is_empty() {
            self.applied_earlier(id, output, leader);
        }
    }

    fn applied_earlier(&mut self, id: EntryId, mut output: Option<O>, leader: Option<NodeId>) {
        let mut position = 0;
        while position < self.earlier.len() {
            let expectation = &mut self.earlier[position];
            let is_decided = if expectation.next() == id {
                expectation.outputs.extend(output.take());
                expectation.outputs.len() as u64 == expectation.count
            } else {
                expectation.next().index == id.index
            };
            if !is_decided {
                position += 1;
                continue;
            }
            let decided = self.earlier.swap_remove(position);
            if decided.outputs.len() as u64 == decided.count {
                self.due.push((decided.reply, Ok(decided.outputs)));
            } else {
                self.due.push(lose(decided, leader));
            }
        }
    }

    /// The state was replaced by a snapshot up to `index`: what happened to the batches before is not known here.
    pub(super) fn restored(&mut self, index: Index) {
        let everything = self.earlier.drain(..).chain(self.current.drain(..));
        let (unknown, later): (Vec<_>, Vec<_>) =
            everything.partition(|expectation| expectation.next().index <= index);
        let reason = "a snapshot replaced the log";
        self.due.extend(
            unknown.into_iter().map(|lost| (lost.reply, Err(ProposeError::OutcomeUnknown { reason }))),
        );
        self.earlier = later;
    }

    /// Wakes the clients whose answer is known.
    pub(super) fn answer(&mut self) {
        for (reply, result) in self.due.drain(..) {
            // A client that has given up is no longer there.
            let _ = reply.send(result);
        }
    }
}

/// The answer to a batch whose next entry will never commit.
fn lose<O>(lost: Expectation<O>, leader: Option<NodeId>) -> Answer<O> {
    let error = if lost.outputs.is_empty() {
        ProposeError::NotLeader { leader }
    } else {
        ProposeError::OutcomeUnknown { reason: "a new leader kept only the first commands of the batch" }
    };
    (lost.reply, Err(error))
}

#[cfg(test)]
mod tests;
