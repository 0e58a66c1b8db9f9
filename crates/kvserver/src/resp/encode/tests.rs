//! Reply shapes byte by byte, and the gathered send under short writes.

use super::*;

fn encoded(build: impl FnOnce(&mut Output)) -> Vec<u8> {
    let mut output = Output::new();
    build(&mut output);
    let expected = output.len();
    let mut bytes = Vec::new();
    output.send(&mut bytes).unwrap();
    assert_eq!(bytes.len(), expected);
    assert!(output.is_empty());
    bytes
}

#[test]
fn replies_have_their_shapes() {
    assert_eq!(encoded(|out| out.ok()), b"+OK\r\n");
    assert_eq!(encoded(|out| out.simple("PONG")), b"+PONG\r\n");
    assert_eq!(encoded(|out| out.error("ERR a\r\nb")), b"-ERR a  b\r\n");
    assert_eq!(encoded(|out| out.integer(0)), b":0\r\n");
    assert_eq!(encoded(|out| out.integer(i64::MIN)), b":-9223372036854775808\r\n");
    assert_eq!(encoded(|out| out.count(u64::MAX)), b":9223372036854775807\r\n");
    assert_eq!(encoded(|out| out.bulk(b"")), b"$0\r\n\r\n");
    assert_eq!(encoded(|out| out.bulk(b"a\r\nb")), b"$4\r\na\r\nb\r\n");
    assert_eq!(encoded(|out| out.array(3)), b"*3\r\n");
}

#[test]
fn dialects_differ_in_null_map_and_text() {
    assert_eq!(encoded(|out| out.null(Version::Two)), b"$-1\r\n");
    assert_eq!(encoded(|out| out.null(Version::Three)), b"_\r\n");
    assert_eq!(encoded(|out| out.null_array(Version::Two)), b"*-1\r\n");
    assert_eq!(encoded(|out| out.null_array(Version::Three)), b"_\r\n");
    assert_eq!(encoded(|out| out.map(2, Version::Two)), b"*4\r\n");
    assert_eq!(encoded(|out| out.map(2, Version::Three)), b"%2\r\n");
    assert_eq!(encoded(|out| out.verbatim("hi", Version::Two)), b"$2\r\nhi\r\n");
    assert_eq!(encoded(|out| out.verbatim("hi", Version::Three)), b"=6\r\ntxt:hi\r\n");
}

/// Takes at most `step` bytes a call, over all slices.
struct Trickle {
    taken: Vec<u8>,
    step: usize,
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.step);
        self.taken.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.len() <= SLICES);
        let before = self.taken.len();
        for slice in slices {
            let room = self.step - (self.taken.len() - before);
            self.taken.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Ok(self.taken.len() - before)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn long_values_are_gathered_in_order_whatever_the_kernel_takes() {
    let values: Vec<Bytes> =
        (0..100u8).map(|tag| Bytes::from(vec![tag; LARGE_BYTES + usize::from(tag)])).collect();
    let mut expected = Vec::new();
    for value in &values {
        expected.extend(format!(":7\r\n${}\r\n", value.len()).bytes());
        expected.extend_from_slice(value);
        expected.extend_from_slice(b"\r\n");
    }
    for step in [1000, LARGE_BYTES, LARGE_BYTES + 3, 1 << 20] {
        let mut output = Output::new();
        for value in &values {
            output.integer(7);
            output.value(value);
        }
        assert_eq!(output.len(), expected.len());
        let mut to = Trickle { taken: Vec::new(), step };
        output.send(&mut to).unwrap();
        assert!(to.taken == expected, "step {step}");
    }
}

#[test]
fn long_values_are_not_copied() {
    let mut output = Output::new();
    output.value(&Bytes::from(vec![1; 10 << 20]));
    assert!(output.buffer.len() < 32);
    assert_eq!(output.len(), (10 << 20) + "$10485760\r\n\r\n".len());
}

#[test]
fn memory_of_an_unusual_batch_is_given_back() {
    let mut output = Output::new();
    output.raw(&vec![0; 1 << 20]);
    output.send(&mut io::sink()).unwrap();
    assert!(output.buffer.capacity() <= KEPT_BYTES);
}

#[test]
fn a_peer_that_takes_nothing_is_an_error() {
    let mut output = Output::new();
    output.value(&Bytes::from(vec![1; LARGE_BYTES]));
    let error = output.send(&mut Trickle { taken: Vec::new(), step: 0 }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}
