//! Framing: the header of a segment, and batches with their checksums and key stream.
//! The byte map and the reasons are in the [module](super) docs.

use std::path::{Path, PathBuf};

use crate::core::{EntryId, Index, NodeId};

use super::error::WalError;
use super::record::{RECORD_ALIGN, u32_at, u64_at};

const MAGIC: u64 = u64::from_le_bytes(*b"MOONWAL\0");
const VERSION: u32 = 1;

mod header {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = MAGIC + 8;
    pub(super) const BLOCK: usize = VERSION + 4;
    pub(super) const STORE: usize = BLOCK + 4;
    pub(super) const NODE: usize = STORE + 8;
    pub(super) const SEGMENT: usize = NODE + 8;
    pub(super) const NEXT_INDEX: usize = SEGMENT + 8;
    pub(super) const BATCH: usize = NEXT_INDEX + 8;
    pub(super) const CHAIN: usize = BATCH + 8;
    pub(super) const CRC: usize = CHAIN + 4;
    pub(super) const BYTES: usize = CRC + 4;
    const _: () = assert!(BYTES == 64, "the byte map in wal/mod.rs says 64");
}
const HEADER_BYTES: usize = header::BYTES;

mod head {
    pub(super) const MAGIC: usize = 0;
    pub(super) const LENGTH: usize = MAGIC + 4;
    pub(super) const BATCH: usize = LENGTH + 4;
    pub(super) const CHAIN: usize = BATCH + 8;
    pub(super) const RECORDS: usize = CHAIN + 4;
    pub(super) const RESERVED: usize = RECORDS + 4;
    pub(super) const CRC: usize = RESERVED + 4;
    pub(super) const BYTES: usize = CRC + 4;
    pub(super) const MARK: u32 = u32::from_le_bytes(*b"BTCH");
    const _: () = assert!(BYTES == 32, "the byte map in wal/mod.rs says 32");
    // A head must lie in one sector: then it is either there or not.
    const _: () = assert!(BYTES <= super::SECTOR as usize);
}
/// Bytes of a batch before its first record.
pub(super) const BATCH_HEAD: usize = head::BYTES;

mod commit {
    pub(super) const MAGIC: usize = 0;
    pub(super) const RECORDS: usize = MAGIC + 4;
    pub(super) const TERM: usize = RECORDS + 4;
    pub(super) const INDEX: usize = TERM + 8;
    pub(super) const RESERVED: usize = INDEX + 8;
    pub(super) const CRC: usize = RESERVED + 4;
    pub(super) const BYTES: usize = CRC + 4;
    pub(super) const MARK: u32 = u32::from_le_bytes(*b"CMMT");
    const _: () = assert!(BYTES == 32, "the byte map in wal/mod.rs says 32");
}
/// Bytes of a batch after its last record.
pub(super) const COMMIT_BYTES: usize = commit::BYTES;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

/// No file of the log is larger; checked before one is read into memory.
pub(super) const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// The most bytes of one batch.
pub(super) const MAX_BATCH_BYTES: usize = 512 << 20;

/// Name of a segment.
pub(super) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.wal"))
}

/// Name of a segment in the making.
pub(super) fn temp_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.tmp"))
}

/// The sequence number in the name of a segment.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) block_bytes: u32,
    pub(super) store: u64,
    pub(super) node: NodeId,
    pub(super) segment: u64,
    /// Index of the entry that would be appended next when the segment was made.
    pub(super) next_index: Index,
    pub(super) batch: u64,
    pub(super) chain: u32,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(header::MAGIC, &MAGIC.to_le_bytes());
        put(header::VERSION, &VERSION.to_le_bytes());
        put(header::BLOCK, &self.block_bytes.to_le_bytes());
        put(header::STORE, &self.store.to_le_bytes());
        put(header::NODE, &self.node.0.to_le_bytes());
        put(header::SEGMENT, &self.segment.to_le_bytes());
        put(header::NEXT_INDEX, &self.next_index.to_le_bytes());
        put(header::BATCH, &self.batch.to_le_bytes());
        put(header::CHAIN, &self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..header::CRC]);
        bytes[header::CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<SegmentHeader, WalError> {
        if bytes.len() < HEADER_BYTES {
            let found = format!("a file of {} bytes", bytes.len());
            return Err(WalError::corrupt(path, 0, "a segment header of 64 bytes", found));
        }
        let magic = u64_at(bytes, header::MAGIC);
        let version = u32_at(bytes, header::VERSION);
        let crc = crc32c::crc32c(&bytes[..header::CRC]);
        let stored = u32_at(bytes, header::CRC);
        if crc != stored {
            // Another version may have another header; only then is its number believed without a checksum.
            if magic == MAGIC && version > VERSION && version < VERSION + 256 {
                return Err(WalError::Version { path: path.to_owned(), found: version, supported: VERSION });
            }
            let expected = format!("header checksum {crc:#010x}");
            return Err(WalError::corrupt(path, header::CRC as u64, expected, format!("{stored:#010x}")));
        }
        if magic != MAGIC {
            return Err(WalError::corrupt(path, 0, format!("magic {MAGIC:#018x}"), format!("{magic:#018x}")));
        }
        if version != VERSION {
            return Err(WalError::Version { path: path.to_owned(), found: version, supported: VERSION });
        }
        let header = SegmentHeader {
            block_bytes: u32_at(bytes, header::BLOCK),
            store: u64_at(bytes, header::STORE),
            node: NodeId(u64_at(bytes, header::NODE)),
            segment: u64_at(bytes, header::SEGMENT),
            next_index: u64_at(bytes, header::NEXT_INDEX),
            batch: u64_at(bytes, header::BATCH),
            chain: u32_at(bytes, header::CHAIN),
        };
        if header.next_index == 0 {
            return Err(WalError::corrupt(path, header::NEXT_INDEX as u64, "an index of at least 1", "0"));
        }
        if !valid_block_bytes(header.block_bytes) {
            let expected = "a block size of 512 to 65536 bytes, a power of two";
            return Err(WalError::corrupt(
                path,
                header::BLOCK as u64,
                expected,
                header.block_bytes.to_string(),
            ));
        }
        Ok(header)
    }

    pub(super) fn salt(&self) -> Salt {
        Salt(mix(self.store ^ mix(self.segment)))
    }
}

/// Blocks hold whole sectors and fit the smallest segment.
pub(super) fn valid_block_bytes(bytes: u32) -> bool {
    bytes.is_power_of_two() && (SECTOR as u32..=65536).contains(&bytes)
}

/// What binds a batch to its place: made of store id and segment sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salt(u64);

/// The finalizer of SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014).
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Salt {
    /// XORs `bytes`, which stand at `offset` of the segment, with the key stream. Doing it twice gives them back.
    fn whiten(self, offset: u64, bytes: &mut [u8]) {
        debug_assert!(offset.is_multiple_of(8));
        let mut state = self.0.wrapping_add((offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let key = mix(state).to_le_bytes();
            for (byte, key) in chunk.iter_mut().zip(key) {
                *byte ^= key;
            }
        }
    }

    fn crc(self, offset: u64, bytes: &[u8]) -> u32 {
        let place = crc32c::crc32c_append(crc32c::crc32c(&self.0.to_le_bytes()), &offset.to_le_bytes());
        crc32c::crc32c_append(place, bytes)
    }
}

/// Makes room for the head of a batch. Records are pushed after it.
pub(super) fn begin_batch(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(BATCH_HEAD, 0);
}

/// Closes the batch in `buffer`, which will stand at `offset`: head, commit, checksums, key stream, and zeros up to the
/// next block. Returns the CRC that the next batch is chained to.
pub(super) fn finish_batch(
    buffer: &mut Vec<u8>,
    header: &SegmentHeader,
    offset: u64,
    place: BatchPlace,
    records: u32,
    last: EntryId,
) -> u32 {
    let salt = header.salt();
    let commit_at = buffer.len();
    assert!(commit_at.is_multiple_of(RECORD_ALIGN), "records end at {commit_at}, not at a multiple of 8");
    buffer.resize(commit_at + COMMIT_BYTES, 0);
    let length = u32::try_from(buffer.len()).expect("the batch limit is below 4 GiB");

    let mut put = |at: usize, value: &[u8]| buffer[at..at + value.len()].copy_from_slice(value);
    put(head::MAGIC, &head::MARK.to_le_bytes());
    put(head::LENGTH, &length.to_le_bytes());
    put(head::BATCH, &place.batch.to_le_bytes());
    put(head::CHAIN, &place.chain.to_le_bytes());
    put(head::RECORDS, &records.to_le_bytes());
    put(commit_at + commit::MAGIC, &commit::MARK.to_le_bytes());
    put(commit_at + commit::RECORDS, &records.to_le_bytes());
    put(commit_at + commit::TERM, &last.term.to_le_bytes());
    put(commit_at + commit::INDEX, &last.index.to_le_bytes());
    let head_crc = salt.crc(offset, &buffer[..head::CRC]);
    buffer[head::CRC..head::BYTES].copy_from_slice(&head_crc.to_le_bytes());
    let end = buffer.len();
    let crc = salt.crc(offset, &buffer[..end - 4]);
    buffer[end - 4..].copy_from_slice(&crc.to_le_bytes());

    salt.whiten(offset, buffer);
    buffer.resize(buffer.len().next_multiple_of(header.block_bytes as usize), 0);
    crc
}

/// Position of a batch in the stream of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchPlace {
    pub(super) batch: u64,
    pub(super) chain: u32,
}

/// A batch that verified.
pub(super) struct Batch {
    /// Head, records and commit in the clear.
    pub(super) bytes: Vec<u8>,
    pub(super) place: BatchPlace,
    pub(super) records: u32,
    pub(super) last: EntryId,
    pub(super) crc: u32,
}

impl Batch {
    /// Where the records are in `bytes`.
    pub(super) fn records_end(&self) -> usize {
        self.bytes.len() - COMMIT_BYTES
    }
}

/// What stands at a block of a segment.
pub(super) enum Framed {
    /// It verifies.
    Batch(Batch),
    /// Nothing: the place of the head is all zeros.
    Empty,
    /// Part of a batch: some sector of it was never written.
    Torn { missing_at: u64 },
    /// Something that is neither.
    Damaged { at: u64, expected: String, found: String },
}

/// Looks at the batch that starts at `offset` of `segment`, the whole file.
pub(super) fn read_batch(segment: &[u8], header: &SegmentHeader, offset: u64) -> Framed {
    let salt = header.salt();
    let rest = &segment[offset as usize..];
    let damaged = |at: usize, expected: String, found: String| Framed::Damaged {
        at: offset + at as u64,
        expected,
        found,
    };
    if rest.iter().take(BATCH_HEAD).all(|&byte| byte == 0) {
        return Framed::Empty;
    }
    if rest.len() < BATCH_HEAD {
        return damaged(0, "a batch head of 32 bytes".into(), format!("{} bytes", rest.len()));
    }
    let mut start = [0; BATCH_HEAD];
    start.copy_from_slice(&rest[..BATCH_HEAD]);
    salt.whiten(offset, &mut start);
    let head_crc = salt.crc(offset, &start[..head::CRC]);
    let stored = u32_at(&start, head::CRC);
    if head_crc != stored || u32_at(&start, head::MAGIC) != head::MARK {
        return damaged(
            head::CRC,
            format!("batch head checksum {head_crc:#010x}"),
            format!("{stored:#010x}"),
        );
    }
    let length = u32_at(&start, head::LENGTH) as usize;
    if !(BATCH_HEAD + COMMIT_BYTES..=MAX_BATCH_BYTES).contains(&length)
        || !length.is_multiple_of(RECORD_ALIGN)
    {
        return damaged(head::LENGTH, "a possible batch length".into(), length.to_string());
    }
    if length.next_multiple_of(header.block_bytes as usize) >= rest.len() {
        let expected =
            format!("{length} bytes of a batch and a block after it (space is made durable first)");
        return damaged(rest.len(), expected, format!("the end of the file after {} bytes", rest.len()));
    }
    let mut bytes = rest[..length].to_vec();
    salt.whiten(offset, &mut bytes);
    let crc = salt.crc(offset, &bytes[..length - 4]);
    let stored = u32_at(&bytes, length - 4);
    if crc != stored {
        return match rest[..length]
            .chunks(SECTOR as usize)
            .position(|part| part.iter().all(|&byte| byte == 0))
        {
            Some(sector) => Framed::Torn { missing_at: offset + sector as u64 * SECTOR },
            None => damaged(length - 4, format!("batch checksum {crc:#010x}"), format!("{stored:#010x}")),
        };
    }
    let commit = &bytes[length - COMMIT_BYTES..];
    let batch = Batch {
        place: BatchPlace { batch: u64_at(&bytes, head::BATCH), chain: u32_at(&bytes, head::CHAIN) },
        records: u32_at(&bytes, head::RECORDS),
        last: EntryId { term: u64_at(commit, commit::TERM), index: u64_at(commit, commit::INDEX) },
        crc,
        bytes,
    };
    Framed::Batch(batch)
}
