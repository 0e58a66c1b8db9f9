//! The state on disk and on the wire: a header, checksummed blocks of records, and a trailer that must add up.
//!
//! ```text
//!   "MOONKV" version u8 reserved u8
//!   block:   length u32 | crc32c u32 | payload            payload: kind u8, then records
//!     kind 1  header    applied_index, revision           (varints, the first block)
//!     kind 2  data      key, revision, value              ascending keys
//!     kind 3  sessions  client_id, sequence, used, outcome ascending clients
//!     kind 4  trailer   keys, live_bytes, sessions, state_hash   (the last block)
//! ```
//!
//! A block's checksum is verified before its payload is looked at, and the trailer must agree with what was read: a
//! snapshot that is cut, damaged or from a state that does not hash to the same value is refused as a whole.

use std::io;

use bytes::Bytes;

use super::contents::{Pin, Summary};
use super::sessions::SessionRecord;
use crate::command::Outcome;
use crate::command::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::command::write::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// First bytes of a snapshot, with the version of the format.
const MAGIC: [u8; 8] = *b"MOONKV\x01\0";

/// A block ends after about so many bytes.
const BLOCK_BYTES: usize = 256 << 10;

/// Sessions in one block; their outcomes may carry values.
const BLOCK_SESSIONS: usize = 1024;

/// No block is longer: one record beyond [`BLOCK_BYTES`], or a block of sessions.
const MAX_BLOCK_BYTES: usize = MAX_VALUE_BYTES + super::MAX_SESSION_BYTES + (1 << 20);

/// Most bytes read in one step: a damaged length does not make the reader take its word for memory.
const READ_STEP: usize = 64 << 10;

const KIND_HEADER: u8 = 1;
const KIND_DATA: u8 = 2;
const KIND_SESSIONS: u8 = 3;
const KIND_TRAILER: u8 = 4;

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read to its end.
    #[error("cannot read snapshot: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as a snapshot of this version.
    #[error("not a snapshot of this version: begins with {0:02x?}")]
    Foreign([u8; 8]),
    /// A block is not what was written.
    #[error("snapshot block {block} is damaged: {what}")]
    Damaged {
        /// Which block, from 0.
        block: u64,
        /// What is wrong.
        what: String,
    },
    /// The blocks are whole but do not add up to what the trailer says.
    #[error("snapshot does not add up: trailer says {expected}, contents are {found}")]
    Mismatch {
        /// From the trailer.
        expected: String,
        /// What was read.
        found: String,
    },
}

/// A state at one moment, readable while the state machine goes on.
#[derive(Debug)]
pub struct Frozen {
    pin: Pin,
    summary: Summary,
}

impl Frozen {
    pub(super) fn new(pin: Pin, summary: Summary) -> Frozen {
        Frozen { pin, summary }
    }

    /// The counts at that moment.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Writes the state out, a block at a time.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn write(&self, sink: &mut dyn io::Write) -> io::Result<()> {
        sink.write_all(&MAGIC)?;
        let mut block = vec![KIND_HEADER];
        put_varint(&mut block, self.summary.applied_index);
        put_varint(&mut block, self.summary.revision);
        write_block(sink, &block)?;

        let mut after: Option<Bytes> = None;
        loop {
            let records = self.pin.data_after(after.as_ref(), BLOCK_BYTES);
            let Some((last, ..)) = records.last() else { break };
            after = Some(last.clone());
            block.clear();
            block.push(KIND_DATA);
            for (key, revision, value) in &records {
                put_bytes(&mut block, key);
                put_varint(&mut block, *revision);
                put_bytes(&mut block, value);
            }
            write_block(sink, &block)?;
        }

        let mut after: Option<u128> = None;
        loop {
            let records = self.pin.sessions_after(after, BLOCK_SESSIONS);
            let Some((last, _)) = records.last() else { break };
            after = Some(*last);
            block.clear();
            block.push(KIND_SESSIONS);
            for (client_id, record) in &records {
                block.extend_from_slice(&client_id.to_be_bytes());
                put_varint(&mut block, record.sequence);
                put_varint(&mut block, record.used);
                record.outcome.put(&mut block);
            }
            write_block(sink, &block)?;
        }

        block.clear();
        block.push(KIND_TRAILER);
        for count in trailer(&self.summary) {
            put_varint(&mut block, count);
        }
        write_block(sink, &block)
    }
}

/// What the trailer states.
fn trailer(summary: &Summary) -> [u64; 4] {
    [summary.keys, summary.live_bytes, summary.sessions, summary.state_hash]
}

fn write_block(sink: &mut dyn io::Write, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).expect("a block is bounded by one record beyond its target");
    sink.write_all(&length.to_le_bytes())?;
    sink.write_all(&crc32c::crc32c(payload).to_le_bytes())?;
    sink.write_all(payload)
}

/// What the first block states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) applied_index: u64,
    pub(super) revision: u64,
}

/// The records of one block. Keys and values are copies of their own.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) data: Vec<(Bytes, u64, Bytes)>,
    pub(super) sessions: Vec<(u128, SessionRecord)>,
}

/// Reads a snapshot block by block.
pub(super) struct SnapshotReader<'a> {
    source: &'a mut dyn io::Read,
    header: Header,
    trailer: Option<[u64; 4]>,
    block: u64,
    last_key: Option<Bytes>,
    last_client: Option<u128>,
}

impl<'a> SnapshotReader<'a> {
    /// Reads the header.
    pub(super) fn open(source: &'a mut dyn io::Read) -> Result<SnapshotReader<'a>, SnapshotError> {
        let mut magic = [0; 8];
        source.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(SnapshotError::Foreign(magic));
        }
        let header = Header { applied_index: 0, revision: 0 };
        let mut reader =
            SnapshotReader { source, header, trailer: None, block: 0, last_key: None, last_client: None };
        let (kind, mut payload) = reader.payload()?;
        if kind != KIND_HEADER {
            return Err(reader.damaged(format!("kind {kind} where the header should be")));
        }
        let header = (|| Ok((payload.varint()?, payload.varint()?)))();
        let (applied_index, revision) = header.map_err(|error: DecodeError| reader.damaged(error))?;
        payload.finish().map_err(|error| reader.damaged(error))?;
        reader.header = Header { applied_index, revision };
        Ok(reader)
    }

    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// The next block of records, or nothing after the trailer.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>, SnapshotError> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        self.block += 1;
        let (kind, mut payload) = self.payload()?;
        let mut block = Block::default();
        match kind {
            KIND_DATA => {
                while payload.remaining() > 0 {
                    let record = take_datum(&mut payload).map_err(|error| self.damaged(error))?;
                    self.check_datum(&record)?;
                    block.data.push(record);
                }
            }
            KIND_SESSIONS => {
                while payload.remaining() > 0 {
                    let record = take_session(&mut payload).map_err(|error| self.damaged(error))?;
                    self.check_session(&record)?;
                    block.sessions.push(record);
                }
            }
            KIND_TRAILER => {
                let mut counts = [0; 4];
                for count in &mut counts {
                    *count = payload.varint().map_err(|error| self.damaged(error))?;
                }
                payload.finish().map_err(|error| self.damaged(error))?;
                self.trailer = Some(counts);
                return Ok(None);
            }
            kind => return Err(self.damaged(format!("unknown kind {kind}"))),
        }
        Ok(Some(block))
    }

    /// Compares what was read with the trailer.
    pub(super) fn verify(self, found: Summary) -> Result<(), SnapshotError> {
        let expected = self.trailer.expect("next_block gives nothing only after the trailer");
        let found = trailer(&found);
        if expected == found {
            return Ok(());
        }
        let show = |[keys, bytes, sessions, hash]: [u64; 4]| {
            format!("{keys} keys, {bytes} bytes, {sessions} sessions, hash {hash:016x}")
        };
        Err(SnapshotError::Mismatch { expected: show(expected), found: show(found) })
    }

    /// Reads one block and checks it, and gives its kind and what follows.
    fn payload(&mut self) -> Result<(u8, Reader), SnapshotError> {
        let mut word = [0; 4];
        self.source.read_exact(&mut word)?;
        let length = u32::from_le_bytes(word) as usize;
        self.source.read_exact(&mut word)?;
        let expected = u32::from_le_bytes(word);
        if length > MAX_BLOCK_BYTES {
            return Err(self.damaged(format!("length {length} exceeds {MAX_BLOCK_BYTES}")));
        }
        let mut payload = Vec::new();
        while payload.len() < length {
            let start = payload.len();
            payload.resize(length.min(start + READ_STEP), 0);
            self.source.read_exact(&mut payload[start..])?;
        }
        let found = crc32c::crc32c(&payload);
        if found != expected {
            return Err(self.damaged(format!("crc32c is {found:08x}, not {expected:08x}")));
        }
        let mut reader = Reader::new(Bytes::from(payload));
        let kind = reader.byte().map_err(|error| self.damaged(error))?;
        Ok((kind, reader))
    }

    fn check_datum(&mut self, (key, revision, _): &(Bytes, u64, Bytes)) -> Result<(), SnapshotError> {
        if *revision == 0 || *revision > self.header.revision {
            return Err(self.damaged(format!("revision {revision} is not in 1..={}", self.header.revision)));
        }
        if self.last_key.as_ref().is_some_and(|last| last >= key) {
            return Err(self.damaged("keys are not in ascending order"));
        }
        self.last_key = Some(key.clone());
        Ok(())
    }

    fn check_session(&mut self, (client_id, record): &(u128, SessionRecord)) -> Result<(), SnapshotError> {
        if record.used == 0 || record.used > self.header.applied_index {
            return Err(self.damaged(format!("session used by entry {}", record.used)));
        }
        if self.last_client.is_some_and(|last| last >= *client_id) {
            return Err(self.damaged("sessions are not in ascending order"));
        }
        self.last_client = Some(*client_id);
        Ok(())
    }

    pub(super) fn damaged(&self, what: impl ToString) -> SnapshotError {
        SnapshotError::Damaged { block: self.block, what: what.to_string() }
    }
}

fn take_datum(payload: &mut Reader) -> Result<(Bytes, u64, Bytes), DecodeError> {
    let key = payload.bytes("key", MAX_KEY_BYTES)?;
    let revision = payload.varint()?;
    let value = payload.bytes("value", MAX_VALUE_BYTES)?;
    Ok((Bytes::copy_from_slice(&key), revision, Bytes::copy_from_slice(&value)))
}

fn take_session(payload: &mut Reader) -> Result<(u128, SessionRecord), DecodeError> {
    let client_id = payload.wide()?;
    let (sequence, used) = (payload.varint()?, payload.varint()?);
    let outcome = match Outcome::take(payload)? {
        Outcome::Swapped { swapped, current } => {
            Outcome::Swapped { swapped, current: current.map(|value| Bytes::copy_from_slice(&value)) }
        }
        Outcome::Stored { stored, previous } => {
            Outcome::Stored { stored, previous: previous.map(|value| Bytes::copy_from_slice(&value)) }
        }
        outcome => outcome,
    };
    Ok((client_id, SessionRecord { sequence, used, outcome }))
}
