//! The parser against every split, truncation and damage of its input.

use super::*;

fn words(batch: &Batch) -> Vec<Vec<Vec<u8>>> {
    batch.iter().map(|request| request.tail(0).map(<[u8]>::to_vec).collect()).collect()
}

/// Feeds `pieces` one by one and collects every request up to the first error.
fn feed<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>, BytesMut) {
    let mut decoder = Decoder::new(limits);
    let mut buffer = BytesMut::new();
    let mut batch = Batch::default();
    let mut seen = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let outcome = decoder.decode(&mut buffer, &mut batch);
            seen.extend(words(&batch));
            if let Err(error) = outcome {
                return (seen, Some(error), buffer);
            }
            if batch.is_empty() {
                break;
            }
        }
    }
    (seen, None, buffer)
}

fn one(input: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let (seen, error, _) = feed(Limits::default(), [input]);
    (seen, error)
}

fn encode(requests: &[&[&[u8]]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend(format!("*{}\r\n", request.len()).bytes());
        for word in *request {
            bytes.extend(format!("${}\r\n", word.len()).bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

/// A small xorshift; the seed is in the test, so a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

const MIXED: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhe\r\no\r\nPING\r\n\r\n*0\r\nset \"a b\" 'c'\n*1\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

#[test]
fn array_and_inline_requests_are_decoded() {
    let (seen, error) = one(MIXED);
    assert_eq!(error, None);
    let expected: Vec<Vec<&[u8]>> = vec![
        vec![b"SET", b"a", b"he\r\no"],
        vec![b"PING"],
        vec![b"set", b"a b", b"c"],
        vec![b""],
        vec![b"GET", b"a"],
    ];
    assert_eq!(seen, expected);
}

#[test]
fn every_split_in_two_gives_the_same_requests() {
    let (whole, _) = one(MIXED);
    for cut in 0..=MIXED.len() {
        let (seen, error, rest) = feed(Limits::default(), [&MIXED[..cut], &MIXED[cut..]]);
        assert_eq!((&seen, error), (&whole, None), "cut at {cut}");
        assert!(rest.is_empty(), "cut at {cut}");
    }
}

#[test]
fn single_bytes_give_the_same_requests() {
    let (whole, _) = one(MIXED);
    let (seen, error, _) = feed(Limits::default(), MIXED.chunks(1));
    assert_eq!((seen, error), (whole, None));
}

#[test]
fn truncated_input_gives_a_prefix_and_no_error() {
    let (whole, _) = one(MIXED);
    for cut in 0..MIXED.len() {
        let (seen, error) = one(&MIXED[..cut]);
        assert_eq!(error, None, "cut at {cut}");
        assert_eq!(seen, whole[..seen.len()], "cut at {cut}");
    }
}

#[test]
fn random_binary_requests_round_trip_under_random_splits() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..200 {
        let requests: Vec<Vec<Vec<u8>>> = (0..1 + random.below(20))
            .map(|_| {
                (0..1 + random.below(5))
                    .map(|_| (0..random.below(40)).map(|_| random.next() as u8).collect())
                    .collect()
            })
            .collect();
        let borrowed: Vec<Vec<&[u8]>> =
            requests.iter().map(|request| request.iter().map(Vec::as_slice).collect()).collect();
        let borrowed: Vec<&[&[u8]]> = borrowed.iter().map(Vec::as_slice).collect();
        let bytes = encode(&borrowed);
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(1 + random.below(rest.len().min(60)));
            pieces.push(piece);
            rest = tail;
        }
        let (seen, error, _) = feed(Limits::default(), pieces);
        assert_eq!((seen, error), (requests, None), "round {round}");
    }
}

#[test]
fn flipped_bits_never_panic_and_never_depend_on_the_split() {
    for position in 0..MIXED.len() {
        for bit in 0..8 {
            let mut damaged = MIXED.to_vec();
            damaged[position] ^= 1 << bit;
            let (whole, whole_error, _) = feed(Limits::default(), [&damaged[..]]);
            let (bytewise, bytewise_error, _) = feed(Limits::default(), damaged.chunks(1));
            assert_eq!((whole, whole_error), (bytewise, bytewise_error), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn garbage_never_panics() {
    const ALPHABET: &[u8] = b"*$0123456789-\r\n\"'\\x abPING\xff\x00";
    let mut random = Random(42);
    for _ in 0..2000 {
        let length = random.below(200);
        let bytes: Vec<u8> = (0..length).map(|_| ALPHABET[random.below(ALPHABET.len())]).collect();
        let (whole, whole_error, _) = feed(Limits::default(), [&bytes[..]]);
        let (bytewise, bytewise_error, _) = feed(Limits::default(), bytes.chunks(1));
        assert_eq!((whole, whole_error), (bytewise, bytewise_error), "{bytes:?}");
    }
}

#[test]
fn requests_before_the_damage_are_kept() {
    let (seen, error) = one(b"*1\r\n$4\r\nPING\r\n*1\r\n!");
    assert_eq!(seen, vec![vec![b"PING".to_vec()]]);
    assert_eq!(error, Some(ProtocolError::ExpectedBulk(b'!')));
}

#[test]
fn limits_are_checked_before_the_bytes_come() {
    let limits =
        Limits { arguments: 4, bulk_bytes: 10, request_bytes: 40, inline_bytes: 16, batch_requests: 8 };
    let error = |input: &[u8]| feed(limits, [input]).1;
    assert_eq!(error(b"*4\r\n"), None);
    assert_eq!(error(b"*5\r\n"), Some(ProtocolError::InvalidCount));
    assert_eq!(error(b"*99999999999999999999\r\n"), Some(ProtocolError::InvalidCount));
    assert_eq!(error(b"*x\r\n"), Some(ProtocolError::InvalidCount));
    assert_eq!(error(b"*0000000000000000000001"), Some(ProtocolError::EndlessCount));
    assert_eq!(error(b"*1\r\n$10\r\n"), None);
    assert_eq!(error(b"*1\r\n$11\r\n"), Some(ProtocolError::InvalidLength));
    assert_eq!(error(b"*1\r\n$-1\r\n"), Some(ProtocolError::InvalidLength));
    assert_eq!(error(b"*1\r\n$0000000000000000000001"), Some(ProtocolError::EndlessLength));
    assert_eq!(error(b"*1\r\n$2\r\nabX"), Some(ProtocolError::Unterminated));
    assert_eq!(
        error(b"*3\r\n$10\r\n0123456789\r\n$10\r\n0123456789\r\n$10\r\n"),
        Some(ProtocolError::RequestTooBig)
    );
    assert_eq!(error(b"0123456789abcdef\r\n"), Some(ProtocolError::InlineTooBig));
    assert_eq!(error(b"0123456789abcdefg"), Some(ProtocolError::InlineTooBig));
    assert_eq!(error(b"0123456789abcde\r\n"), None);
}

#[test]
fn a_batch_ends_at_its_limit_and_the_rest_waits() {
    let limits = Limits { batch_requests: 3, ..Limits::default() };
    let mut decoder = Decoder::new(limits);
    let mut buffer = BytesMut::from(&b"PING\r\n".repeat(7)[..]);
    let mut batch = Batch::default();
    let mut sizes = Vec::new();
    for _ in 0..4 {
        decoder.decode(&mut buffer, &mut batch).unwrap();
        sizes.push(batch.len());
    }
    assert_eq!(sizes, [3, 3, 1, 0]);
}

#[test]
fn errors_are_worded_as_redis_words_them() {
    assert_eq!(ProtocolError::InvalidCount.to_string(), "Protocol error: invalid multibulk length");
    assert_eq!(ProtocolError::ExpectedBulk(b'x').to_string(), "Protocol error: expected '$', got 'x'");
    assert_eq!(ProtocolError::UnbalancedQuotes.to_string(), "Protocol error: unbalanced quotes in request");
}

#[test]
fn inline_words_are_unquoted_as_in_redis() {
    let words = |line: &str| one(format!("{line}\r\n").as_bytes());
    let text = |line: &str| -> Vec<String> {
        let (mut seen, error) = words(line);
        assert_eq!(error, None, "{line}");
        seen.remove(0).into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    };
    assert_eq!(text(r#"  set   k  "a\x41\n\"b\\" "#), ["set", "k", "aA\n\"b\\"]);
    assert_eq!(text(r#"set 'it\'s' "" pre"fix""#), ["set", "it's", "", "prefix"]);
    for bad in [r#"set "a"#, "set 'a", r#"set "a"b"#, r#"set "a\"#] {
        assert_eq!(words(bad).1, Some(ProtocolError::UnbalancedQuotes), "{bad}");
    }
}

#[test]
fn keys_share_the_memory_they_arrived_in() {
    let mut buffer = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n"[..]);
    let start = buffer.as_ptr() as usize;
    let mut decoder = Decoder::new(Limits::default());
    let mut batch = Batch::default();
    decoder.decode(&mut buffer, &mut batch).unwrap();
    let key = batch.iter().next().unwrap().bytes(1);
    assert_eq!(&key[..], b"hello");
    assert_eq!(key.as_ptr() as usize, start + 17);
}

#[test]
fn bytes_that_were_seen_are_not_looked_at_again() {
    // A value of many pieces: work per piece must not grow with what is buffered. Counted, not timed: the decoder's
    // state says that nothing but the end of the bulk is still looked for.
    let mut decoder = Decoder::new(Limits::default());
    let mut batch = Batch::default();
    let mut buffer = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$1000000\r\n"[..]);
    decoder.decode(&mut buffer, &mut batch).unwrap();
    let header = buffer.len();
    for piece in 1..=10 {
        buffer.extend_from_slice(&vec![b'x'; 100_000]);
        decoder.decode(&mut buffer, &mut batch).unwrap();
        assert_eq!(decoder.cursor, header, "piece {piece}");
        assert!(matches!(decoder.state, State::Bulk { length: 1_000_000, missing: 1 }));
    }
    buffer.extend_from_slice(b"\r\n");
    decoder.decode(&mut buffer, &mut batch).unwrap();
    assert_eq!(batch.iter().next().unwrap().get(1).len(), 1_000_000);
    // The same for a long inline line.
    buffer.extend_from_slice(&[b'y'; 1000]);
    decoder.decode(&mut buffer, &mut batch).unwrap();
    assert!(matches!(decoder.state, State::Inline { searched: 1000 }));
}
