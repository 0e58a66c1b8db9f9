//! The writer: applies commands in log order, keeps the counts and the hash, and removes what is superseded.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raft_core::core::{EntryId, Index};
use raft_core::replica::{FrozenState, StateMachine};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::contents::{Contents, Datum, Pin, Store, Summary};
use super::sessions::{Admission, SessionTable};
use super::snapshot::{Frozen, SnapshotError, SnapshotReader};
use crate::command::write::{MAX_KEY_BYTES, MAX_KEYS_PER_COMMAND, MAX_VALUE_BYTES};
use crate::command::{Command, CommandError, Condition, Limits, Outcome, Write};

/// Versions removed per published batch beyond four for each one the batch superseded: the queue shrinks faster than
/// it grows, and no batch pays for a long pin all at once.
const COMPACTION_STEP: usize = 256;

/// The bounds every replica shares, see [`MAX_KEY_BYTES`].
const BOUNDS: Limits = Limits {
    key_bytes: MAX_KEY_BYTES,
    value_bytes: MAX_VALUE_BYTES,
    keys: MAX_KEYS_PER_COMMAND,
    command_bytes: usize::MAX,
};

/// A version that can be removed once the horizon has reached `superseded_at`.
#[derive(Debug)]
struct Garbage {
    superseded_at: u64,
    version: Version,
}

#[derive(Debug)]
enum Version {
    Datum(Bytes, u64),
    Session(u128, u64),
}

/// The key-value state machine. Owns the state; readers share it through [`KvMachine::store`].
///
/// # Invariants
/// - Its state depends on the applied entries and on nothing else.
/// - At most one version of a key is neither superseded nor queued as garbage.
#[derive(Debug)]
pub struct KvMachine {
    store: Store,
    contents: Arc<Contents>,
    sessions: SessionTable,
    garbage: VecDeque<Garbage>,
    /// Versions superseded since the last compaction step.
    fresh_garbage: usize,
    index: u64,
    revision: u64,
    keys: u64,
    live_bytes: u64,
    data_hash: u64,
}

impl Default for KvMachine {
    fn default() -> KvMachine {
        KvMachine::new()
    }
}

impl KvMachine {
    /// An empty state.
    pub fn new() -> KvMachine {
        let contents = Arc::new(Contents::new());
        KvMachine {
            store: Store::new(Arc::clone(&contents)),
            contents,
            sessions: SessionTable::default(),
            garbage: VecDeque::new(),
            fresh_garbage: 0,
            index: 0,
            revision: 0,
            keys: 0,
            live_bytes: 0,
            data_hash: 0,
        }
    }

    /// The read side. Stays valid across restores.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Applies the command of entry `index`. Readers see it after [`KvMachine::publish`].
    ///
    /// # Panics
    /// If `index` is not above every one before it.
    pub fn apply_command(&mut self, index: u64, command: Bytes) -> Outcome {
        assert!(index > self.index, "entry {index} comes after entry {} was applied", self.index);
        self.index = index;
        let Ok(Command { session, write }) = Command::decode(command) else {
            return Outcome::Failed(CommandError::Malformed);
        };
        let Some(session) = session else {
            return self.change(index, write);
        };
        match self.sessions.admit(&self.contents, session, &write) {
            Admission::Answered(outcome) => outcome,
            Admission::New => {
                let outcome = self.change(index, write);
                let (garbage, fresh) = (&mut self.garbage, &mut self.fresh_garbage);
                self.sessions.remember(&self.contents, session, index, outcome.clone(), &mut |old| {
                    let version = Version::Session(old.client_id, old.revision);
                    garbage.push_back(Garbage { superseded_at: index, version });
                    *fresh += 1;
                });
                outcome
            }
        }
    }

    /// Shows readers everything applied so far; `index` is the last entry of the batch, whatever its kind. Then
    /// removes some of the versions that nobody can see any more.
    pub fn publish(&mut self, index: u64) {
        self.index = self.index.max(index);
        self.contents.publish(self.summary());
        let horizon = self.contents.advance_horizon();
        let budget = COMPACTION_STEP + 4 * std::mem::take(&mut self.fresh_garbage);
        for _ in 0..budget {
            match self.garbage.front() {
                Some(oldest) if oldest.superseded_at <= horizon => {}
                _ => break,
            }
            match self.garbage.pop_front().map(|garbage| garbage.version) {
                Some(Version::Datum(key, revision)) => self.contents.data.remove(key, revision),
                Some(Version::Session(client_id, revision)) => {
                    self.contents.sessions.remove(client_id, revision);
                }
                None => break,
            }
        }
    }

    /// The counts after the last applied entry.
    pub fn summary(&self) -> Summary {
        Summary {
            applied_index: self.index,
            revision: self.revision,
            keys: self.keys,
            live_bytes: self.live_bytes,
            sessions: self.sessions.len() as u64,
            state_hash: self.data_hash.wrapping_add(self.sessions.hash()),
            versions: (self.contents.data.len() + self.contents.sessions.len()) as u64,
        }
    }

    /// The state as it is now, in constant time; it can be written out while entries are applied.
    pub fn frozen(&self) -> Frozen {
        Frozen::new(Pin::at(&self.contents, self.index), self.summary())
    }

    /// Replaces the state by what [`Frozen::write`] wrote. Readers see the old state or the new one.
    ///
    /// # Errors
    /// The snapshot cannot be read or is damaged. The state is then what it was.
    pub fn restore_from(&mut self, source: &mut dyn std::io::Read) -> Result<(), SnapshotError> {
        let mut reader = SnapshotReader::open(source)?;
        let mut fresh = KvMachine::new();
        fresh.index = reader.header().applied_index;
        fresh.revision = reader.header().revision;
        while let Some(block) = reader.next_block()? {
            for (key, revision, value) in block.data {
                fresh.insert(key, revision, value);
            }
            for (client_id, record) in block.sessions {
                if !fresh.sessions.restore(client_id, &record) {
                    return Err(reader.damaged(format!("entry {} used two sessions", record.used)));
                }
                fresh.contents.sessions.insert(client_id, record.used, Some(record));
            }
        }
        reader.verify(fresh.summary())?;
        fresh.contents.publish(fresh.summary());
        self.store.replace(Arc::clone(&fresh.contents));
        fresh.store = self.store.clone();
        *self = fresh;
        Ok(())
    }

    fn change(&mut self, index: u64, write: Write) -> Outcome {
        if let Err(error) = write.check(&BOUNDS) {
            return Outcome::Failed(error);
        }
        match write {
            Write::Put { key, value } => {
                self.set(index, &key, own(&value));
                Outcome::Done { revision: index }
            }
            Write::Append { key, value } => self.append(index, &key, &value),
            Write::Delete { keys } => {
                Outcome::Count(keys.iter().filter(|key| self.unset(index, key).is_some()).count() as u64)
            }
            Write::CompareAndSwap { key, expected, value } => {
                let current = self.get(&key);
                if current != expected {
                    return Outcome::Swapped { swapped: false, current };
                }
                self.set(index, &key, own(&value));
                Outcome::Swapped { swapped: true, current: None }
            }
            Write::PutIf { key, value, condition, return_old } => {
                let current = self.get(&key);
                let stored = condition.holds(current.is_some());
                if stored {
                    self.set(index, &key, own(&value));
                }
                Outcome::Stored { stored, previous: current.filter(|_| return_old) }
            }
            Write::Increment { key, delta } => self.increment(index, &key, delta),
            Write::PutMany { pairs, condition } => {
                let stored = condition == Condition::Always
                    || pairs.iter().all(|(key, _)| condition.holds(self.get(key).is_some()));
                if stored {
                    for (key, value) in last_of_each(&pairs) {
                        self.set(index, key, own(value));
                    }
                }
                Outcome::Stored { stored, previous: None }
            }
            Write::Take { key } => {
                let previous = self.unset(index, &key);
                Outcome::Stored { stored: previous.is_some(), previous }
            }
            Write::OpenSession => Outcome::Done { revision: index },
        }
    }

    fn append(&mut self, index: u64, key: &Bytes, suffix: &Bytes) -> Outcome {
        let current = self.get(key).unwrap_or_default();
        let length = current.len() + suffix.len();
        if length > MAX_VALUE_BYTES {
            return Outcome::Failed(CommandError::ValueTooLarge);
        }
        let mut value = BytesMut::with_capacity(length);
        value.extend_from_slice(&current);
        value.extend_from_slice(suffix);
        self.set(index, key, value.freeze());
        Outcome::Length(length as u64)
    }

    fn increment(&mut self, index: u64, key: &Bytes, delta: i64) -> Outcome {
        let Some(current) = self.get(key).map_or(Some(0), |value| parse_integer(&value)) else {
            return Outcome::Failed(CommandError::NotAnInteger);
        };
        let Some(sum) = current.checked_add(delta) else {
            return Outcome::Failed(CommandError::Overflow);
        };
        self.set(index, key, Bytes::from(sum.to_string()));
        Outcome::Integer(sum)
    }

    /// The value after the last applied entry, published or not.
    fn get(&self, key: &Bytes) -> Option<Bytes> {
        self.contents.data.get(key, u64::MAX).map(|datum| datum.value)
    }

    /// Sets a key. An entry sets a key at most once.
    fn set(&mut self, index: u64, key: &Bytes, value: Bytes) {
        let key = own(key);
        if let Some((revision, Some(old))) = self.insert(key.clone(), index, value) {
            assert!(revision < index, "entry {index} found its key at revision {revision}");
            self.discount(&key, &old);
            self.collect(index, Version::Datum(key, revision));
        }
        self.revision = index;
    }

    /// Removes a key and gives its value, if it was there.
    fn unset(&mut self, index: u64, key: &Bytes) -> Option<Bytes> {
        let (revision, old) = self.contents.data.newest(key, u64::MAX)?;
        let old = old?;
        self.discount(key, &old);
        let key = own(key);
        self.collect(index, Version::Datum(key.clone(), revision));
        self.contents.data.insert(key.clone(), index, None);
        // The tombstone itself goes right after the version it hides.
        self.collect(index, Version::Datum(key, index));
        self.revision = index;
        Some(old.value)
    }

    /// Adds a version to the state, the counts and the hash, and gives the one below it.
    fn insert(&mut self, key: Bytes, revision: u64, value: Bytes) -> Option<(u64, Option<Datum>)> {
        let hash = hash_datum(&key, &value, revision);
        self.keys += 1;
        self.live_bytes += (key.len() + value.len()) as u64;
        self.data_hash = self.data_hash.wrapping_add(hash);
        self.contents.data.insert(key, revision, Some(Datum { value, hash }))
    }

    /// Takes a version that is not live any more out of the counts and the hash.
    fn discount(&mut self, key: &Bytes, old: &Datum) {
        self.keys -= 1;
        self.live_bytes -= (key.len() + old.value.len()) as u64;
        self.data_hash = self.data_hash.wrapping_sub(old.hash);
    }

    fn collect(&mut self, superseded_at: u64, version: Version) {
        self.garbage.push_back(Garbage { superseded_at, version });
        self.fresh_garbage += 1;
    }
}

impl StateMachine for KvMachine {
    type Output = Outcome;

    fn apply(&mut self, id: EntryId, command: Bytes) -> Outcome {
        self.apply_command(id.index, command)
    }

    fn applied(&mut self, index: Index) {
        self.publish(index);
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        Box::new(self.frozen())
    }

    fn restore(&mut self, source: &mut dyn io::Read) -> io::Result<()> {
        self.restore_from(source).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl FrozenState for Frozen {
    fn write_to(self: Box<Self>, sink: &mut dyn io::Write) -> io::Result<()> {
        self.write(sink)
    }
}

impl Condition {
    fn holds(self, exists: bool) -> bool {
        match self {
            Condition::Always => true,
            Condition::IfAbsent => !exists,
            Condition::IfPresent => exists,
        }
    }
}

/// The pairs without those whose key comes again later.
fn last_of_each(pairs: &[(Bytes, Bytes)]) -> Vec<&(Bytes, Bytes)> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_unstable_by(|a, b| pairs[*a].0.cmp(&pairs[*b].0).then(b.cmp(a)));
    order.dedup_by(|later, kept| pairs[*later].0 == pairs[*kept].0);
    order.into_iter().map(|place| &pairs[place]).collect()
}

/// A copy of its own: a slice of a log entry would keep the whole frame it came in alive.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The share of one key in the state hash.
pub(super) fn hash_datum(key: &[u8], value: &[u8], revision: u64) -> u64 {
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, revision))
}

/// A decimal 64-bit integer as `i64::to_string` writes it: no plus sign, no leading zeros, no spaces.
fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    (value.to_string().as_bytes() == bytes).then_some(value)
}
