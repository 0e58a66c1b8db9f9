//! What readers see: views of the published revision, and pins that keep a past one readable.
//!
//! The writer applies a batch of entries at revisions above `published` and then publishes: readers see all of the
//! batch or nothing. Versions that a newer one has superseded are removed once no reader can want them, which is
//! decided by the horizon, the smaller of `published` and the oldest pin:
//!
//! ```text
//!   point read, no lock                          writer
//!   at = published
//!   find the newest version not after `at`       horizon = min(published, oldest pin)
//!   horizon <= at ?  yes: the answer stands      remove versions superseded at or before the horizon
//!                    no: try again, later pin
//! ```
//!
//! The horizon is stored before anything is removed, so a reader that missed a version because it was removed finds
//! a horizon past its own revision and does not believe what it saw.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use bytes::Bytes;
use fiber_runtime::sync::Spin;

use super::sessions::SessionRecord;
use super::versions::Versions;
use crate::command::read::{MAX_SCAN_BYTES, MAX_SCAN_KEYS};
use crate::command::{Read, ReadOutcome, ScanPage};

/// How often a point read is tried without a pin.
const OPTIMISTIC_READS: usize = 4;

/// The value of a key at a revision, with its share of the state hash.
#[derive(Clone, Debug)]
pub(super) struct Datum {
    pub(super) value: Bytes,
    pub(super) hash: u64,
}

/// The counts of a state, all at the same applied index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Highest applied index.
    pub applied_index: u64,
    /// Index of the last entry that changed a key; 0 if none did.
    pub revision: u64,
    /// Keys.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub live_bytes: u64,
    /// Client sessions.
    pub sessions: u64,
    /// Sum of the hashes of all (key, value, revision) and of all sessions. Equal on all replicas at equal
    /// `applied_index`.
    pub state_hash: u64,
    /// Versions in memory, superseded ones and tombstones included. Differs between replicas.
    pub versions: u64,
}

/// One state: everything since the last restore.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) data: Versions<Bytes, Datum>,
    pub(super) sessions: Versions<u128, SessionRecord>,
    /// Readers see versions up to here. Stored with Release by the writer, loaded with Acquire by readers.
    published: AtomicU64,
    /// Versions superseded at or before this may be gone. Never above `published` or a pin.
    horizon: AtomicU64,
    /// How many pins hold each revision. Also orders pinning against moving the horizon.
    pins: Spin<BTreeMap<u64, usize>>,
    summary: Spin<Summary>,
}

impl Contents {
    pub(super) fn new() -> Contents {
        Contents {
            data: Versions::new(),
            sessions: Versions::new(),
            published: AtomicU64::new(0),
            horizon: AtomicU64::new(0),
            pins: Spin::new(BTreeMap::new()),
            summary: Spin::new(Summary::default()),
        }
    }

    /// Shows readers everything up to `summary.applied_index`.
    pub(super) fn publish(&self, summary: Summary) {
        self.summary.lock(|shown| *shown = summary);
        self.published.store(summary.applied_index, Ordering::Release);
    }

    /// Moves the horizon as far as the pins allow and returns it.
    pub(super) fn advance_horizon(&self) -> u64 {
        self.pins.lock(|pins| {
            let published = self.published.load(Ordering::Acquire);
            let horizon = pins.first_key_value().map_or(published, |(oldest, _)| published.min(*oldest));
            self.horizon.store(horizon, Ordering::SeqCst);
            horizon
        })
    }

    /// Keeps `revision` readable; the published one if none is named.
    fn hold(&self, revision: Option<u64>) -> u64 {
        self.pins.lock(|pins| {
            let revision = revision.unwrap_or_else(|| self.published.load(Ordering::Acquire));
            assert!(
                self.horizon.load(Ordering::SeqCst) <= revision,
                "revision {revision} is below the horizon and cannot be pinned"
            );
            *pins.entry(revision).or_insert(0) += 1;
            revision
        })
    }

    fn release(&self, revision: u64) {
        self.pins.lock(|pins| {
            let count = pins.get_mut(&revision).expect("a pin is counted until it is dropped");
            *count -= 1;
            if *count == 0 {
                pins.remove(&revision);
            }
        });
    }
}

/// The shared read side of the state machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    current: Arc<Spin<Arc<Contents>>>,
}

impl Store {
    pub(super) fn new(contents: Arc<Contents>) -> Store {
        Store { current: Arc::new(Spin::new(contents)) }
    }

    /// The state as it is now. It stays the same state, though not the same revision, until the state machine is
    /// restored from a snapshot; so take one per batch of reads and do not keep it.
    pub fn view(&self) -> View {
        View { contents: self.current.lock(|current| Arc::clone(current)) }
    }

    /// The counts of the published state.
    pub fn summary(&self) -> Summary {
        self.view().summary()
    }

    /// Answers one read at the published revision.
    pub fn read(&self, read: &Read) -> ReadOutcome {
        self.view().read(read)
    }

    /// Puts another state in place of the current one; readers see the one or the other.
    pub(super) fn replace(&self, contents: Arc<Contents>) {
        let old = self.current.lock(|current| std::mem::replace(current, contents));
        drop(old);
    }
}

/// A state that is being read. Each read sees the newest published revision.
#[derive(Clone, Debug)]
pub struct View {
    contents: Arc<Contents>,
}

impl View {
    /// The counts at the published revision.
    pub fn summary(&self) -> Summary {
        self.contents.summary.lock(|summary| *summary)
    }

    /// The value of a key. Takes no lock unless the writer's compaction overtakes it again and again.
    pub fn get(&self, key: &Bytes) -> Option<Bytes> {
        for _ in 0..OPTIMISTIC_READS {
            let at = self.contents.published.load(Ordering::Acquire);
            let found = self.contents.data.get(key, at);
            fence(Ordering::Acquire);
            if self.contents.horizon.load(Ordering::SeqCst) <= at {
                return found.map(|datum| datum.value);
            }
        }
        self.pin().get(key)
    }

    /// Keeps the published revision readable until the pin is dropped.
    pub fn pin(&self) -> Pin {
        let revision = self.contents.hold(None);
        Pin { contents: Arc::clone(&self.contents), revision }
    }

    /// Answers one read; one that names several keys sees all of them at the same revision.
    pub fn read(&self, read: &Read) -> ReadOutcome {
        match read {
            Read::Get { key } => ReadOutcome::Value(self.get(key)),
            Read::MultiGet { keys } => {
                let pin = self.pin();
                ReadOutcome::Values(keys.iter().map(|key| pin.get(key)).collect())
            }
            Read::Exists { keys } => {
                let pin = self.pin();
                ReadOutcome::Count(keys.iter().filter(|key| pin.get(key).is_some()).count() as u64)
            }
            Read::Length { key } => ReadOutcome::Length(self.get(key).map_or(0, |value| value.len() as u64)),
            Read::Count => ReadOutcome::Count(self.summary().keys),
            Read::Scan { after, prefix, limit, values } => {
                ReadOutcome::Page(self.pin().page(after.as_ref(), prefix, *limit, *values))
            }
        }
    }
}

/// A revision that is kept readable. While it lives, versions it can see are not removed: drop it soon.
#[derive(Debug)]
pub struct Pin {
    contents: Arc<Contents>,
    revision: u64,
}

impl Pin {
    /// Pins a revision the writer has applied, published or not.
    pub(super) fn at(contents: &Arc<Contents>, revision: u64) -> Pin {
        let revision = contents.hold(Some(revision));
        Pin { contents: Arc::clone(contents), revision }
    }

    /// The pinned revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The value of a key at this revision.
    pub fn get(&self, key: &Bytes) -> Option<Bytes> {
        self.contents.data.get(key, self.revision).map(|datum| datum.value)
    }

    /// A page of keys at this revision, see [`Read::Scan`].
    pub fn page(&self, after: Option<&Bytes>, prefix: &Bytes, limit: u32, values: bool) -> ScanPage {
        let limit = limit.min(MAX_SCAN_KEYS) as usize;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = ScanPage::default();
        let mut bytes = 0;
        self.contents.data.visit(from, self.revision, |key, _, datum| {
            if !key.starts_with(prefix) {
                return false;
            }
            if page.entries.len() >= limit || bytes >= MAX_SCAN_BYTES {
                page.more = true;
                return false;
            }
            let value = values.then(|| datum.value.clone());
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            page.entries.push((key.clone(), value));
            true
        });
        page
    }

    /// Keys, revisions and values after `after` at this revision, until `bytes` of them are gathered.
    pub(super) fn data_after(&self, after: Option<&Bytes>, bytes: usize) -> Vec<(Bytes, u64, Bytes)> {
        let mut found = Vec::new();
        let mut gathered = 0;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.contents.data.visit(from, self.revision, |key, revision, datum| {
            gathered += key.len() + datum.value.len() + 32;
            found.push((key.clone(), revision, datum.value.clone()));
            gathered < bytes
        });
        found
    }

    /// Sessions after `after` at this revision, until `count` of them are gathered.
    pub(super) fn sessions_after(&self, after: Option<u128>, count: usize) -> Vec<(u128, SessionRecord)> {
        let mut found = Vec::new();
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.contents.sessions.visit(from, self.revision, |client_id, _, record| {
            found.push((*client_id, record.clone()));
            found.len() < count
        });
        found
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.contents.release(self.revision);
    }
}
