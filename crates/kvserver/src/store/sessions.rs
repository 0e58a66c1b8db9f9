//! The replicated session table: which client's write was applied last, and what it gave (thesis §6.3).
//!
//! The table is bounded. When it is full the session that was used longest ago goes, "ago" counted in log entries:
//! every replica evicts the same one. A client whose session is gone is told so and its command is not applied,
//! because nobody can say any more whether an earlier copy of it was.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::contents::Contents;
use crate::command::codec::put_varint;
use crate::command::{CommandError, Outcome, Session, Write};

/// Most sessions; at the limit the one used longest ago is evicted. Part of the state machine: equal on every node.
pub const MAX_SESSIONS: usize = 64 << 10;

/// Most bytes of values that remembered outcomes carry; beyond it sessions are evicted as at [`MAX_SESSIONS`].
/// Part of the state machine: equal on every node.
pub const MAX_SESSION_BYTES: usize = 64 << 20;

/// What is remembered of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRecord {
    /// Number of its last write.
    pub(super) sequence: u64,
    /// Index of the entry that used it last.
    pub(super) used: u64,
    /// What that write gave.
    pub(super) outcome: Outcome,
}

impl SessionRecord {
    /// The record's share of the state hash.
    pub(super) fn hash(&self, client_id: u128) -> u64 {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(&client_id.to_be_bytes());
        put_varint(&mut bytes, self.sequence);
        put_varint(&mut bytes, self.used);
        self.outcome.put(&mut bytes);
        xxh3_64_with_seed(&bytes, xxh3_64(b"session"))
    }
}

/// What the table says about a command before it is applied.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is new: apply it and [`SessionTable::remember`] what it gave.
    New,
    /// It was applied before, or is refused: this is its outcome, and the state stays as it is.
    Answered(Outcome),
}

/// The writer's side of the table; the records live in [`Contents::sessions`], where snapshots read them.
#[derive(Debug, Default)]
pub(super) struct SessionTable {
    /// Clients by the index of the entry that used them last.
    by_use: BTreeMap<u64, u128>,
    /// Bytes of values in remembered outcomes.
    bytes: usize,
    /// Sum of the records' hashes.
    hash: u64,
}

/// A version of a session that a newer one has replaced.
pub(super) struct Superseded {
    pub(super) client_id: u128,
    pub(super) revision: u64,
}

impl SessionTable {
    pub(super) fn len(&self) -> usize {
        self.by_use.len()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Decides whether a command with a session is to be applied.
    pub(super) fn admit(&self, contents: &Contents, session: Session, write: &Write) -> Admission {
        let record = contents.sessions.get(&session.client_id, u64::MAX);
        let refuse = |error| Admission::Answered(Outcome::Failed(error));
        match (record, write) {
            (None, Write::OpenSession) => Admission::New,
            (Some(record), Write::OpenSession) => {
                Admission::Answered(Outcome::Done { revision: record.used })
            }
            (None, _) => refuse(CommandError::UnknownSession),
            (Some(record), _) if session.sequence == record.sequence && record.sequence > 0 => {
                Admission::Answered(record.outcome)
            }
            (Some(record), _) if session.sequence <= record.sequence => refuse(CommandError::StaleSequence),
            (Some(_), _) => Admission::New,
        }
    }

    /// Notes what the write of entry `index` gave, and evicts what no longer fits. `superseded` is told of every
    /// version that is not current any more.
    pub(super) fn remember(
        &mut self,
        contents: &Contents,
        session: Session,
        index: u64,
        outcome: Outcome,
        superseded: &mut impl FnMut(Superseded),
    ) {
        let client_id = session.client_id;
        if let Some((revision, Some(record))) = contents.sessions.newest(&client_id, u64::MAX) {
            self.forget(client_id, &record);
            superseded(Superseded { client_id, revision });
        }
        let record = SessionRecord { sequence: session.sequence, used: index, outcome };
        assert!(self.restore(client_id, &record), "entry {index} uses one session");
        contents.sessions.insert(client_id, index, Some(record));

        while self.by_use.len() > MAX_SESSIONS || self.bytes > MAX_SESSION_BYTES {
            let (used, oldest) =
                self.by_use.first_key_value().expect("a table beyond its bounds is not empty");
            if *used == index {
                break;
            }
            let (used, oldest) = (*used, *oldest);
            let (revision, record) = contents
                .sessions
                .newest(&oldest, u64::MAX)
                .expect("every client in the order of use has a record");
            let record = record.expect("a client in the order of use is not evicted yet");
            assert_eq!(record.used, used, "the order of use and the record of client {oldest:x} disagree");
            self.forget(oldest, &record);
            superseded(Superseded { client_id: oldest, revision });
            contents.sessions.insert(oldest, index, None);
            superseded(Superseded { client_id: oldest, revision: index });
        }
    }

    /// Takes a record into the counts. False if its entry already used another session: an entry uses one.
    pub(super) fn restore(&mut self, client_id: u128, record: &SessionRecord) -> bool {
        self.bytes += record.outcome.payload_bytes();
        self.hash = self.hash.wrapping_add(record.hash(client_id));
        self.by_use.insert(record.used, client_id).is_none()
    }

    fn forget(&mut self, client_id: u128, record: &SessionRecord) {
        self.by_use.remove(&record.used);
        self.bytes -= record.outcome.payload_bytes();
        self.hash = self.hash.wrapping_sub(record.hash(client_id));
    }
}
