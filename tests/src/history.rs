//! Histories of concurrent operations: who asked what when, and what came back.
//!
//! A history is written while clients run ([`Recorder`], from any thread) and read by
//! [`linearizability`](crate::linearizability) afterwards. Time is the order in which the recorder saw the events:
//! an operation is recorded as invoked before its request leaves and as returned after its reply arrived, so the
//! recorded interval contains the true one, which is what the checker needs.
//!
//! How an operation ends decides what it may have done:
//!
//! | end | meaning | in the check |
//! |---|---|---|
//! | [`End::Returned`] | the reply is known | takes effect inside its interval, with this output |
//! | [`End::Failed`] | certainly not executed ("not appended") | left out |
//! | [`End::Unknown`], or none | a timeout, a broken connection | takes effect at any later time, or never |

use std::sync::{Arc, Mutex, MutexGuard};

/// A moment of a history: the position of an event in the order the recorder saw them.
pub type Moment = u64;

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End<O> {
    /// The reply arrived and says this.
    Returned(O),
    /// The operation certainly had no effect and never will.
    Failed,
    /// Nobody knows whether it had, or will have, an effect.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation<I, O> {
    /// The client. A client has one operation at a time, except for those it gave up on.
    pub client: u64,
    /// What was asked.
    pub input: I,
    /// When.
    pub invoked: Moment,
    /// How and when it ended; `None` while it runs, which counts as [`End::Unknown`].
    pub end: Option<(Moment, End<O>)>,
}

/// A growing list of operations.
#[derive(Clone, Debug)]
pub struct History<I, O> {
    operations: Vec<Operation<I, O>>,
    clock: Moment,
}

impl<I, O> Default for History<I, O> {
    fn default() -> Self {
        History { operations: Vec::new(), clock: 0 }
    }
}

/// Names an operation of a history until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an operation that is never ended counts as unknown"]
pub struct OperationId(usize);

impl<I, O> History<I, O> {
    /// An empty history.
    pub fn new() -> History<I, O> {
        History::default()
    }

    /// Records that `client` is about to ask for `input`.
    pub fn invoke(&mut self, client: u64, input: I) -> OperationId {
        self.clock += 1;
        self.operations.push(Operation { client, input, invoked: self.clock, end: None });
        OperationId(self.operations.len() - 1)
    }

    /// Records how the operation ended.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn end(&mut self, id: OperationId, end: End<O>) {
        self.clock += 1;
        let operation = &mut self.operations[id.0];
        assert!(operation.end.is_none(), "operation {} of client {} ended twice", id.0, operation.client);
        operation.end = Some((self.clock, end));
    }

    /// The operations in the order of their invocation.
    pub fn operations(&self) -> &[Operation<I, O>] {
        &self.operations
    }

    /// How many operations were recorded.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many operations returned, failed, and stayed unknown.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for operation in &self.operations {
            match &operation.end {
                Some((_, End::Returned(_))) => tally.returned += 1,
                Some((_, End::Failed)) => tally.failed += 1,
                Some((_, End::Unknown)) | None => tally.unknown += 1,
            }
        }
        tally
    }
}

/// Counts of the ends in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations with a reply.
    pub returned: usize,
    /// Operations that certainly did nothing.
    pub failed: usize,
    /// Operations whose effect nobody knows.
    pub unknown: usize,
}

/// A history that many threads write to.
#[derive(Debug)]
pub struct Recorder<I, O> {
    history: Arc<Mutex<History<I, O>>>,
}

impl<I, O> Clone for Recorder<I, O> {
    fn clone(&self) -> Self {
        Recorder { history: Arc::clone(&self.history) }
    }
}

impl<I, O> Default for Recorder<I, O> {
    fn default() -> Self {
        Recorder { history: Arc::new(Mutex::new(History::new())) }
    }
}

impl<I, O> Recorder<I, O> {
    /// A recorder of an empty history.
    pub fn new() -> Recorder<I, O> {
        Recorder::default()
    }

    /// Runs `operation` as `client` asking for `input`, and records both ends of it.
    pub fn run(&self, client: u64, input: I, operation: impl FnOnce() -> End<O>) {
        let id = self.lock().invoke(client, input);
        let end = operation();
        self.lock().end(id, end);
    }

    /// How many operations were recorded so far.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What was recorded so far.
    pub fn snapshot(&self) -> History<I, O>
    where
        I: Clone,
        O: Clone,
    {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History<I, O>> {
        self.history.lock().expect("no client panics while it holds the history")
    }
}
