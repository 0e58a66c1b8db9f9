//! The sequential objects histories are checked against: one key of the store, and Jepsen's compare-and-set register.

use crate::linearizability::Model;

/// A key or a value, as text where it is text.
pub type Text = String;

/// An operation on one key of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvInput {
    /// The key.
    pub key: Text,
    /// What to do with it.
    pub action: KvAction,
}

/// What is done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvAction {
    /// Read it.
    Get,
    /// Set it.
    Put(Text),
    /// Add to its end; a missing key counts as empty.
    Append(Text),
    /// Remove it.
    Delete,
    /// Set it if it holds `expected`; `None` means "is missing".
    CompareAndSwap {
        /// What it must hold.
        expected: Option<Text>,
        /// What it holds afterwards.
        value: Text,
    },
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvOutput {
    /// The value, to [`KvAction::Get`].
    Value(Option<Text>),
    /// Done, to the writes. Some protocols say no more than this.
    Done,
    /// The length afterwards, to [`KvAction::Append`].
    Length(usize),
    /// Whether there was something to remove, to [`KvAction::Delete`].
    Removed(bool),
    /// Whether it was set, to [`KvAction::CompareAndSwap`].
    Swapped(bool),
}

/// One key of a key-value store: `None` is a missing key.
#[derive(Debug)]
pub struct Kv;

impl Model for Kv {
    type Input = KvInput;
    type Output = KvOutput;
    type State = Option<Text>;
    type Key = Text;

    fn key(input: &KvInput) -> Text {
        input.key.clone()
    }

    fn initial() -> Option<Text> {
        None
    }

    fn step(state: &Option<Text>, input: &KvInput, output: Option<&KvOutput>) -> Option<Option<Text>> {
        let (after, answer) = match &input.action {
            KvAction::Get => (state.clone(), KvOutput::Value(state.clone())),
            KvAction::Put(value) => (Some(value.clone()), KvOutput::Done),
            KvAction::Append(value) => {
                let whole = state.as_deref().unwrap_or("").to_owned() + value;
                let length = whole.len();
                (Some(whole), KvOutput::Length(length))
            }
            KvAction::Delete => (None, KvOutput::Removed(state.is_some())),
            KvAction::CompareAndSwap { expected, value } => {
                let swap = state == expected;
                (if swap { Some(value.clone()) } else { state.clone() }, KvOutput::Swapped(swap))
            }
        };
        let possible = match output {
            None => true,
            Some(KvOutput::Done) => !matches!(answer, KvOutput::Value(_) | KvOutput::Swapped(_)),
            Some(output) => *output == answer,
        };
        possible.then_some(after)
    }

    fn is_read(input: &KvInput) -> bool {
        input.action == KvAction::Get
    }
}

/// An operation on Jepsen's register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterInput {
    /// Read it.
    Read,
    /// Set it.
    Write(i64),
    /// Set it to the second if it holds the first.
    CompareAndSet(i64, i64),
}

/// What the register answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterOutput {
    /// The value, to [`RegisterInput::Read`]; `None` before the first write.
    Value(Option<i64>),
    /// Written.
    Written,
    /// Whether the comparison held, to [`RegisterInput::CompareAndSet`].
    Set(bool),
}

/// One register; a history has only one.
#[derive(Debug)]
pub struct Register;

impl Model for Register {
    type Input = RegisterInput;
    type Output = RegisterOutput;
    type State = Option<i64>;
    type Key = &'static str;

    fn key(_: &RegisterInput) -> &'static str {
        "register"
    }

    fn initial() -> Option<i64> {
        None
    }

    fn step(
        state: &Option<i64>,
        input: &RegisterInput,
        output: Option<&RegisterOutput>,
    ) -> Option<Option<i64>> {
        let (after, answer) = match input {
            RegisterInput::Read => (*state, RegisterOutput::Value(*state)),
            RegisterInput::Write(value) => (Some(*value), RegisterOutput::Written),
            RegisterInput::CompareAndSet(from, to) => {
                let holds = *state == Some(*from);
                (if holds { Some(*to) } else { *state }, RegisterOutput::Set(holds))
            }
        };
        output.is_none_or(|output| *output == answer).then_some(after)
    }

    fn is_read(input: &RegisterInput) -> bool {
        *input == RegisterInput::Read
    }
}
