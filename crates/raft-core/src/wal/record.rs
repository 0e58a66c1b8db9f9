//! One record of a batch: an entry, the hard state, or a snapshot mark. The byte map is in the [module](super) docs.

use bytes::Bytes;

use crate::core::{ConfState, Entry, EntryId, EntryKind, HardState, NodeId, SnapshotMeta};

const KIND: usize = 0;
const DETAIL: usize = KIND + 1;
const RESERVED: usize = DETAIL + 1;
const LENGTH: usize = RESERVED + 2;
const TERM: usize = LENGTH + 4;
const INDEX: usize = TERM + 8;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEAD: usize = INDEX + 8;
const _: () =
    assert!(RECORD_HEAD == 24 && RECORD_HEAD.is_multiple_of(8), "the byte map in wal/mod.rs says 24");

/// Records start at multiples of this within a batch.
pub(super) const RECORD_ALIGN: usize = 8;

/// The most voters a snapshot mark can name; far above any cluster, checked before memory is taken.
const MAX_VOTERS: usize = 1024;

const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_SNAPSHOT: u8 = 3;

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry(Entry),
    HardState(HardState),
    /// Everything up to `meta.last` is in a snapshot; unless `keeps_suffix`, the log holds nothing after it either.
    Snapshot {
        meta: SnapshotMeta,
        keeps_suffix: bool,
    },
}

/// Bytes that an entry of `payload` bytes takes.
pub(super) const fn record_bytes(payload: usize) -> usize {
    (RECORD_HEAD + payload).next_multiple_of(RECORD_ALIGN)
}

fn push_head(out: &mut Vec<u8>, kind: u8, detail: u8, length: usize, id: EntryId) {
    let length = u32::try_from(length).expect("payload lengths are checked before encoding");
    out.extend_from_slice(&[kind, detail, 0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&id.term.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(RECORD_ALIGN), 0);
}

/// The byte that stands for a kind of entry, here and on the wire.
pub(crate) fn entry_kind_byte(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Command => 0,
        EntryKind::Noop => 1,
        EntryKind::ConfChange => 2,
    }
}

/// The kind of entry that a byte stands for.
pub(crate) fn entry_kind(byte: u8) -> Option<EntryKind> {
    match byte {
        0 => Some(EntryKind::Command),
        1 => Some(EntryKind::Noop),
        2 => Some(EntryKind::ConfChange),
        _ => None,
    }
}

/// Appends an entry. `out` is a multiple of [`RECORD_ALIGN`] long before and after.
pub(super) fn push_entry(out: &mut Vec<u8>, entry: &Entry) {
    push_head(out, KIND_ENTRY, entry_kind_byte(entry.kind), entry.data.len(), entry.id);
    out.extend_from_slice(&entry.data);
    pad(out);
}

/// Appends the hard state.
pub(super) fn push_hard_state(out: &mut Vec<u8>, hard_state: &HardState) {
    let id = EntryId { term: hard_state.term, index: hard_state.commit_index };
    push_head(out, KIND_HARD_STATE, u8::from(hard_state.voted_for.is_some()), 8, id);
    out.extend_from_slice(&hard_state.voted_for.map_or(0, |node| node.0).to_le_bytes());
}

/// Appends a snapshot mark.
pub(super) fn push_snapshot(out: &mut Vec<u8>, meta: &SnapshotMeta, keeps_suffix: bool) {
    push_head(out, KIND_SNAPSHOT, u8::from(keeps_suffix), meta.conf.voters.len() * 8, meta.last);
    for voter in &meta.conf.voters {
        out.extend_from_slice(&voter.0.to_le_bytes());
    }
}

/// Decodes the record at `at` of a batch whose checksum was verified, and says where the next one starts.
///
/// # Errors
/// What is wrong: the checksum matched, so this is a bug of the writer or another version of it.
pub(super) fn decode(batch: &Bytes, at: usize, end: usize) -> Result<(Record, usize), String> {
    if end - at < RECORD_HEAD {
        return Err(format!("a record head in the {} bytes left of the batch", end - at));
    }
    let head = &batch[at..at + RECORD_HEAD];
    let length = u32_at(head, LENGTH) as usize;
    let next = at + record_bytes(length);
    if next > end {
        return Err(format!("a payload of {length} bytes in the {} bytes left of the batch", end - at));
    }
    let payload = at + RECORD_HEAD..at + RECORD_HEAD + length;
    let id = EntryId { term: u64_at(head, TERM), index: u64_at(head, INDEX) };
    let detail = head[DETAIL];
    let record = match head[KIND] {
        KIND_ENTRY => {
            let kind = entry_kind(detail).ok_or_else(|| format!("entry kind {detail}"))?;
            Record::Entry(Entry { id, kind, data: batch.slice(payload) })
        }
        KIND_HARD_STATE if length == 8 => {
            let voted_for = (detail == 1).then(|| NodeId(u64_at(&batch[payload], 0)));
            Record::HardState(HardState { term: id.term, voted_for, commit_index: id.index })
        }
        KIND_SNAPSHOT if length.is_multiple_of(8) && length / 8 <= MAX_VOTERS => {
            let voters = batch[payload].chunks_exact(8).map(|voter| NodeId(u64_at(voter, 0))).collect();
            Record::Snapshot {
                meta: SnapshotMeta { last: id, conf: ConfState { voters } },
                keeps_suffix: detail == 1,
            }
        }
        kind => return Err(format!("record kind {kind} with {length} bytes")),
    };
    Ok((record, next))
}

/// Reads a little-endian number.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of 4 bytes"))
}

/// Reads a little-endian number.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of 8 bytes"))
}
