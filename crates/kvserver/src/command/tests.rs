//! The codec: round trips, truncation, bit flips, lies about lengths.

use bytes::Bytes;
use raft_core::core::NodeId;

use super::codec::{DecodeError, Reader, put_signed, put_varint};
use super::write::{MAX_KEY_BYTES, MAX_KEYS_PER_COMMAND};
use super::*;

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn commands() -> Vec<Command> {
    let session = Some(Session { client_id: u128::MAX - 5, sequence: 300 });
    let writes = vec![
        Write::Put { key: b("k"), value: b("value") },
        Write::Append { key: b(""), value: b("x") },
        Write::Delete { keys: vec![b("a"), b("bb"), b("")] },
        Write::CompareAndSwap { key: b("k"), expected: Some(b("old")), value: b("new") },
        Write::CompareAndSwap { key: b("k"), expected: None, value: b("new") },
        Write::PutIf { key: b("k"), value: b("v"), condition: Condition::IfAbsent, return_old: true },
        Write::PutIf { key: b("k"), value: b("v"), condition: Condition::IfPresent, return_old: false },
        Write::Increment { key: b("n"), delta: i64::MIN },
        Write::PutMany { pairs: vec![(b("a"), b("1")), (b("b"), b("2"))], condition: Condition::Always },
        Write::Take { key: b("k") },
        Write::OpenSession,
    ];
    writes
        .into_iter()
        .flat_map(|write| [Command { session, write: write.clone() }, Command { session: None, write }])
        .collect()
}

fn requests() -> Vec<Request> {
    let mut requests: Vec<Request> = commands().into_iter().map(Request::Write).collect();
    requests.extend(
        [
            Read::Get { key: b("k") },
            Read::MultiGet { keys: vec![b("a"), b("b")] },
            Read::Exists { keys: vec![] },
            Read::Length { key: b("k") },
            Read::Count,
            Read::Scan { after: Some(b("m")), prefix: b("p"), limit: u32::MAX, values: true },
            Read::Scan { after: None, prefix: b(""), limit: 0, values: false },
        ]
        .map(Request::Read),
    );
    requests
}

fn answers() -> Vec<Result<Response, KvError>> {
    let outcomes = [
        Outcome::Done { revision: u64::MAX },
        Outcome::Length(5),
        Outcome::Count(0),
        Outcome::Integer(-1),
        Outcome::Swapped { swapped: false, current: Some(b("c")) },
        Outcome::Stored { stored: true, previous: None },
        Outcome::Failed(CommandError::NotAnInteger),
        Outcome::Failed(CommandError::Malformed),
    ];
    let reads = [
        ReadOutcome::Value(None),
        ReadOutcome::Value(Some(b("v"))),
        ReadOutcome::Values(vec![None, Some(b(""))]),
        ReadOutcome::Count(7),
        ReadOutcome::Length(8),
        ReadOutcome::Page(ScanPage { entries: vec![(b("k"), None), (b("l"), Some(b("v")))], more: true }),
    ];
    let errors = [
        KvError::NotAppended { reason: Refusal::NoLeader, leader: None },
        KvError::NotAppended { reason: Refusal::Skipped, leader: Some(NodeId(2)) },
        KvError::OutcomeUnknown { reason: "connection to the leader broke".to_owned() },
        KvError::Invalid { message: "größer".to_owned() },
    ];
    outcomes
        .into_iter()
        .map(|outcome| Ok(Response::Written(outcome)))
        .chain(reads.into_iter().map(|outcome| Ok(Response::Read(outcome))))
        .chain(errors.into_iter().map(Err))
        .collect()
}

#[test]
fn commands_survive_a_round_trip() {
    for command in commands() {
        assert_eq!(Command::decode(command.encode()), Ok(command));
    }
}

#[test]
fn batches_and_answers_survive_a_round_trip() {
    assert_eq!(decode_requests(encode_requests(&requests())), Ok(requests()));
    assert_eq!(decode_answers(encode_answers(&answers())), Ok(answers()));
}

#[test]
fn every_truncation_is_an_error() {
    for command in commands() {
        let whole = command.encode();
        for length in 0..whole.len() {
            assert!(Command::decode(whole.slice(..length)).is_err(), "{command:?} cut to {length} bytes");
        }
    }
    let whole = encode_requests(&requests());
    for length in 0..whole.len() {
        assert!(decode_requests(whole.slice(..length)).is_err(), "requests cut to {length} bytes");
    }
    let whole = encode_answers(&answers());
    for length in 0..whole.len() {
        assert!(decode_answers(whole.slice(..length)).is_err(), "answers cut to {length} bytes");
    }
}

/// Whatever a decoder accepts, it would write the same way: no two encodings of one value.
#[test]
fn a_flipped_bit_is_an_error_or_another_canonical_value() {
    let flips = |whole: &Bytes, check: &dyn Fn(Bytes)| {
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            check(Bytes::from(damaged));
        }
    };
    for command in commands() {
        flips(&command.encode(), &|damaged| {
            if let Ok(other) = Command::decode(damaged.clone()) {
                assert_ne!(other, command);
                assert_eq!(other.encode(), damaged);
            }
        });
    }
    flips(&encode_requests(&requests()), &|damaged| {
        if let Ok(other) = decode_requests(damaged.clone()) {
            assert_eq!(encode_requests(&other), damaged);
        }
    });
    flips(&encode_answers(&answers()), &|damaged| {
        if let Ok(other) = decode_answers(damaged.clone()) {
            assert_eq!(encode_answers(&other), damaged);
        }
    });
}

#[test]
fn trailing_bytes_and_foreign_versions_are_refused() {
    let mut bytes = commands()[0].encode().to_vec();
    bytes.push(0);
    assert_eq!(Command::decode(Bytes::from(bytes.clone())), Err(DecodeError::Trailing(1)));
    bytes.pop();
    bytes[0] = 9;
    assert_eq!(Command::decode(Bytes::from(bytes)), Err(DecodeError::Version(9)));
}

#[test]
fn lengths_beyond_the_limit_are_refused_before_memory_is_taken() {
    let mut key = vec![codec::VERSION, 0, 8];
    put_varint(&mut key, MAX_KEY_BYTES as u64 + 1);
    assert!(matches!(Command::decode(Bytes::from(key)), Err(DecodeError::TooLarge { what: "key", .. })));

    let mut keys = vec![codec::VERSION, 0, 3];
    put_varint(&mut keys, MAX_KEYS_PER_COMMAND as u64 + 1);
    assert!(matches!(Command::decode(Bytes::from(keys)), Err(DecodeError::TooLarge { what: "count", .. })));

    let mut keys = vec![codec::VERSION, 0, 3];
    put_varint(&mut keys, MAX_KEYS_PER_COMMAND as u64);
    assert!(matches!(Command::decode(Bytes::from(keys)), Err(DecodeError::Truncated { .. })));
}

#[test]
fn numbers_survive_and_padded_varints_are_refused() {
    for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(Reader::new(Bytes::from(out)).varint(), Ok(value));
    }
    for value in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
        let mut out = Vec::new();
        put_signed(&mut out, value);
        assert_eq!(Reader::new(Bytes::from(out)).signed(), Ok(value));
    }
    for bad in [&[0x80, 0x00][..], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]]
    {
        assert_eq!(Reader::new(Bytes::copy_from_slice(bad)).varint(), Err(DecodeError::Varint), "{bad:?}");
    }
}

#[test]
fn oversize_messages_are_cut_to_what_a_decoder_accepts() {
    let answer = vec![Err(KvError::OutcomeUnknown { reason: "ä".repeat(4_000) })];
    let decoded = decode_answers(encode_answers(&answer)).unwrap();
    assert!(matches!(&decoded[0], Err(KvError::OutcomeUnknown { reason }) if reason.len() == 4_096));
}

#[test]
fn limits_name_what_is_too_large() {
    let limits = Limits { key_bytes: 4, value_bytes: 8, keys: 2, command_bytes: 20 };
    let put = |key: &'static str, value: &'static str| Write::Put { key: b(key), value: b(value) };
    assert_eq!(put("1234", "12345678").check(&limits), Ok(()));
    assert_eq!(put("12345", "").check(&limits), Err(CommandError::KeyTooLarge));
    assert_eq!(put("", "123456789").check(&limits), Err(CommandError::ValueTooLarge));
    let keys = Write::Delete { keys: vec![b("a"), b("b"), b("c")] };
    assert_eq!(keys.check(&limits), Err(CommandError::TooManyKeys));
    let cas = Write::CompareAndSwap { key: b("k"), expected: Some(b("123456789")), value: b("") };
    assert_eq!(cas.check(&limits), Err(CommandError::ValueTooLarge));
    let many = Write::PutMany {
        pairs: vec![(b("1234"), b("1234")), (b("1234"), b("1234"))],
        condition: Condition::Always,
    };
    assert_eq!(many.check(&limits), Err(CommandError::CommandTooLarge));
}
