//! Header and trailer of a snapshot file. The byte map is in the [module](super) docs.

use std::path::Path;

use crate::core::{ConfState, EntryId, NodeId, SnapshotMeta};

use super::error::SnapshotError;

const MAGIC: u64 = u64::from_le_bytes(*b"MOONSNAP");
const END_MAGIC: u64 = u64::from_le_bytes(*b"SNAPEND\0");
const VERSION: u32 = 1;

const VERSION_AT: usize = 8;
const VOTER_COUNT_AT: usize = VERSION_AT + 4;
const TERM_AT: usize = VOTER_COUNT_AT + 4;
const INDEX_AT: usize = TERM_AT + 8;
/// Bytes of the header before the voters.
pub(super) const FIXED_BYTES: usize = INDEX_AT + 8;
const _: () = assert!(FIXED_BYTES == 32, "the byte map in snapshot/mod.rs says 32");

/// Bytes of the trailer.
pub(super) const TRAILER_BYTES: usize = 8 + 8 + 4 + 4;
const _: () = assert!(TRAILER_BYTES == 24, "the byte map in snapshot/mod.rs says 24");

/// More voters than any cluster has; checked before memory is taken.
const MAX_VOTERS: usize = 1024;

/// Bytes of a header with this many voters.
pub(super) const fn header_bytes(voters: usize) -> usize {
    FIXED_BYTES + 8 * voters + 8
}

/// The largest header.
pub(super) const MAX_HEADER_BYTES: usize = header_bytes(MAX_VOTERS);

pub(super) fn encode_header(meta: &SnapshotMeta) -> Vec<u8> {
    let voters = &meta.conf.voters;
    let mut bytes = Vec::with_capacity(header_bytes(voters.len()));
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(voters.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&meta.last.term.to_le_bytes());
    bytes.extend_from_slice(&meta.last.index.to_le_bytes());
    for voter in voters {
        bytes.extend_from_slice(&voter.0.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// Decodes the header at the start of `bytes`, which is the start of the file.
pub(super) fn decode_header(path: &Path, bytes: &[u8]) -> Result<(SnapshotMeta, usize), SnapshotError> {
    let corrupt = |expected: &str, found: String| Err(SnapshotError::corrupt(path, expected, found));
    if bytes.len() < FIXED_BYTES {
        return corrupt("a header of at least 32 bytes", format!("{} bytes", bytes.len()));
    }
    if u64_at(bytes, 0) != MAGIC {
        return corrupt("the magic MOONSNAP", format!("{:#018x}", u64_at(bytes, 0)));
    }
    let version = u32_at(bytes, VERSION_AT);
    if version != VERSION {
        return Err(SnapshotError::Version { path: path.to_owned(), found: version, supported: VERSION });
    }
    let count = u32_at(bytes, VOTER_COUNT_AT) as usize;
    if count > MAX_VOTERS || bytes.len() < header_bytes(count) {
        return corrupt("a header that fits its file", format!("{count} voters"));
    }
    let end = FIXED_BYTES + 8 * count;
    let (crc, stored) = (crc32c::crc32c(&bytes[..end]), u32_at(bytes, end));
    if crc != stored {
        return corrupt(&format!("header checksum {crc:#010x}"), format!("{stored:#010x}"));
    }
    let voters = bytes[FIXED_BYTES..end].chunks_exact(8).map(|voter| NodeId(u64_at(voter, 0))).collect();
    let last = EntryId { term: u64_at(bytes, TERM_AT), index: u64_at(bytes, INDEX_AT) };
    Ok((SnapshotMeta { last, conf: ConfState { voters } }, header_bytes(count)))
}

/// The trailer after `state_bytes` of state; `crc` is that of everything before it.
pub(super) fn encode_trailer(state_bytes: u64, crc: u32) -> [u8; TRAILER_BYTES] {
    let mut bytes = [0; TRAILER_BYTES];
    bytes[..8].copy_from_slice(&END_MAGIC.to_le_bytes());
    bytes[8..16].copy_from_slice(&state_bytes.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[..TRAILER_BYTES - 4]);
    bytes[TRAILER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks the trailer of a file with `state_bytes` of state, `crc` being that of everything before it.
pub(super) fn check_trailer(
    path: &Path,
    bytes: &[u8],
    state_bytes: u64,
    crc: u32,
) -> Result<(), SnapshotError> {
    let expected = encode_trailer(state_bytes, crc);
    if bytes == expected {
        return Ok(());
    }
    Err(SnapshotError::corrupt(path, format!("trailer {expected:02x?}"), format!("{bytes:02x?}")))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of 4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of 8 bytes"))
}
