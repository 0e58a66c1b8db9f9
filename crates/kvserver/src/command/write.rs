//! Writes: the commands of the log, what they give, and how a retried one is recognised.

use bytes::Bytes;

use super::codec::{DecodeError, Reader, VERSION};

/// Longest key, in bytes. Part of the state machine: equal on every node of a cluster.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// Longest value, in bytes, whatever the configuration allows; an append that would exceed it fails. Part of the
/// state machine: equal on every node of a cluster.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

/// Most keys or pairs in one command. Part of the state machine: equal on every node of a cluster.
pub const MAX_KEYS_PER_COMMAND: usize = 64 << 10;

/// A change of the store. Each is atomic and deterministic: its outcome depends on the state and on nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key. Gives [`Outcome::Done`].
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Adds to the end of a key's value; a missing key counts as empty. Gives [`Outcome::Length`].
    Append {
        /// The key.
        key: Bytes,
        /// What is added.
        value: Bytes,
    },
    /// Removes keys. Gives [`Outcome::Count`]: how many were there.
    Delete {
        /// The keys; one that is named twice counts once.
        keys: Vec<Bytes>,
    },
    /// Sets a key if its value is the expected one. Gives [`Outcome::Swapped`].
    CompareAndSwap {
        /// The key.
        key: Bytes,
        /// The value it must have; `None` means that it must not exist.
        expected: Option<Bytes>,
        /// Its new value.
        value: Bytes,
    },
    /// Sets a key under a condition, and optionally tells the previous value. Gives [`Outcome::Stored`].
    PutIf {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When to set it.
        condition: Condition,
        /// Whether the outcome carries the previous value.
        return_old: bool,
    },
    /// Adds to a key's value, a decimal 64-bit integer; a missing key counts as 0. Gives [`Outcome::Integer`].
    Increment {
        /// The key.
        key: Bytes,
        /// What is added; negative to subtract.
        delta: i64,
    },
    /// Sets several keys at once: all of them or, when the condition fails for one of them, none.
    /// Gives [`Outcome::Stored`] without a previous value.
    PutMany {
        /// Keys and values; of a key that is named twice the last value stays.
        pairs: Vec<(Bytes, Bytes)>,
        /// What must hold for every key.
        condition: Condition,
    },
    /// Removes a key and tells its value. Gives [`Outcome::Stored`], with `stored` saying whether it was there.
    Take {
        /// The key.
        key: Bytes,
    },
    /// Registers the session of the command. Its sequence is 0. Registering twice is harmless and keeps the
    /// session as it is. Gives [`Outcome::Done`].
    OpenSession,
}

/// When a conditional put happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// Only if the key does not exist.
    IfAbsent,
    /// Only if the key exists.
    IfPresent,
}

/// Says which client sent a command and which of its commands it is, so that one that is sent again is not applied
/// again (thesis §6.3).
///
/// A client opens a session once ([`Write::OpenSession`]) and then numbers its writes 1, 2, 3, ..., with one in
/// flight at a time. The state machine remembers the last number and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Chosen at random by the client.
    pub client_id: u128,
    /// Number of the write within the session.
    pub sequence: u64,
}

/// One command of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Set by clients that want exactly-once. Without it a command that is sent twice is applied twice.
    pub session: Option<Session>,
    /// The change.
    pub write: Write,
}

impl From<Write> for Command {
    /// A command without a session.
    fn from(write: Write) -> Command {
        Command { session: None, write }
    }
}

impl Command {
    /// The binary form, as it stands in the log: version byte, session, change.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.write.payload_bytes() + 48);
        out.push(VERSION);
        self.put(&mut out);
        Bytes::from(out)
    }

    /// Reads the binary form; keys and values share `bytes`' memory.
    ///
    /// # Errors
    /// The first thing that is not as [`Command::encode`] would have written it.
    pub fn decode(bytes: Bytes) -> Result<Command, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let command = Command::take(&mut reader)?;
        reader.finish()?;
        Ok(command)
    }
}

impl Write {
    /// Sum of the lengths of keys and values: what the command weighs in queues and in the log.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Write::Put { key, value } | Write::Append { key, value } | Write::PutIf { key, value, .. } => {
                key.len() + value.len()
            }
            Write::Delete { keys } => keys.iter().map(|key| key.len() + 3).sum(),
            Write::CompareAndSwap { key, expected, value } => {
                key.len() + value.len() + expected.as_ref().map_or(0, Bytes::len)
            }
            Write::Increment { key, .. } | Write::Take { key } => key.len(),
            Write::PutMany { pairs, .. } => {
                pairs.iter().map(|(key, value)| key.len() + value.len() + 8).sum()
            }
            Write::OpenSession => 0,
        }
    }

    /// Checks the command against what this node is configured to take in.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check(&self, limits: &Limits) -> Result<(), CommandError> {
        let key = |key: &Bytes| limits.check_key(key);
        let value = |value: &Bytes| limits.check_value(value);
        match self {
            Write::Put { key: k, value: v }
            | Write::Append { key: k, value: v }
            | Write::PutIf { key: k, value: v, .. } => {
                key(k)?;
                value(v)?;
            }
            Write::Delete { keys } => {
                limits.check_count(keys.len())?;
                keys.iter().try_for_each(key)?;
            }
            Write::CompareAndSwap { key: k, expected, value: v } => {
                key(k)?;
                value(v)?;
                expected.iter().try_for_each(value)?;
            }
            Write::Increment { key: k, .. } | Write::Take { key: k } => key(k)?,
            Write::PutMany { pairs, .. } => {
                limits.check_count(pairs.len())?;
                for (k, v) in pairs {
                    key(k)?;
                    value(v)?;
                }
            }
            Write::OpenSession => {}
        }
        if self.payload_bytes() > limits.command_bytes {
            return Err(CommandError::CommandTooLarge);
        }
        Ok(())
    }
}

/// What one node takes in from its clients. The state machine's own bounds ([`MAX_KEY_BYTES`] and the others) hold
/// in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest key, in bytes.
    pub key_bytes: usize,
    /// Longest value, in bytes.
    pub value_bytes: usize,
    /// Most keys or pairs in one command.
    pub keys: usize,
    /// Largest sum of keys and values of one command, in bytes.
    pub command_bytes: usize,
}

impl Default for Limits {
    /// 64 KiB keys, 8 MiB values, 65,536 keys and 16 MiB in one command.
    fn default() -> Limits {
        Limits {
            key_bytes: MAX_KEY_BYTES,
            value_bytes: 8 << 20,
            keys: MAX_KEYS_PER_COMMAND,
            command_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// Checks one key.
    ///
    /// # Errors
    /// [`CommandError::KeyTooLarge`].
    pub fn check_key(&self, key: &Bytes) -> Result<(), CommandError> {
        if key.len() > self.key_bytes { Err(CommandError::KeyTooLarge) } else { Ok(()) }
    }

    /// Checks one value.
    ///
    /// # Errors
    /// [`CommandError::ValueTooLarge`].
    pub fn check_value(&self, value: &Bytes) -> Result<(), CommandError> {
        if value.len() > self.value_bytes { Err(CommandError::ValueTooLarge) } else { Ok(()) }
    }

    /// Checks how many keys a command names.
    ///
    /// # Errors
    /// [`CommandError::TooManyKeys`].
    pub fn check_count(&self, count: usize) -> Result<(), CommandError> {
        if count > self.keys { Err(CommandError::TooManyKeys) } else { Ok(()) }
    }
}

/// What a write gave. It is decided when the entry is applied, the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the store's revision after it.
    Done {
        /// Revisions count the changes of the store, from 1.
        revision: u64,
    },
    /// The length of the value after an append, in bytes.
    Length(u64),
    /// How many keys were removed.
    Count(u64),
    /// The value after an increment.
    Integer(i64),
    /// Whether a compare-and-swap took place.
    Swapped {
        /// Whether the value was the expected one and is now the new one.
        swapped: bool,
        /// If it was not: the value there is.
        current: Option<Bytes>,
    },
    /// Whether a conditional put, a put of many or a take took place.
    Stored {
        /// Whether it did.
        stored: bool,
        /// The value before, if it was asked for and there was one.
        previous: Option<Bytes>,
    },
    /// Nothing was changed, for this reason.
    Failed(CommandError),
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The value is not a decimal 64-bit integer.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The sum does not fit 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// A key is longer than allowed.
    #[error("key exceeds the maximum allowed size")]
    KeyTooLarge,
    /// A value is, or would become, longer than allowed.
    #[error("value exceeds the maximum allowed size")]
    ValueTooLarge,
    /// The command names more keys than allowed.
    #[error("command names too many keys")]
    TooManyKeys,
    /// The command as a whole is larger than allowed.
    #[error("command exceeds the maximum allowed size")]
    CommandTooLarge,
    /// The session was never opened, or was evicted because too many others were used since. This command was not
    /// applied by this attempt; whether an earlier attempt was cannot be told any more.
    #[error("session is unknown or was evicted")]
    UnknownSession,
    /// The session has gone on to a later command. Whether this one was applied cannot be told any more.
    #[error("sequence is older than the session's last command")]
    StaleSequence,
    /// The entry is not a command of this version.
    #[error("command cannot be decoded")]
    Malformed,
}
