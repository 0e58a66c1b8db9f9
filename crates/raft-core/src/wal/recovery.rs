//! Opening a log: reads the segments in order, replays their records, cuts a torn tail, refuses damage.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::core::{Entry, EntryId, HardState, Index, NodeId, SnapshotMeta, Term};

use super::disk::{Disk, DiskFile};
use super::error::WalError;
use super::record::{self, Record};
use super::segment::{self, Batch, BatchPlace, Framed, MAX_SEGMENT_BYTES, SegmentHeader};

/// What a log held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The newest snapshot the log was told of.
    pub snapshot: Option<SnapshotMeta>,
    /// All entries after the snapshot, without gaps.
    pub entries: Vec<Entry>,
    /// The batch that was being written when the node stopped, if it had to be cut.
    pub torn: Option<TornTail>,
}

impl Recovered {
    /// Index of the last entry, in the log or in the snapshot.
    pub fn last_index(&self) -> Index {
        let snapshot = self.snapshot.as_ref().map_or(0, |meta| meta.last.index);
        self.entries.last().map_or(snapshot, |entry| entry.id.index)
    }
}

/// A torn batch: it was never durable, so nothing was promised about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: PathBuf,
    /// Where the batch started.
    pub offset: u64,
    /// The first sector of it that was not written.
    pub missing_at: u64,
}

/// A segment that was read.
#[derive(Clone, Debug)]
pub(super) struct SegmentInfo {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) bytes: u64,
    /// Highest index of any entry in it; 0 if there is none.
    pub(super) max_index: Index,
}

/// Everything that is needed to go on writing.
pub(super) struct Opened<F> {
    pub(super) recovered: Recovered,
    /// Segments in order. The last one is open for writing.
    pub(super) segments: Vec<SegmentInfo>,
    pub(super) file: F,
    /// Where the next batch goes in the last segment.
    pub(super) position: u64,
    pub(super) place: BatchPlace,
}

/// Reads the log in `dir`. `None` if there is none. Leftovers of unfinished segments are removed.
pub(super) fn open<D: Disk>(disk: &D, dir: &Path, node: NodeId) -> Result<Option<Opened<D::File>>, WalError> {
    let mut sequences = Vec::new();
    for name in disk.list(dir).map_err(WalError::io("list", dir))? {
        if let Some(sequence) = segment::parse_name(&name) {
            sequences.push(sequence);
        } else if name.ends_with(".tmp") {
            let path = dir.join(&name);
            disk.remove(&path).map_err(WalError::io("remove", &path))?;
        }
    }
    sequences.sort_unstable();
    let Some(&last) = sequences.last() else { return Ok(None) };

    let mut replay = Replay::default();
    let mut segments: Vec<SegmentInfo> = Vec::with_capacity(sequences.len());
    let mut place = None;
    for &sequence in &sequences {
        let path = segment::segment_path(dir, sequence);
        let file = disk.open(&path).map_err(WalError::io("open", &path))?;
        let content = read_whole(&file, &path)?;
        let header = SegmentHeader::decode(&path, &content)?;
        check_header(&path, &header, sequence, node, segments.last(), place)?;
        if segments.is_empty() {
            replay.first = header.next_index;
        }
        let mut info = SegmentInfo { path, header, bytes: content.len() as u64, max_index: 0 };
        let scan = scan_segment(&content, &mut info, &mut replay, sequence == last)?;
        place = Some(scan.place);
        segments.push(info);
        if sequence == last {
            let info = segments.last().expect("just pushed");
            settle(&file, info, &scan, &content)?;
            let recovered = replay.finish(&info.path, scan.position, scan.torn)?;
            let opened = Opened { recovered, segments, file, position: scan.position, place: scan.place };
            return Ok(Some(opened));
        }
    }
    unreachable!("the loop returns at the last segment {last}");
}

fn read_whole<F: DiskFile>(file: &F, path: &Path) -> Result<Vec<u8>, WalError> {
    let size = file.size().map_err(WalError::io("read the size of", path))?;
    if size > MAX_SEGMENT_BYTES {
        let expected = format!("a segment of at most {MAX_SEGMENT_BYTES} bytes");
        return Err(WalError::corrupt(path, 0, expected, format!("{size} bytes")));
    }
    let mut content = vec![0; size as usize];
    match file.read_exact_at(&mut content, 0) {
        Ok(()) => Ok(content),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(WalError::corrupt(path, size, format!("{size} bytes"), "an earlier end of the file"))
        }
        Err(error) => Err(WalError::io("read", path)(error)),
    }
}

/// A header must fit its name, its node, and the segment before it.
fn check_header(
    path: &Path,
    header: &SegmentHeader,
    sequence: u64,
    node: NodeId,
    before: Option<&SegmentInfo>,
    place: Option<BatchPlace>,
) -> Result<(), WalError> {
    let fits = |offset: u64, what: &str, expected: u64, found: u64| {
        if expected == found {
            return Ok(());
        }
        Err(WalError::corrupt(path, offset, format!("{what} {expected}"), found.to_string()))
    };
    fits(32, "segment sequence", sequence, header.segment)?;
    if header.node != node {
        return Err(WalError::WrongNode { path: path.to_owned(), expected: node, found: header.node });
    }
    if let (Some(before), Some(place)) = (before, place) {
        fits(16, "the store id of the segment before,", before.header.store, header.store)?;
        fits(32, "the segment after the one before,", before.header.segment + 1, sequence)?;
        fits(48, "the batch after the last one of the segment before,", place.batch, header.batch)?;
        fits(56, "the checksum of the last batch before,", u64::from(place.chain), u64::from(header.chain))?;
    }
    Ok(())
}

/// Where a segment ends.
struct ScanEnd {
    /// Start of the last batch that verified, and of the free space after it.
    last_batch: u64,
    position: u64,
    /// Of the next batch.
    place: BatchPlace,
    torn: Option<TornTail>,
}

fn scan_segment(
    content: &[u8],
    info: &mut SegmentInfo,
    replay: &mut Replay,
    is_last: bool,
) -> Result<ScanEnd, WalError> {
    let header = info.header;
    let block = u64::from(header.block_bytes);
    let mut end = ScanEnd {
        last_batch: block,
        position: block,
        place: BatchPlace { batch: header.batch, chain: header.chain },
        torn: None,
    };
    while end.position < content.len() as u64 {
        match segment::read_batch(content, &header, end.position) {
            Framed::Batch(batch) => {
                if batch.place != end.place {
                    let expected = format!("batch {} chained to {:#010x}", end.place.batch, end.place.chain);
                    let found = format!("batch {} chained to {:#010x}", batch.place.batch, batch.place.chain);
                    return Err(WalError::corrupt(&info.path, end.position, expected, found));
                }
                end.place = BatchPlace { batch: batch.place.batch + 1, chain: batch.crc };
                end.last_batch = end.position;
                let length = batch.bytes.len() as u64;
                replay.batch(info, end.position, batch)?;
                end.position += length.next_multiple_of(block);
            }
            Framed::Damaged { at, expected, found } => {
                return Err(WalError::corrupt(&info.path, at, expected, found));
            }
            Framed::Empty if content[end.position as usize..].iter().all(|&byte| byte == 0) => break,
            Framed::Empty => {
                end.torn = Some(torn(info, end.position, end.position));
                break;
            }
            Framed::Torn { missing_at } => {
                end.torn = Some(torn(info, end.position, missing_at));
                break;
            }
        }
    }
    if end.position == block {
        return Err(WalError::corrupt(&info.path, block, "the first batch of the segment", "none"));
    }
    if let Some(torn) = &end.torn {
        if !is_last {
            let expected = format!("batch {}, since a later segment exists", end.place.batch);
            return Err(WalError::corrupt(&info.path, torn.missing_at, expected, "a sector of zeros"));
        }
        let mut offset = end.position + block;
        while offset < content.len() as u64 {
            if let Framed::Batch(later) = segment::read_batch(content, &header, offset)
                && later.place.batch > end.place.batch
            {
                let expected =
                    format!("batch {}, since batch {} follows", end.place.batch, later.place.batch);
                return Err(WalError::corrupt(&info.path, torn.missing_at, expected, "a sector of zeros"));
            }
            offset += block;
        }
    }
    Ok(end)
}

fn torn(info: &SegmentInfo, offset: u64, missing_at: u64) -> TornTail {
    TornTail { path: info.path.clone(), offset, missing_at }
}

/// Makes what was read durable before anybody relies on it: the last batch may so far be in memory only. What is left
/// of a torn batch becomes zeros again, which is what the next recovery expects of free space.
fn settle<F: DiskFile>(file: &F, info: &SegmentInfo, scan: &ScanEnd, content: &[u8]) -> Result<(), WalError> {
    let io = |action| WalError::io(action, &info.path);
    let (last, position) = (scan.last_batch as usize, scan.position as usize);
    file.write_at(&content[last..position], scan.last_batch).map_err(io("write"))?;
    if scan.torn.is_some() {
        let used = content[position..].iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
        let zeros = vec![0; used.min(1 << 20)];
        let mut at = 0;
        while at < used {
            let step = zeros.len().min(used - at);
            file.write_at(&zeros[..step], scan.position + at as u64).map_err(io("write"))?;
            at += step;
        }
    }
    file.sync_data().map_err(io("sync"))
}

/// The state that the records so far amount to.
#[derive(Default)]
struct Replay {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    /// Index of `entries[0]`, or of the next entry if there is none.
    first: Index,
    entries: Vec<Entry>,
}

impl Replay {
    fn last_index(&self) -> Index {
        self.first + self.entries.len() as u64 - 1
    }

    fn last(&self) -> Option<EntryId> {
        self.entries.last().map(|entry| entry.id)
    }

    fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(0, |meta| meta.last.index)
    }

    fn batch(&mut self, info: &mut SegmentInfo, offset: u64, batch: Batch) -> Result<(), WalError> {
        let end = batch.records_end();
        let (records, last) = (batch.records, batch.last);
        let bytes = Bytes::from(batch.bytes);
        let mut at = segment::BATCH_HEAD;
        let corrupt = |at: usize, expected: String, found: String| {
            WalError::corrupt(&info.path, offset + at as u64, expected, found)
        };
        for number in 0..records {
            let (record, next) = record::decode(&bytes, at, end)
                .map_err(|found| corrupt(at, format!("record {number} of {records}"), found))?;
            if let Record::Entry(entry) = &record {
                info.max_index = info.max_index.max(entry.id.index);
            }
            self.record(record).map_err(|(expected, found)| corrupt(at, expected, found))?;
            at = next;
        }
        if at != end {
            return Err(corrupt(at, format!("the end of the batch after {records} records"), "more".into()));
        }
        // The commit record names the last entry once more. Right after the start of a log that was shortened from the
        // front it may name an entry that only the removed segments held.
        if let Some(held) = self.last()
            && held != last
        {
            return Err(corrupt(end, format!("{held:?} as the last entry"), format!("{last:?}")));
        }
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), (String, String)> {
        match record {
            Record::Entry(entry) => self.entry(entry),
            Record::HardState(hard_state) => {
                if hard_state.term < self.hard_state.term {
                    let expected = format!("a term of at least {}", self.hard_state.term);
                    return Err((expected, format!("hard state with term {}", hard_state.term)));
                }
                self.hard_state = hard_state;
                Ok(())
            }
            Record::Snapshot { meta, keeps_suffix } => {
                if meta.last.index < self.snapshot_index() {
                    let expected = format!("a snapshot at or after {}", self.snapshot_index());
                    return Err((expected, format!("snapshot {:?}", meta.last)));
                }
                if keeps_suffix && meta.last.index > self.last_index() {
                    let expected = format!("a snapshot at or before {}", self.last_index());
                    return Err((expected, format!("snapshot {:?}", meta.last)));
                }
                if !keeps_suffix {
                    self.entries.clear();
                    self.first = meta.last.index + 1;
                } else if meta.last.index >= self.first {
                    self.entries.drain(..(meta.last.index + 1 - self.first) as usize);
                    self.first = meta.last.index + 1;
                }
                self.snapshot = Some(meta);
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), (String, String)> {
        let EntryId { term, index } = entry.id;
        let found = || format!("entry {index} of term {term}");
        if index <= self.snapshot_index() || index > self.last_index() + 1 {
            let expected = format!("an index in {}..={}", self.snapshot_index() + 1, self.last_index() + 1);
            return Err((expected, found()));
        }
        if index < self.first {
            self.entries.clear();
            self.first = index;
        } else {
            self.entries.truncate((index - self.first) as usize);
        }
        let before: Term = match (self.last(), &self.snapshot) {
            (Some(last), _) => last.term,
            (None, Some(meta)) if meta.last.index + 1 == index => meta.last.term,
            (None, _) => 0,
        };
        if term < before {
            return Err((format!("a term of at least {before}"), found()));
        }
        self.entries.push(entry);
        Ok(())
    }

    fn finish(self, path: &Path, position: u64, torn: Option<TornTail>) -> Result<Recovered, WalError> {
        let snapshot = self.snapshot_index();
        if self.first > snapshot + 1 {
            let expected = format!("entries from {} on, the snapshot ends at {snapshot}", snapshot + 1);
            return Err(WalError::corrupt(
                path,
                position,
                expected,
                format!("entries from {} on", self.first),
            ));
        }
        let last = self.last_index().max(snapshot);
        if self.hard_state.commit_index > last {
            let expected = format!("entries up to {}, they were committed", self.hard_state.commit_index);
            return Err(WalError::corrupt(path, position, expected, format!("entries up to {last}")));
        }
        let Replay { hard_state, snapshot, entries, .. } = self;
        Ok(Recovered { hard_state, snapshot, entries, torn })
    }
}
