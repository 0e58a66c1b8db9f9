//! The codec byte by byte: golden frames, every cut, every truncation, every flipped bit.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::*;

const LIMITS: FrameLimits = FrameLimits { max_header: 1 << 10, max_payload: 1 << 20 };

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn request<'a>(payload: &[u8]) -> HeaderRef<'a> {
    HeaderRef {
        service_name: b"moon.Echo",
        method_name: b"Echo",
        args_size: payload.len() as u64,
        deadline_us: 1_500_000,
        ..HeaderRef::new(Kind::Request, 300)
    }
}

fn wire(header: &HeaderRef<'_>, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(header, payload, &mut out);
    out.to_vec()
}

fn pattern(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect()
}

/// Three frames of different shapes, and their bytes.
fn sample() -> (Vec<u8>, Vec<Frame>) {
    let status = HeaderRef {
        status_code: 7,
        status_message: b"gone wrong",
        trace_context: b"trace",
        not_started: true,
        ..HeaderRef::new(Kind::Response, 9)
    };
    let mut bytes = wire(&request(b"hello"), b"hello");
    bytes.extend(wire(&status, b""));
    let large = vec![7u8; 5000];
    bytes.extend(wire(&request(&large), &large));
    let frames = frames_of(&bytes);
    assert_eq!(frames.len(), 3);
    (bytes, frames)
}

fn drain(decoder: &mut Decoder, into: &mut Vec<Frame>) {
    while let Some(decoded) = decoder.next_frame().unwrap() {
        match decoded {
            Decoded::Frame(frame) => into.push(frame),
            Decoded::Oversize(header) => panic!("nothing here is oversize: {header:?}"),
        }
    }
}

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(LIMITS);
    decoder.extend(bytes);
    let mut frames = Vec::new();
    drain(&mut decoder, &mut frames);
    assert!(!decoder.is_partial());
    frames
}

#[test]
fn request_has_these_bytes() {
    let expected = "1a0a096d6f6f6e2e4563686f12044563686f180538ac0248e0c65b68656c6c6f";
    let expected = expected.replacen("1a", &format!("{:02x}", unhex(expected).len() - 1 - 5), 1);
    let bytes = wire(&request(b"hello"), b"hello");
    assert_eq!(bytes, unhex(&expected));
    let frame = &frames_of(&bytes)[0];
    assert_eq!(frame.header.service_name, "moon.Echo");
    assert_eq!(frame.header.method_name, "Echo");
    assert_eq!(frame.header.kind(), Some(Kind::Request));
    assert_eq!((frame.header.call_id, frame.header.deadline_us), (300, 1_500_000));
    assert_eq!(frame.payload, "hello");
}

#[test]
fn the_originals_requests_are_requests() {
    // PutAppend{x,1,"Put",cli-1,1} and Get{x,cli-1,2}, as captured from the original on the wire.
    let put = unhex(
        "1a0a0b6b765365727665725270631209507574417070656e6418140a01781201311a035075742205636c692d312801",
    );
    let get = unhex("140a0b6b765365727665725270631203476574180c0a01781205636c692d311802");
    for (bytes, method, size) in [(put, "PutAppend", 20), (get, "Get", 12)] {
        let frame = &frames_of(&bytes)[0];
        assert_eq!(frame.header.service_name, "kvServerRpc");
        assert_eq!(frame.header.method_name, method);
        assert_eq!(frame.header.kind(), Some(Kind::Request));
        assert_eq!(frame.payload.len(), size);
        let header = HeaderRef {
            service_name: b"kvServerRpc",
            method_name: method.as_bytes(),
            args_size: size as u64,
            ..HeaderRef::new(Kind::Request, 0)
        };
        assert_eq!(wire(&header, &frame.payload), bytes, "and ours without an id has the original's bytes");
    }
}

#[test]
fn header_bytes_are_those_of_the_message() {
    let (bytes, frames) = sample();
    let mut at = 0;
    for frame in frames {
        let message = frame.header.encode_length_delimited_to_vec();
        assert_eq!(bytes[at..at + message.len()], message);
        at += message.len() + frame.payload.len();
    }
}

#[test]
fn encoded_len_is_the_encoded_length() {
    let all = HeaderRef {
        args_size: u64::MAX,
        status_code: u32::MAX,
        status_message: b"message",
        trace_context: &[0; 200],
        not_started: true,
        ..request(b"")
    };
    for header in [all, request(b""), HeaderRef::new(Kind::Ping, 1), HeaderRef::new(Kind::GoAway, u64::MAX)] {
        let mut out = BytesMut::new();
        header.encode(&mut out);
        assert_eq!(out.len(), header.encoded_len(), "{header:?}");
    }
}

#[test]
fn input_may_be_cut_at_every_offset() {
    let (bytes, frames) = sample();
    for cut in 0..=bytes.len() {
        let mut decoder = Decoder::new(LIMITS);
        let mut seen = Vec::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            decoder.extend(part);
            drain(&mut decoder, &mut seen);
        }
        assert_eq!(seen, frames, "cut at {cut}");
    }
}

#[test]
fn input_may_come_byte_by_byte_through_reads() {
    struct OneByte<'a>(&'a [u8]);
    impl std::io::Read for OneByte<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = buf.len().min(1);
            std::io::Read::read(&mut self.0, &mut buf[..n])
        }
    }
    let (bytes, frames) = sample();
    let (mut decoder, mut source, mut seen) = (Decoder::new(LIMITS), OneByte(&bytes), Vec::new());
    while decoder.read_from(&mut source).unwrap() > 0 {
        drain(&mut decoder, &mut seen);
    }
    assert_eq!(seen, frames);
}

#[test]
fn every_truncation_waits_for_more() {
    let (bytes, _) = sample();
    let first = wire(&request(b"hello"), b"hello");
    for len in 0..first.len() {
        let mut decoder = Decoder::new(LIMITS);
        decoder.extend(&bytes[..len]);
        assert_eq!(decoder.next_frame(), Ok(None), "truncated to {len}");
        assert_eq!(decoder.is_partial(), len > 0);
    }
}

#[test]
fn no_flipped_bit_panics_or_takes_memory() {
    let (bytes, _) = sample();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = Decoder::new(LIMITS);
        let mut source = &damaged[..];
        while let Ok(1..) = decoder.read_from(&mut source) {
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
        assert!(decoder.capacity() <= 128 << 10, "bit {bit}: {} bytes", decoder.capacity());
    }
}

#[test]
fn memory_follows_the_bytes_and_not_the_announced_size() {
    let limits = FrameLimits { max_payload: usize::MAX, ..LIMITS };
    let mut head = BytesMut::new();
    let header = HeaderRef { args_size: 1 << 40, ..request(b"") };
    prost::encoding::encode_varint(header.encoded_len() as u64, &mut head);
    header.encode(&mut head);
    let mut decoder = Decoder::new(limits);
    decoder.extend(&head);
    assert_eq!(decoder.next_frame(), Ok(None));
    let mut arrived = 0;
    let mut source = std::io::Read::take(std::io::repeat(1), 3 << 20);
    loop {
        let read = decoder.read_from(&mut source).unwrap();
        if read == 0 {
            break;
        }
        arrived += read;
        assert_eq!(decoder.next_frame(), Ok(None));
        let bound = 2 * arrived + (1 << 20) + (128 << 10);
        assert!(decoder.capacity() <= bound, "{} bytes held for {arrived}", decoder.capacity());
    }
    assert_eq!(arrived, 3 << 20);
    assert_eq!(decoder.missing(), (1 << 40) - (3 << 20));
}

#[test]
fn large_payload_arrives_whole_in_reads_of_any_size_and_in_exact_memory() {
    struct Steps<'a>(&'a [u8], usize);
    impl std::io::Read for Steps<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1 * 7 % 100_003 + 1;
            let n = buf.len().min(self.1);
            std::io::Read::read(&mut self.0, &mut buf[..n])
        }
    }
    let payload = pattern(1_000_000);
    let mut bytes = wire(&request(&payload), &payload);
    bytes.extend(wire(&request(b"next"), b"next"));
    let (mut decoder, mut source, mut seen) = (Decoder::new(LIMITS), Steps(&bytes, 1), Vec::new());
    while decoder.read_from(&mut source).unwrap() > 0 {
        drain(&mut decoder, &mut seen);
        assert!(decoder.capacity() <= payload.len() + (128 << 10));
    }
    assert!(seen[0].payload == payload);
    assert_eq!(seen[1].payload, "next");
}

#[test]
fn oversize_payload_is_named_skipped_and_the_next_frame_read() {
    let limits = FrameLimits { max_payload: 10, ..LIMITS };
    let large = pattern(100_000);
    let mut bytes = wire(&request(&large), &large);
    bytes.extend(wire(&request(b"next"), b"next"));
    let mut decoder = Decoder::new(limits);
    let (mut source, mut seen) = (&bytes[..], Vec::new());
    while decoder.read_from(&mut source).unwrap() > 0 {
        while let Some(decoded) = decoder.next_frame().unwrap() {
            seen.push(decoded);
        }
        assert!(decoder.capacity() <= 256 << 10);
    }
    assert!(
        matches!(&seen[0], Decoded::Oversize(header) if header.args_size == 100_000 && header.call_id == 300)
    );
    assert!(matches!(&seen[1], Decoded::Frame(frame) if frame.payload == "next"));
    assert_eq!(seen.len(), 2);
}

#[test]
fn bad_heads_are_refused() {
    let decode = |bytes: &[u8]| {
        let mut decoder = Decoder::new(LIMITS);
        decoder.extend(bytes);
        decoder.next_frame()
    };
    assert_eq!(decode(b"\x00"), Err(FrameError::EmptyHeader));
    assert_eq!(decode(b"\xff\xff\xff\xff\xff\x01"), Err(FrameError::BadHeaderLength));
    assert_eq!(decode(b"\xff\xff\xff\xff"), Ok(None));
    assert_eq!(decode(b"\x81\x08"), Err(FrameError::HeaderTooLarge { size: 1025, limit: 1024 }));
    assert!(matches!(decode(b"\x02\xff\xff"), Err(FrameError::BadHeader(_))));
    assert!(matches!(
        decode(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nxxxxxxxxxxxxxxxxxx"),
        Err(FrameError::BadHeader(_))
    ));
}

#[test]
fn unknown_kind_and_unknown_field_are_not_errors() {
    // Field 8 (kind) = 99, field 15 (unknown) = 1, call id 5.
    let frame = &frames_of(b"\x06\x38\x05\x40\x63\x78\x01")[0];
    assert_eq!((frame.header.kind(), frame.header.call_id), (None, 5));
}

/// A sink that takes at most `step` bytes a call, over slice boundaries.
struct Trickle {
    step: usize,
    out: Vec<u8>,
}

impl std::io::Write for Trickle {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.write_vectored(&[std::io::IoSlice::new(buf)])
    }
    fn write_vectored(&mut self, slices: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        let before = self.out.len();
        self.out.extend(slices.iter().flat_map(|slice| slice.iter().copied()).take(self.step));
        Ok(self.out.len() - before)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn batch_sends_the_bytes_of_its_frames_whatever_the_socket_takes() {
    let payloads = [0usize, 1, 2048, 2049, 9000, 3, 0, 70_000].map(|n| Bytes::from(vec![n as u8; n]));
    let expected: Vec<u8> = payloads.iter().flat_map(|payload| wire(&request(payload), payload)).collect();
    let mut batch = Batch::default();
    for step in [1, 7, 100, 2100, 1 << 20] {
        for payload in &payloads {
            batch.push(request(b""), payload.clone());
        }
        let mut sink = Trickle { step, out: Vec::new() };
        batch.write_to(&mut sink).unwrap();
        assert!(sink.out == expected, "step {step}");
        assert!(batch.is_empty(), "and the batch can be used again");
    }
}

#[test]
fn batch_of_more_segments_than_one_call_takes_leaves_whole() {
    let payload = Bytes::from(vec![5u8; 3000]);
    let mut batch = Batch::default();
    for _ in 0..200 {
        batch.push(request(b""), payload.clone());
    }
    let mut sink = Trickle { step: usize::MAX, out: Vec::new() };
    batch.write_to(&mut sink).unwrap();
    assert_eq!(frames_of(&sink.out).len(), 200);
}

#[test]
fn closed_socket_is_an_error_of_the_batch() {
    let mut batch = Batch::default();
    batch.push(HeaderRef::new(Kind::Ping, 1), Bytes::new());
    let error = batch.write_to(&mut Trickle { step: 0, out: Vec::new() }).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
}
