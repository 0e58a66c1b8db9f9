//! Decides whether a history is linearizable: whether every operation can be given one instant inside its interval
//! so that the operations, in that order, are a run of a sequential model.
//!
//! The search is Wing and Gong's with Lowe's cache (Wing, Gong: "Testing and verifying concurrent objects", 1993;
//! Lowe: "Testing for linearizability", 2017), which is also what Knossos and porcupine do:
//!
//! ```text
//! events of one key, a doubly linked list in time order      "lift" takes the call and the return of an
//!                                                            operation out of the list, "unlift" puts them back
//!   [call a] <-> [call b] <-> [return b] <-> [return a]
//!      ^
//!      walk: a call      -> linearize it next, if the model allows it from the current state and the pair
//!                           (set of linearized operations, state) was not seen before; start over at the front
//!            a return    -> its operation had to be linearized before this point and was not: undo the last choice
//!            the end     -> nothing that returned is left: linearizable
//! ```
//!
//! Keys are independent objects, and a history is linearizable if and only if its restriction to each object is
//! (Herlihy and Wing), so each key is checked by itself. An operation whose end is unknown has a call and no return:
//! it may be linearized anywhere after its call, and does not have to be.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display, Write as _};
use std::hash::Hash;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use crate::history::{End, History, Operation};

/// A sequential specification of one object.
pub trait Model {
    /// What is asked.
    type Input: Clone + Debug;
    /// What is answered.
    type Output: Clone + Debug;
    /// State of one object.
    type State: Clone + Eq + Hash + Debug;
    /// Names the object an operation is about.
    type Key: Ord + Clone + Display;

    /// The object `input` is about.
    fn key(input: &Self::Input) -> Self::Key;

    /// The state before the first operation.
    fn initial() -> Self::State;

    /// The state after `input` was executed in `state` and answered `output`, or `None` if that answer is impossible
    /// there. Without an output every answer is possible.
    fn step(state: &Self::State, input: &Self::Input, output: Option<&Self::Output>) -> Option<Self::State>;

    /// Whether `input` leaves every state as it is, so that nothing is learnt from one without an answer.
    fn is_read(input: &Self::Input) -> bool;
}

/// How much one check may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Wall-clock time for the whole history.
    pub time: Duration,
    /// Entries of the cache of one key: bounds the memory.
    pub cached_states: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { time: Duration::from_secs(30), cached_states: 4_000_000 }
    }
}

/// The answer of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a linearization.
    Linearizable,
    /// There is none; the report names the key and shows where every attempt ended.
    NotLinearizable(String),
    /// A limit was reached first. Says which; proves nothing.
    Unknown(String),
}

impl Verdict {
    /// Panics with the report unless the history is linearizable.
    ///
    /// # Panics
    /// If it is not, or if a limit was reached.
    #[track_caller]
    pub fn assert_linearizable(&self) {
        match self {
            Verdict::Linearizable => {}
            Verdict::NotLinearizable(report) => panic!("the history is not linearizable\n{report}"),
            Verdict::Unknown(limit) => panic!("the check was not finished: {limit}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => f.write_str("linearizable"),
            Verdict::NotLinearizable(report) => write!(f, "not linearizable\n{report}"),
            Verdict::Unknown(limit) => write!(f, "unknown: {limit}"),
        }
    }
}

/// Checks `history` against the model `M`, key by key.
pub fn check<M: Model>(history: &History<M::Input, M::Output>, limits: Limits) -> Verdict {
    let deadline = Instant::now() + limits.time;
    let mut keys: BTreeMap<M::Key, Vec<&Recorded<M>>> = BTreeMap::new();
    for operation in history.operations() {
        let answered = matches!(operation.end, Some((_, End::Returned(_))));
        let failed = matches!(operation.end, Some((_, End::Failed)));
        if failed || (!answered && M::is_read(&operation.input)) {
            continue;
        }
        keys.entry(M::key(&operation.input)).or_default().push(operation);
    }
    let mut unknown = None;
    for (key, operations) in keys {
        match Search::<M>::new(operations).run(deadline, limits) {
            Found::Linearization => {}
            Found::None(report) => return Verdict::NotLinearizable(format!("key {key}\n{report}")),
            Found::Limit(limit) => unknown = unknown.or(Some(format!("key {key}: {limit}"))),
        }
    }
    unknown.map_or(Verdict::Linearizable, Verdict::Unknown)
}

/// An operation in the words of the model.
type Recorded<M> = Operation<<M as Model>::Input, <M as Model>::Output>;

enum Found {
    Linearization,
    None(String),
    Limit(String),
}

/// Index into [`Search::nodes`].
type NodeId = usize;

/// The list's sentinel: before the first and after the last event.
const SENTINEL: NodeId = 0;

#[derive(Clone, Copy)]
enum Kind {
    Sentinel,
    Call { operation: usize },
    Return,
}

/// One event in the list.
struct Node {
    kind: Kind,
    previous: NodeId,
    next: NodeId,
}

/// The depth-first search over the orders of one key's operations.
struct Search<'h, M: Model> {
    operations: Vec<&'h Recorded<M>>,
    nodes: Vec<Node>,
    /// Per operation, its call and, if it returned, its return.
    events: Vec<(NodeId, Option<NodeId>)>,
    linearized: Bitset,
    /// Returns still in the list.
    open_returns: usize,
    seen: FxHashSet<(Bitset, M::State)>,
    /// The choices made, with the state before each.
    choices: Vec<(usize, M::State)>,
    /// The longest sequence of choices so far, for the report.
    longest: Vec<usize>,
}

impl<'h, M: Model> Search<'h, M> {
    fn new(operations: Vec<&'h Recorded<M>>) -> Self {
        let mut moments: Vec<(u64, usize, bool)> = Vec::with_capacity(operations.len() * 2);
        for (number, operation) in operations.iter().enumerate() {
            moments.push((operation.invoked, number, false));
            if let Some((returned, End::Returned(_))) = &operation.end {
                moments.push((*returned, number, true));
            }
        }
        moments.sort_unstable();
        let mut nodes = vec![Node { kind: Kind::Sentinel, previous: SENTINEL, next: SENTINEL }];
        let mut events = vec![(SENTINEL, None); operations.len()];
        let mut open_returns = 0;
        for (_, number, is_return) in moments {
            let id = nodes.len();
            let kind = if is_return { Kind::Return } else { Kind::Call { operation: number } };
            nodes.push(Node { kind, previous: id - 1, next: SENTINEL });
            nodes[id - 1].next = id;
            nodes[SENTINEL].previous = id;
            if is_return {
                events[number].1 = Some(id);
                open_returns += 1;
            } else {
                events[number].0 = id;
            }
        }
        Search {
            linearized: Bitset::new(operations.len()),
            operations,
            nodes,
            events,
            open_returns,
            seen: FxHashSet::default(),
            choices: Vec::new(),
            longest: Vec::new(),
        }
    }

    fn run(mut self, deadline: Instant, limits: Limits) -> Found {
        let mut state = M::initial();
        let mut at = self.nodes[SENTINEL].next;
        let mut steps = 0u64;
        while self.open_returns > 0 {
            steps += 1;
            if steps.is_multiple_of(4096) && Instant::now() >= deadline {
                return Found::Limit(format!("no time left after {steps} steps, limit {:?}", limits.time));
            }
            if self.seen.len() >= limits.cached_states {
                return Found::Limit(format!("{} cached states", limits.cached_states));
            }
            match self.nodes[at].kind {
                Kind::Call { operation } => match self.choose(operation, &state) {
                    Some(after) => {
                        self.choices.push((operation, state));
                        self.lift(operation);
                        if self.choices.len() > self.longest.len() {
                            self.longest = self.choices.iter().map(|(number, _)| *number).collect();
                        }
                        state = after;
                        at = self.nodes[SENTINEL].next;
                    }
                    None => at = self.nodes[at].next,
                },
                Kind::Return => {
                    let Some((operation, before)) = self.choices.pop() else {
                        return Found::None(self.report());
                    };
                    self.unlift(operation);
                    state = before;
                    at = self.nodes[self.events[operation].0].next;
                }
                Kind::Sentinel => {
                    unreachable!(
                        "{} returns are open, so the walk meets one before the end",
                        self.open_returns
                    )
                }
            }
        }
        Found::Linearization
    }

    /// The state after linearizing `operation` now, if the model allows it and this leads anywhere new.
    fn choose(&mut self, operation: usize, state: &M::State) -> Option<M::State> {
        let recorded = self.operations[operation];
        let output = match &recorded.end {
            Some((_, End::Returned(output))) => Some(output),
            _ => None,
        };
        let after = M::step(state, &recorded.input, output)?;
        if output.is_none() && after == *state {
            return None; // Without an answer and without an effect there is nothing to explain.
        }
        let mut linearized = self.linearized.clone();
        linearized.insert(operation);
        self.seen.insert((linearized, after.clone())).then_some(after)
    }

    fn lift(&mut self, operation: usize) {
        self.linearized.insert(operation);
        let (call, returned) = self.events[operation];
        self.unlink(call);
        if let Some(returned) = returned {
            self.unlink(returned);
            self.open_returns -= 1;
        }
    }

    /// Undoes [`Search::lift`]; only in the reverse order of the lifts, so that the neighbours are those of then.
    fn unlift(&mut self, operation: usize) {
        let (call, returned) = self.events[operation];
        if let Some(returned) = returned {
            self.relink(returned);
            self.open_returns += 1;
        }
        self.relink(call);
        self.linearized.remove(operation);
    }

    fn unlink(&mut self, id: NodeId) {
        let Node { previous, next, .. } = self.nodes[id];
        self.nodes[previous].next = next;
        self.nodes[next].previous = previous;
    }

    fn relink(&mut self, id: NodeId) {
        let Node { previous, next, .. } = self.nodes[id];
        self.nodes[previous].next = id;
        self.nodes[next].previous = id;
    }

    /// Shows the end of the longest partial linearization and the operations that could not follow it.
    fn report(&self) -> String {
        const SHOWN: usize = 12;
        let mut text = String::new();
        let mut state = M::initial();
        for (place, number) in self.longest.iter().enumerate() {
            let operation = self.operations[*number];
            let output = match &operation.end {
                Some((_, End::Returned(output))) => Some(output),
                _ => None,
            };
            state = M::step(&state, &operation.input, output)
                .expect("the search accepted this sequence of choices before");
            if place + SHOWN >= self.longest.len() {
                let _ = writeln!(text, "  {place:>5}. {} => {state:?}", show(operation));
            }
        }
        let _ = writeln!(
            text,
            "  longest linearizable part: {} of {} operations; state there {state:?}; none of these can follow:",
            self.longest.len(),
            self.operations.len()
        );
        let mut chosen = Bitset::new(self.operations.len());
        self.longest.iter().for_each(|number| chosen.insert(*number));
        let left = self.operations.iter().enumerate().filter(|(number, _)| !chosen.contains(*number));
        for (_, operation) in left.take(SHOWN) {
            let _ = writeln!(text, "         {}", show(operation));
        }
        text
    }
}

fn show<I: Debug, O: Debug>(operation: &Operation<I, O>) -> String {
    let end = match &operation.end {
        Some((at, End::Returned(output))) => format!("{at}] -> {output:?}"),
        _ => "..] -> unknown".to_owned(),
    };
    format!("client {} {:?} [{}, {end}", operation.client, operation.input, operation.invoked)
}

/// A set of small numbers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Bitset(Box<[u64]>);

impl Bitset {
    fn new(capacity: usize) -> Bitset {
        Bitset(vec![0; capacity.div_ceil(64)].into_boxed_slice())
    }

    fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }

    fn contains(&self, number: usize) -> bool {
        self.0[number / 64] & (1 << (number % 64)) != 0
    }
}
