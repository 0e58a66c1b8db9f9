//! Messages, chunks and answers as bytes. Nothing a peer sends is believed before it is checked.
//!
//! ```text
//! frame     0  u8   version        4  u32  CRC32C of everything but this     16  u64  from
//!           1  u8   kind           8  u64  cluster                           24  u64  to
//!           2  u16  count         32  body
//!
//! messages  `count` times: u8 tag, u8 flags, u64 term, then by tag
//!           1 RequestVote      last term, last index               flags: 1 PreVote, 2 leadership transfer
//!           2 VoteResponse                                         flags: 1 granted, 2 PreVote
//!           3 AppendEntries    prev term, prev index, commit, u32 count, entries of: u8 kind, u32 bytes, u64 term, data
//!           4 AppendResponse   match index                         (accepted)
//!           5 AppendResponse   refused index, hint term, hint index
//!           6 Heartbeat        commit, read token
//!           7 HeartbeatResponse  read token
//!           8 TimeoutNow
//! chunk     term, total, offset, last term, last index, u32 voters, u64 each, then data
//! answer    `count` = 0 wanted: offset | 1 complete: last term, last index, u32 voters, u64 each | 2.. refused
//! ```
//!
//! All numbers are little-endian, u64 where nothing is said. Entries and data are slices of the frame, not copies.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::core::{
    AppendEntries, AppendRejection, AppendResponse, Body, ConfState, Entry, EntryId, Heartbeat,
    HeartbeatResponse, Message, NodeId, RequestVote, SnapshotMeta, VoteResponse,
};
use crate::snapshot::{ChunkRefusal, SnapshotAck, SnapshotChunk};
use crate::wal::{entry_kind, entry_kind_byte};

const VERSION: u8 = 1;
const CRC_AT: usize = 4;
const CRC_END: usize = CRC_AT + 4;
/// Bytes of a frame before its body.
const HEAD_BYTES: usize = CRC_END + 8 * 3;
const _: () = assert!(HEAD_BYTES == 32, "the byte map above says 32");

const KIND_MESSAGES: u8 = 1;
const KIND_CHUNK: u8 = 2;
const KIND_ANSWER: u8 = 3;

/// More voters than any cluster has; checked before memory is taken.
const MAX_VOTERS: usize = 1024;

/// The most messages in a frame.
pub const MAX_MESSAGES: usize = 1024;

/// Why bytes are no frame for this node. The sender is not to be trusted; its bytes are dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The frame ends too early, or a length in it does not fit.
    #[error("the frame is too short for its {0}")]
    Short(&'static str),
    /// It was damaged on the way.
    #[error("frame checksum {found:#010x} instead of {expected:#010x}")]
    Checksum {
        /// That of the bytes.
        expected: u32,
        /// The one that came with them.
        found: u32,
    },
    /// A field has an impossible value.
    #[error("impossible {field}: {value}")]
    Impossible {
        /// Which.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// It comes from another cluster.
    #[error("the frame is of cluster {found:#x}, this is {expected:#x}")]
    WrongCluster {
        /// Ours.
        expected: u64,
        /// Theirs.
        found: u64,
    },
    /// There are bytes after the end.
    #[error("{0} bytes follow the frame")]
    Trailing(usize),
}

/// Encodes messages to one node. All must have the same sender and receiver.
pub fn encode_messages(cluster: u64, messages: &[Message]) -> Bytes {
    assert!((1..=MAX_MESSAGES).contains(&messages.len()), "{} messages in a frame", messages.len());
    let (from, to) = (messages[0].from, messages[0].to);
    let size: usize = messages.iter().map(message_bytes).sum();
    let mut out = begin(KIND_MESSAGES, messages.len() as u16, cluster, from, to, size);
    for message in messages {
        debug_assert_eq!((message.from, message.to), (from, to));
        put_message(&mut out, message);
    }
    finish(out)
}

/// Decodes what [`encode_messages`] made.
///
/// # Errors
/// Whatever does not fit.
pub fn decode_messages(cluster: u64, frame: Bytes) -> Result<Vec<Message>, CodecError> {
    let (head, mut body) = open(cluster, KIND_MESSAGES, frame)?;
    let count = usize::from(head.count);
    if count > MAX_MESSAGES {
        return Err(CodecError::Impossible { field: "message count", value: count as u64 });
    }
    let messages = (0..count).map(|_| get_message(&mut body, &head)).collect::<Result<Vec<_>, _>>()?;
    finished(&body)?;
    Ok(messages)
}

/// Encodes a piece of a snapshot.
pub fn encode_chunk(cluster: u64, chunk: &SnapshotChunk) -> Bytes {
    let mut out = begin(KIND_CHUNK, 0, cluster, chunk.from, chunk.to, chunk.data.len() + 64);
    out.put_u64_le(chunk.term);
    out.put_u64_le(chunk.total);
    out.put_u64_le(chunk.offset);
    put_meta(&mut out, &chunk.meta);
    out.put_slice(&chunk.data);
    finish(out)
}

/// Decodes what [`encode_chunk`] made.
///
/// # Errors
/// Whatever does not fit.
pub fn decode_chunk(cluster: u64, frame: Bytes) -> Result<SnapshotChunk, CodecError> {
    let (head, mut body) = open(cluster, KIND_CHUNK, frame)?;
    let term = get_u64(&mut body)?;
    let total = get_u64(&mut body)?;
    let offset = get_u64(&mut body)?;
    let meta = get_meta(&mut body)?;
    Ok(SnapshotChunk { from: head.from, to: head.to, term, meta, total, offset, data: body })
}

/// Encodes the answer of `from` to a chunk of `to`.
pub fn encode_ack(cluster: u64, from: NodeId, to: NodeId, ack: &SnapshotAck) -> Bytes {
    let code = match ack {
        SnapshotAck::Wanted { .. } => 0,
        SnapshotAck::Complete(_) => 1,
        SnapshotAck::Refused(ChunkRefusal::Stale) => 2,
        SnapshotAck::Refused(ChunkRefusal::TooLarge) => 3,
        SnapshotAck::Refused(ChunkRefusal::Malformed) => 4,
        SnapshotAck::Refused(ChunkRefusal::Damaged) => 5,
        SnapshotAck::Refused(ChunkRefusal::Unavailable) => 6,
    };
    let mut out = begin(KIND_ANSWER, code, cluster, from, to, 64);
    match ack {
        SnapshotAck::Wanted { offset } => out.put_u64_le(*offset),
        SnapshotAck::Complete(meta) => put_meta(&mut out, meta),
        SnapshotAck::Refused(_) => {}
    }
    finish(out)
}

/// Decodes what [`encode_ack`] made.
///
/// # Errors
/// Whatever does not fit.
pub fn decode_ack(cluster: u64, frame: Bytes) -> Result<SnapshotAck, CodecError> {
    let (head, mut body) = open(cluster, KIND_ANSWER, frame)?;
    let ack = match head.count {
        0 => SnapshotAck::Wanted { offset: get_u64(&mut body)? },
        1 => SnapshotAck::Complete(get_meta(&mut body)?),
        2 => SnapshotAck::Refused(ChunkRefusal::Stale),
        3 => SnapshotAck::Refused(ChunkRefusal::TooLarge),
        4 => SnapshotAck::Refused(ChunkRefusal::Malformed),
        5 => SnapshotAck::Refused(ChunkRefusal::Damaged),
        6 => SnapshotAck::Refused(ChunkRefusal::Unavailable),
        code => return Err(CodecError::Impossible { field: "answer", value: u64::from(code) }),
    };
    finished(&body)?;
    Ok(ack)
}

struct Head {
    count: u16,
    from: NodeId,
    to: NodeId,
}

fn begin(kind: u8, count: u16, cluster: u64, from: NodeId, to: NodeId, body: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + body);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16_le(count);
    out.put_u32_le(0);
    out.put_u64_le(cluster);
    out.put_u64_le(from.0);
    out.put_u64_le(to.0);
    out
}

fn frame_crc(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[CRC_END..])
}

fn finish(mut out: BytesMut) -> Bytes {
    let crc = frame_crc(&out);
    out[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
    out.freeze()
}

fn open(cluster: u64, kind: u8, mut frame: Bytes) -> Result<(Head, Bytes), CodecError> {
    if frame.len() < HEAD_BYTES {
        return Err(CodecError::Short("head"));
    }
    let expected = frame_crc(&frame);
    let version = frame.get_u8();
    let found_kind = frame.get_u8();
    let count = frame.get_u16_le();
    let found = frame.get_u32_le();
    if version != VERSION {
        return Err(CodecError::Impossible { field: "version", value: u64::from(version) });
    }
    if found != expected {
        return Err(CodecError::Checksum { expected, found });
    }
    if found_kind != kind {
        return Err(CodecError::Impossible { field: "kind of frame", value: u64::from(found_kind) });
    }
    let found = frame.get_u64_le();
    if found != cluster {
        return Err(CodecError::WrongCluster { expected: cluster, found });
    }
    let from = NodeId(frame.get_u64_le());
    let to = NodeId(frame.get_u64_le());
    Ok((Head { count, from, to }, frame))
}

fn finished(body: &Bytes) -> Result<(), CodecError> {
    if body.is_empty() { Ok(()) } else { Err(CodecError::Trailing(body.len())) }
}

fn message_bytes(message: &Message) -> usize {
    match &message.body {
        Body::AppendEntries(append) => {
            40 + append.entries.iter().map(|entry| 13 + entry.data.len()).sum::<usize>()
        }
        _ => 40,
    }
}

fn put_message(out: &mut BytesMut, message: &Message) {
    let mut head = |tag: u8, flags: u8| {
        out.put_u8(tag);
        out.put_u8(flags);
        out.put_u64_le(message.term);
    };
    let flags = |first: bool, second: bool| u8::from(first) | u8::from(second) << 1;
    match &message.body {
        Body::RequestVote(request) => {
            head(1, flags(request.pre_vote, request.leader_transfer));
            put_id(out, request.last);
        }
        Body::VoteResponse(response) => head(2, flags(response.granted, response.pre_vote)),
        Body::AppendEntries(append) => {
            head(3, 0);
            put_id(out, append.prev);
            out.put_u64_le(append.commit_index);
            out.put_u32_le(append.entries.len() as u32);
            for (position, entry) in append.entries.iter().enumerate() {
                debug_assert_eq!(entry.id.index, append.prev.index + 1 + position as u64);
                out.put_u8(entry_kind_byte(entry.kind));
                out.put_u32_le(entry.data.len() as u32);
                out.put_u64_le(entry.id.term);
                out.put_slice(&entry.data);
            }
        }
        Body::AppendResponse(AppendResponse::Accepted { match_index }) => {
            head(4, 0);
            out.put_u64_le(*match_index);
        }
        Body::AppendResponse(AppendResponse::Rejected(rejection)) => {
            head(5, 0);
            out.put_u64_le(rejection.rejected_index);
            put_id(out, rejection.hint);
        }
        Body::Heartbeat(heartbeat) => {
            head(6, 0);
            out.put_u64_le(heartbeat.commit_index);
            out.put_u64_le(heartbeat.read_token);
        }
        Body::HeartbeatResponse(response) => {
            head(7, 0);
            out.put_u64_le(response.read_token);
        }
        Body::TimeoutNow => head(8, 0),
    }
}

fn get_message(body: &mut Bytes, head: &Head) -> Result<Message, CodecError> {
    if body.len() < 10 {
        return Err(CodecError::Short("message"));
    }
    let (tag, flags, term) = (body.get_u8(), body.get_u8(), body.get_u64_le());
    let (first, second) = (flags & 1 != 0, flags & 2 != 0);
    let content = match tag {
        1 => Body::RequestVote(RequestVote { last: get_id(body)?, pre_vote: first, leader_transfer: second }),
        2 => Body::VoteResponse(VoteResponse { granted: first, pre_vote: second }),
        3 => Body::AppendEntries(get_append(body)?),
        4 => Body::AppendResponse(AppendResponse::Accepted { match_index: get_u64(body)? }),
        5 => Body::AppendResponse(AppendResponse::Rejected(AppendRejection {
            rejected_index: get_u64(body)?,
            hint: get_id(body)?,
        })),
        6 => Body::Heartbeat(Heartbeat { commit_index: get_u64(body)?, read_token: get_u64(body)? }),
        7 => Body::HeartbeatResponse(HeartbeatResponse { read_token: get_u64(body)? }),
        8 => Body::TimeoutNow,
        tag => return Err(CodecError::Impossible { field: "kind of message", value: u64::from(tag) }),
    };
    Ok(Message { from: head.from, to: head.to, term, body: content })
}

fn get_append(body: &mut Bytes) -> Result<AppendEntries, CodecError> {
    const ENTRY_HEAD: usize = 1 + 4 + 8;
    let prev = get_id(body)?;
    let commit_index = get_u64(body)?;
    let count = get_u32(body)? as usize;
    if count > body.len() / ENTRY_HEAD {
        return Err(CodecError::Short("entries"));
    }
    let mut index = prev.index;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        if body.len() < ENTRY_HEAD {
            return Err(CodecError::Short("entry"));
        }
        let kind = body.get_u8();
        let kind = entry_kind(kind)
            .ok_or(CodecError::Impossible { field: "kind of entry", value: u64::from(kind) })?;
        let length = body.get_u32_le() as usize;
        let term = body.get_u64_le();
        if length > body.len() {
            return Err(CodecError::Short("entry"));
        }
        index = index.checked_add(1).ok_or(CodecError::Impossible { field: "index", value: index })?;
        entries.push(Entry { id: EntryId { term, index }, kind, data: body.split_to(length) });
    }
    Ok(AppendEntries { prev, entries, commit_index })
}

fn put_id(out: &mut BytesMut, id: EntryId) {
    out.put_u64_le(id.term);
    out.put_u64_le(id.index);
}

fn put_meta(out: &mut BytesMut, meta: &SnapshotMeta) {
    put_id(out, meta.last);
    out.put_u32_le(meta.conf.voters.len() as u32);
    for voter in &meta.conf.voters {
        out.put_u64_le(voter.0);
    }
}

fn get_meta(body: &mut Bytes) -> Result<SnapshotMeta, CodecError> {
    let last = get_id(body)?;
    let count = get_u32(body)? as usize;
    if count > MAX_VOTERS {
        return Err(CodecError::Impossible { field: "number of voters", value: count as u64 });
    }
    let voters = (0..count).map(|_| get_u64(body).map(NodeId)).collect::<Result<Vec<_>, _>>()?;
    Ok(SnapshotMeta { last, conf: ConfState { voters } })
}

fn get_id(body: &mut Bytes) -> Result<EntryId, CodecError> {
    Ok(EntryId { term: get_u64(body)?, index: get_u64(body)? })
}

fn get_u64(body: &mut Bytes) -> Result<u64, CodecError> {
    if body.len() < 8 {
        return Err(CodecError::Short("number"));
    }
    Ok(body.get_u64_le())
}

fn get_u32(body: &mut Bytes) -> Result<u32, CodecError> {
    if body.len() < 4 {
        return Err(CodecError::Short("number"));
    }
    Ok(body.get_u32_le())
}

#[cfg(test)]
mod tests;
