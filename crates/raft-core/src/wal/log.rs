//! The open log: one write and one sync per gathered batch, rotation, and removal of what snapshots cover.
//!
//! Synchronous and single-threaded; the [writer](super::writer) loop owns it on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::{Entry, EntryId, HardState, Index, NodeId, SnapshotMeta};

use super::disk::{Disk, DiskFile};
use super::error::WalError;
use super::record::{self, record_bytes};
use super::recovery::{self, Recovered};
use super::segment::{self, BatchPlace, MAX_BATCH_BYTES, MAX_SEGMENT_BYTES, SegmentHeader};
use super::terms::TermRuns;

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// The node the log belongs to; a log of another node is refused.
    pub node: NodeId,
    /// Size of a segment; a batch that does not fit goes into the next one. At most 1 GiB.
    pub segment_bytes: u64,
    /// How far ahead of the log a segment is filled with zeros and synced, so that the sync of a batch changes no
    /// metadata of the file. A step costs one extra sync. Equal to `segment_bytes` to fill each segment at once.
    pub fill_bytes: u64,
    /// Batches start at multiples of this: what the disk writes at once. A power of two, 512 to 65536.
    /// Fixed when a log is made.
    pub block_bytes: u32,
    /// Identity of a log that does not exist yet; salts its checksums. Should be random.
    pub new_store_id: u64,
}

impl WalConfig {
    /// Defaults for `node`.
    pub fn new(node: NodeId, new_store_id: u64) -> WalConfig {
        WalConfig { node, segment_bytes: 64 << 20, fill_bytes: 4 << 20, block_bytes: 4096, new_store_id }
    }

    fn validate(&self) -> Result<(), WalError> {
        let fail = |message: String| Err(WalError::Config(message));
        if !segment::valid_block_bytes(self.block_bytes) {
            return fail(format!("block_bytes ({}) must be a power of two in 512..=65536", self.block_bytes));
        }
        let smallest = u64::from(self.block_bytes) * 4;
        if !(smallest..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return fail(format!(
                "segment_bytes ({}) must be in {smallest}..={MAX_SEGMENT_BYTES}",
                self.segment_bytes
            ));
        }
        if self.fill_bytes == 0 || self.fill_bytes > self.segment_bytes {
            return fail(format!(
                "fill_bytes ({}) must be in 1..={} (segment_bytes)",
                self.fill_bytes, self.segment_bytes
            ));
        }
        Ok(())
    }
}

/// Something to make durable, in the order of [`Effect::Persist`](crate::core::Effect::Persist).
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// The new hard state.
    pub hard_state: Option<HardState>,
    /// A snapshot that replaces the log up to its last entry; and all of the log unless that entry is held.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries to append; the log is cut first where they overlap it.
    pub entries: Vec<Entry>,
}

/// Counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Calls of `fdatasync` on segments.
    pub syncs: u64,
    /// Batches written.
    pub batches: u64,
    /// Entries written.
    pub entries: u64,
    /// Bytes of batches written, padding included.
    pub bytes: u64,
    /// Bytes of batches that were there when the log was opened.
    pub opened_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Size of the segments on disk.
    pub disk_bytes: u64,
}

/// The segment that is being written.
struct Current<F> {
    file: F,
    path: PathBuf,
    header: SegmentHeader,
    position: u64,
    /// Durable zeros up to here.
    filled: u64,
    max_index: Index,
}

/// A full segment.
struct Sealed {
    path: PathBuf,
    bytes: u64,
    max_index: Index,
}

/// An open log.
///
/// # Invariants
/// Everything before `current.position` is durable; the file reaches at least one block beyond it.
pub struct Wal<D: Disk> {
    disk: Arc<D>,
    dir: PathBuf,
    config: WalConfig,
    sealed: Vec<Sealed>,
    current: Current<D::File>,
    place: BatchPlace,
    hard_state: HardState,
    /// Whether `hard_state` is newer than what is on disk.
    deferred: bool,
    snapshot: Option<SnapshotMeta>,
    terms: TermRuns,
    buffer: Vec<u8>,
    failed: bool,
    stats: WalStats,
    _lock: D::Lock,
}

impl<D: Disk> Wal<D> {
    /// Opens the log in `dir`, or makes one. What is returned is durable.
    ///
    /// # Errors
    /// [`WalError::Locked`] if another process has it open, [`WalError::Corrupt`] if durable bytes are damaged,
    /// [`WalError::WrongNode`], and whatever the file system says.
    pub fn open(
        disk: Arc<D>,
        dir: impl Into<PathBuf>,
        config: WalConfig,
    ) -> Result<(Wal<D>, Recovered), WalError> {
        config.validate()?;
        let dir = dir.into();
        disk.create_dir(&dir).map_err(WalError::io("create", &dir))?;
        let lock_path = dir.join("LOCK");
        let lock = disk
            .lock(&lock_path)
            .map_err(WalError::io("lock", &lock_path))?
            .ok_or(WalError::Locked { path: lock_path })?;
        match recovery::open(&*disk, &dir, config.node)? {
            Some(mut opened) => {
                let info = opened.segments.pop().expect("a log has a segment");
                let opened_bytes =
                    opened.segments.iter().map(|segment| segment.bytes).sum::<u64>() + opened.position;
                let stats = WalStats { syncs: 1, opened_bytes, ..WalStats::default() };
                let recovered = opened.recovered;
                let mut terms = TermRuns::after(recovered.last_index() - recovered.entries.len() as u64);
                recovered.entries.iter().for_each(|entry| terms.append(entry.id));
                let config = WalConfig { block_bytes: info.header.block_bytes, ..config };
                let sealed = opened
                    .segments
                    .into_iter()
                    .map(|info| Sealed { path: info.path, bytes: info.bytes, max_index: info.max_index })
                    .collect();
                let current = Current {
                    file: opened.file,
                    path: info.path,
                    header: info.header,
                    position: opened.position,
                    filled: info.bytes,
                    max_index: info.max_index,
                };
                let wal = Wal {
                    disk,
                    dir,
                    config,
                    sealed,
                    current,
                    place: opened.place,
                    hard_state: recovered.hard_state,
                    deferred: false,
                    snapshot: recovered.snapshot.clone(),
                    terms,
                    buffer: Vec::new(),
                    failed: false,
                    stats,
                    _lock: lock,
                };
                Ok((wal, recovered))
            }
            None => {
                let header = SegmentHeader {
                    block_bytes: config.block_bytes,
                    store: config.new_store_id,
                    node: config.node,
                    segment: 1,
                    next_index: 1,
                    batch: 1,
                    chain: 0,
                };
                let mut buffer = Vec::new();
                let mut stats = WalStats::default();
                let head =
                    Head { hard_state: HardState::default(), snapshot: None, last: EntryId::default() };
                let (current, place) =
                    make_segment(&*disk, &dir, &config, header, &head, &mut buffer, &mut stats)?;
                let wal = Wal {
                    disk,
                    dir,
                    config,
                    sealed: Vec::new(),
                    current,
                    place,
                    hard_state: HardState::default(),
                    deferred: false,
                    snapshot: None,
                    terms: TermRuns::after(0),
                    buffer,
                    failed: false,
                    stats,
                    _lock: lock,
                };
                Ok((wal, Recovered::default()))
            }
        }
    }

    /// Makes `writes` durable, as one batch: one write, one sync.
    ///
    /// # Errors
    /// [`WalError::Refused`] if a write does not fit the log; nothing was written then. After any other error it is
    /// unknown what is durable, and the log takes no more: the node must stop.
    pub fn append(&mut self, writes: &[Write]) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        self.check(writes)?;
        let result = self.append_checked(writes);
        self.failed = result.is_err();
        result
    }

    /// Remembers a hard state that need not be durable by itself: it goes to disk with the next batch.
    pub fn defer(&mut self, hard_state: HardState) {
        self.deferred |= self.hard_state != hard_state;
        self.hard_state = hard_state;
    }

    /// Marks that everything up to `meta.last` is in a durable snapshot, then removes the segments that hold nothing
    /// else. An older mark than the present one changes nothing.
    ///
    /// # Errors
    /// Like [`Wal::append`].
    pub fn compact(&mut self, meta: &SnapshotMeta) -> Result<(), WalError> {
        if meta.last.index > self.snapshot_index() || self.snapshot.is_none() {
            self.append(&[Write { snapshot: Some(meta.clone()), ..Write::default() }])?;
        }
        let result = self.remove_covered(self.snapshot_index());
        self.failed = result.is_err();
        result
    }

    /// Position of the last entry, in the log or in the snapshot.
    pub fn last(&self) -> EntryId {
        let snapshot = self.snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last);
        self.terms.last().unwrap_or(snapshot)
    }

    /// The newest snapshot the log names.
    pub fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> WalStats {
        WalStats {
            segments: self.sealed.len() as u64 + 1,
            disk_bytes: self.sealed.iter().map(|segment| segment.bytes).sum::<u64>() + self.current.filled,
            ..self.stats
        }
    }

    fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(0, |meta| meta.last.index)
    }

    /// Refuses what a later recovery would take for damage.
    fn check(&self, writes: &[Write]) -> Result<(), WalError> {
        let mut term = self.hard_state.term;
        let (mut floor, mut last) = (self.snapshot_index(), self.terms.last_index());
        let mut bytes = 0;
        for write in writes {
            if let Some(hard_state) = &write.hard_state {
                if hard_state.term < term {
                    return Err(WalError::Refused(format!("term {} after term {term}", hard_state.term)));
                }
                term = hard_state.term;
            }
            if let Some(meta) = &write.snapshot {
                if meta.last.index < floor {
                    let message = format!("snapshot at {} after one at {floor}", meta.last.index);
                    return Err(WalError::Refused(message));
                }
                floor = meta.last.index;
                last = last.max(floor);
            }
            if let Some(first) = write.entries.first()
                && (first.id.index <= floor || first.id.index > last + 1)
            {
                let message = format!("entry {} where {}..={} fit", first.id.index, floor + 1, last + 1);
                return Err(WalError::Refused(message));
            }
            for pair in write.entries.windows(2) {
                if pair[1].id.index != pair[0].id.index + 1 || pair[1].id.term < pair[0].id.term {
                    let message = format!("entry {:?} after {:?}", pair[1].id, pair[0].id);
                    return Err(WalError::Refused(message));
                }
            }
            if let Some(entry) = write.entries.last() {
                last = entry.id.index;
            }
            bytes += write.entries.iter().map(|entry| record_bytes(entry.data.len())).sum::<usize>();
        }
        if bytes > MAX_BATCH_BYTES / 2 {
            let message = format!("a batch of {bytes} bytes, at most {} fit", MAX_BATCH_BYTES / 2);
            return Err(WalError::Refused(message));
        }
        Ok(())
    }

    fn append_checked(&mut self, writes: &[Write]) -> Result<(), WalError> {
        self.make_room(writes)?;
        segment::begin_batch(&mut self.buffer);
        let mut records = 0;
        for write in writes {
            if let Some(hard_state) = write.hard_state {
                // Only the last one of a batch counts: the batch is durable as a whole or not at all.
                self.defer(hard_state);
            }
            if let Some(meta) = &write.snapshot {
                let keeps_suffix = self.terms.term(meta.last.index) == Some(meta.last.term);
                record::push_snapshot(&mut self.buffer, meta, keeps_suffix);
                records += 1;
                if keeps_suffix {
                    self.terms.compact(meta.last.index);
                } else {
                    self.terms = TermRuns::after(meta.last.index);
                }
                self.snapshot = Some(meta.clone());
            }
            for entry in &write.entries {
                record::push_entry(&mut self.buffer, entry);
                self.terms.append(entry.id);
                self.current.max_index = self.current.max_index.max(entry.id.index);
            }
            records += write.entries.len() as u32;
            self.stats.entries += write.entries.len() as u64;
        }
        if self.deferred {
            record::push_hard_state(&mut self.buffer, &self.hard_state);
            records += 1;
        }
        self.write_batch(records)?;
        self.deferred = false;
        Ok(())
    }

    /// Sees to it that a batch of `writes` fits into durable zeros of the current segment, with a block after it.
    fn make_room(&mut self, writes: &[Write]) -> Result<(), WalError> {
        let block = u64::from(self.config.block_bytes);
        let room = batch_bytes(writes).next_multiple_of(block) + block;
        let is_fresh = self.current.position <= 2 * block;
        if self.current.position + room > self.config.segment_bytes && !is_fresh {
            self.rotate()?;
        }
        let current = &mut self.current;
        let end = current.position + room;
        if end > current.filled {
            fill(&current.file, &current.path, current.filled, end.next_multiple_of(self.config.fill_bytes))?;
            current.filled = end.next_multiple_of(self.config.fill_bytes);
            current.file.sync_data().map_err(WalError::io("sync", &current.path))?;
            self.stats.syncs += 1;
        }
        Ok(())
    }

    fn write_batch(&mut self, records: u32) -> Result<(), WalError> {
        let last = self.last();
        let current = &mut self.current;
        let position = current.position;
        let crc =
            segment::finish_batch(&mut self.buffer, &current.header, position, self.place, records, last);
        let end = position + self.buffer.len() as u64;
        assert!(end < current.filled, "batch {position}..{end} in a file filled to {}", current.filled);
        current.file.write_at(&self.buffer, position).map_err(WalError::io("write", &current.path))?;
        current.file.sync_data().map_err(WalError::io("sync", &current.path))?;
        current.position = end;
        self.place = BatchPlace { batch: self.place.batch + 1, chain: crc };
        self.stats.syncs += 1;
        self.stats.batches += 1;
        self.stats.bytes += self.buffer.len() as u64;
        if self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Starts the next segment. Its first batch re-states what the segments before it say about hard state and
    /// snapshot, so that they can be removed.
    fn rotate(&mut self) -> Result<(), WalError> {
        let header = SegmentHeader {
            segment: self.current.header.segment + 1,
            next_index: self.terms.last_index() + 1,
            batch: self.place.batch,
            chain: self.place.chain,
            ..self.current.header
        };
        let head = Head { hard_state: self.hard_state, snapshot: self.snapshot.as_ref(), last: self.last() };
        let (next, place) = make_segment(
            &*self.disk,
            &self.dir,
            &self.config,
            header,
            &head,
            &mut self.buffer,
            &mut self.stats,
        )?;
        let full = std::mem::replace(&mut self.current, next);
        self.sealed.push(Sealed { path: full.path, bytes: full.filled, max_index: full.max_index });
        self.place = place;
        self.deferred = false;
        Ok(())
    }

    /// Removes, oldest first, the segments whose entries are all at or before `index`.
    fn remove_covered(&mut self, index: Index) -> Result<(), WalError> {
        let covered = self.sealed.iter().take_while(|segment| segment.max_index <= index).count();
        for segment in self.sealed.drain(..covered) {
            self.disk.remove(&segment.path).map_err(WalError::io("remove", &segment.path))?;
            // One at a time: a crash must not leave a gap in the sequence.
            self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
        }
        Ok(())
    }
}

/// Larger buffers are given back after use.
const KEPT_BUFFER_BYTES: usize = 8 << 20;

/// Upper bound of the bytes of a batch, before padding.
fn batch_bytes(writes: &[Write]) -> u64 {
    let mut bytes = segment::BATCH_HEAD + segment::COMMIT_BYTES + record_bytes(8);
    for write in writes {
        bytes += write.snapshot.as_ref().map_or(0, |meta| record_bytes(meta.conf.voters.len() * 8));
        bytes += write.entries.iter().map(|entry| record_bytes(entry.data.len())).sum::<usize>();
    }
    bytes as u64
}

/// What the first batch of a segment says.
struct Head<'a> {
    hard_state: HardState,
    snapshot: Option<&'a SnapshotMeta>,
    last: EntryId,
}

/// Makes a segment with its header and first batch. It gets its name only when all of that is durable, so that a
/// segment without them is damage and never a leftover.
fn make_segment<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &WalConfig,
    header: SegmentHeader,
    head: &Head<'_>,
    buffer: &mut Vec<u8>,
    stats: &mut WalStats,
) -> Result<(Current<D::File>, BatchPlace), WalError> {
    let block = u64::from(config.block_bytes);
    segment::begin_batch(buffer);
    record::push_hard_state(buffer, &head.hard_state);
    if let Some(meta) = head.snapshot {
        record::push_snapshot(buffer, meta, true);
    }
    let place = BatchPlace { batch: header.batch, chain: header.chain };
    let records = 1 + u32::from(head.snapshot.is_some());
    let crc = segment::finish_batch(buffer, &header, block, place, records, head.last);

    let temp = segment::temp_path(dir, header.segment);
    let path = segment::segment_path(dir, header.segment);
    let file = disk.create(&temp).map_err(WalError::io("create", &temp))?;
    let position = block + buffer.len() as u64;
    let filled = (position + block).next_multiple_of(config.fill_bytes);
    fill(&file, &temp, 0, filled)?;
    file.write_at(&header.encode(), 0).map_err(WalError::io("write", &temp))?;
    file.write_at(buffer, block).map_err(WalError::io("write", &temp))?;
    file.sync_data().map_err(WalError::io("sync", &temp))?;
    disk.rename(&temp, &path).map_err(WalError::io("rename", &temp))?;
    disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
    stats.syncs += 2;
    stats.batches += 1;
    stats.bytes += buffer.len() as u64;
    let place = BatchPlace { batch: place.batch + 1, chain: crc };
    Ok((Current { file, path, header, position, filled, max_index: 0 }, place))
}

/// Writes zeros in `from..to`. Reserving space would not do: the file system would have to note, at each sync, that
/// another part of it holds data now.
fn fill<F: DiskFile>(file: &F, path: &Path, from: u64, to: u64) -> Result<(), WalError> {
    const STEP: usize = 1 << 20;
    let zeros = vec![0; STEP.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let step = zeros.len().min((to - at) as usize);
        file.write_at(&zeros[..step], at).map_err(WalError::io("fill", path))?;
        at += step as u64;
    }
    Ok(())
}
