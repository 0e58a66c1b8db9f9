//! Tests of the codec: what goes in comes out, and no bytes make it panic.

use super::*;
use crate::core::EntryKind;
use crate::sim::rng::Rng;

const CLUSTER: u64 = 0xc1;

fn id(random: &mut Rng) -> EntryId {
    EntryId { term: random.draw() >> random.below(64), index: random.draw() >> (1 + random.below(63)) }
}

fn random_message(random: &mut Rng) -> Message {
    let body = match random.below(8) {
        0 => Body::RequestVote(RequestVote {
            last: id(random),
            pre_vote: random.chance(0.5),
            leader_transfer: random.chance(0.5),
        }),
        1 => Body::VoteResponse(VoteResponse { granted: random.chance(0.5), pre_vote: random.chance(0.5) }),
        2 => {
            let prev = id(random);
            let mut entries = Vec::new();
            for offset in 0..random.below(5) {
                let kind = *random.pick(&[EntryKind::Command, EntryKind::Noop, EntryKind::ConfChange]);
                let data = (0..random.below(100)).map(|_| random.draw() as u8).collect();
                let id = EntryId { term: random.draw(), index: prev.index + 1 + offset };
                entries.push(Entry { id, kind, data });
            }
            Body::AppendEntries(AppendEntries { prev, entries, commit_index: random.draw() })
        }
        3 => Body::AppendResponse(AppendResponse::Accepted { match_index: random.draw() }),
        4 => Body::AppendResponse(AppendResponse::Rejected(AppendRejection {
            rejected_index: random.draw(),
            hint: id(random),
        })),
        5 => Body::Heartbeat(Heartbeat { commit_index: random.draw(), read_token: random.draw() }),
        6 => Body::HeartbeatResponse(HeartbeatResponse { read_token: random.draw() }),
        _ => Body::TimeoutNow,
    };
    Message { from: NodeId(1), to: NodeId(2), term: random.draw(), body }
}

fn random_chunk(random: &mut Rng) -> SnapshotChunk {
    SnapshotChunk {
        from: NodeId(4),
        to: NodeId(0),
        term: random.draw(),
        meta: random_meta(random),
        total: random.draw(),
        offset: random.draw(),
        data: (0..random.below(200)).map(|_| random.draw() as u8).collect(),
    }
}

fn random_meta(random: &mut Rng) -> SnapshotMeta {
    let voters = (0..random.below(6)).map(|_| NodeId(random.draw())).collect();
    SnapshotMeta { last: id(random), conf: ConfState { voters } }
}

fn random_ack(random: &mut Rng) -> SnapshotAck {
    match random.below(7) {
        0 => SnapshotAck::Wanted { offset: random.draw() },
        1 => SnapshotAck::Complete(random_meta(random)),
        2 => SnapshotAck::Refused(ChunkRefusal::Stale),
        3 => SnapshotAck::Refused(ChunkRefusal::TooLarge),
        4 => SnapshotAck::Refused(ChunkRefusal::Malformed),
        5 => SnapshotAck::Refused(ChunkRefusal::Damaged),
        _ => SnapshotAck::Refused(ChunkRefusal::Unavailable),
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let mut random = Rng::new(1, "codec");
    for _ in 0..2000 {
        let messages: Vec<Message> = (0..=random.below(4)).map(|_| random_message(&mut random)).collect();
        assert_eq!(decode_messages(CLUSTER, encode_messages(CLUSTER, &messages)).unwrap(), messages);
        let chunk = random_chunk(&mut random);
        assert_eq!(decode_chunk(CLUSTER, encode_chunk(CLUSTER, &chunk)).unwrap(), chunk);
        let ack = random_ack(&mut random);
        assert_eq!(decode_ack(CLUSTER, encode_ack(CLUSTER, NodeId(0), NodeId(4), &ack)).unwrap(), ack);
    }
}

/// All three decoders on the same bytes: at most one may accept, none may panic.
fn accepted(bytes: &Bytes) -> usize {
    usize::from(decode_messages(CLUSTER, bytes.clone()).is_ok())
        + usize::from(decode_chunk(CLUSTER, bytes.clone()).is_ok())
        + usize::from(decode_ack(CLUSTER, bytes.clone()).is_ok())
}

fn frames(random: &mut Rng) -> [Bytes; 3] {
    let messages: Vec<Message> = (0..3).map(|_| random_message(random)).collect();
    [
        encode_messages(CLUSTER, &messages),
        encode_chunk(CLUSTER, &random_chunk(random)),
        encode_ack(CLUSTER, NodeId(0), NodeId(4), &random_ack(random)),
    ]
}

#[test]
fn truncated_frames_are_refused() {
    let mut random = Rng::new(2, "codec");
    for _ in 0..20 {
        for frame in frames(&mut random) {
            assert_eq!(accepted(&frame), 1);
            for length in 0..frame.len() {
                assert_eq!(accepted(&frame.slice(..length)), 0, "{length} bytes of {}", frame.len());
            }
        }
    }
}

#[test]
fn flipped_bits_are_noticed() {
    let mut random = Rng::new(3, "codec");
    for _ in 0..10 {
        for frame in frames(&mut random) {
            for bit in 0..frame.len() * 8 {
                let mut damaged = frame.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(accepted(&damaged.into()), 0, "bit {bit}");
            }
        }
    }
}

#[test]
fn hostile_bytes_with_a_right_checksum_do_no_harm() {
    let mut random = Rng::new(4, "codec");
    for _ in 0..20_000 {
        let frame = random.pick(&frames(&mut random.clone())).clone();
        let mut bytes = frame.to_vec();
        for _ in 0..=random.below(4) {
            // The head stays, so that the body is looked at.
            let at = HEAD_BYTES + random.below((bytes.len() - HEAD_BYTES).max(1) as u64) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
            }
        }
        let crc = frame_crc(&bytes);
        bytes[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
        assert!(accepted(&bytes.into()) <= 1);
        random.draw();
    }
}

#[test]
fn frames_of_another_cluster_or_version_are_refused() {
    let message = Message { from: NodeId(1), to: NodeId(2), term: 3, body: Body::TimeoutNow };
    let frame = encode_messages(7, std::slice::from_ref(&message));
    let error = decode_messages(CLUSTER, frame).unwrap_err();
    assert_eq!(error, CodecError::WrongCluster { expected: CLUSTER, found: 7 });
    let mut newer = encode_messages(CLUSTER, &[message]).to_vec();
    newer[0] = 2;
    let error = decode_messages(CLUSTER, newer.into()).unwrap_err();
    assert_eq!(error, CodecError::Impossible { field: "version", value: 2 });
}
