//! Frames to bytes, and the gathering of many frames into one vectored send.

use std::io::{self, IoSlice, Write};
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::header::HeaderRef;

/// Payloads up to this size are copied beside their header; larger ones are sent from where they are.
const COPY_LIMIT: usize = 2 << 10;

/// A batch buffer that grew beyond this is given back after the send.
const KEEP_CAPACITY: usize = 256 << 10;

/// Segments handed to one `writev`.
const MAX_SLICES: usize = 64;

fn encode_head(header: &HeaderRef<'_>, out: &mut BytesMut) {
    let len = header.encoded_len();
    out.reserve(encoded_len_varint(len as u64) + len);
    encode_varint(len as u64, out);
    header.encode(out);
}

/// Appends a whole frame to `out`.
///
/// # Panics
/// If `header.args_size` is not the length of `payload`.
///
/// ```
/// use fiber_rpc::frame::{HeaderRef, Kind, encode};
///
/// let mut wire = bytes::BytesMut::new();
/// encode(&HeaderRef { args_size: 2, ..HeaderRef::new(Kind::OneWay, 0) }, b"hi", &mut wire);
/// assert_eq!(&wire[..], b"\x04\x18\x02\x40\x02hi");
/// ```
pub fn encode(header: &HeaderRef<'_>, payload: &[u8], out: &mut BytesMut) {
    assert_eq!(header.args_size, payload.len() as u64, "args_size is the length of the payload");
    encode_head(header, out);
    out.extend_from_slice(payload);
}

/// A part of a [`Batch`]: a range of its buffer, or a payload of its own.
#[derive(Debug)]
enum Segment {
    Copied(Range<usize>),
    Shared(Bytes),
}

/// Encoded frames that leave together.
///
/// # Invariants
/// - `segments` in order are the bytes to send; the last `Copied` range, if it is the last segment, ends where `buffer` ends.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    buffer: BytesMut,
    segments: Vec<Segment>,
}

impl Batch {
    /// Adds one frame. `args_size` is set from the payload.
    pub(crate) fn push(&mut self, header: HeaderRef<'_>, payload: Bytes) {
        let header = HeaderRef { args_size: payload.len() as u64, ..header };
        let start = self.buffer.len();
        encode_head(&header, &mut self.buffer);
        let copied = payload.len() <= COPY_LIMIT;
        if copied {
            self.buffer.extend_from_slice(&payload);
        }
        let end = self.buffer.len();
        match self.segments.last_mut() {
            Some(Segment::Copied(range)) => range.end = end,
            _ => self.segments.push(Segment::Copied(start..end)),
        }
        if !copied {
            self.segments.push(Segment::Shared(payload));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Sends everything. On an error the batch is spoilt: part of a frame may have left, so the connection must end.
    pub(crate) fn write_to(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut first = 0;
        while first < self.segments.len() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.segments[first..]) {
                *slice = IoSlice::new(match segment {
                    Segment::Copied(range) => &self.buffer[range.clone()],
                    Segment::Shared(bytes) => bytes,
                });
                count += 1;
            }
            let written = match out.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            first = self.advance(first, written);
        }
        self.clear();
        Ok(())
    }

    /// Drops `written` bytes from the segment at `first` on; returns the first segment that has bytes left.
    fn advance(&mut self, mut first: usize, mut written: usize) -> usize {
        while first < self.segments.len() {
            let segment = &mut self.segments[first];
            let len = match segment {
                Segment::Copied(range) => range.len(),
                Segment::Shared(bytes) => bytes.len(),
            };
            if written < len {
                match segment {
                    Segment::Copied(range) => range.start += written,
                    Segment::Shared(bytes) => bytes.advance(written),
                }
                break;
            }
            written -= len;
            // A large payload that has left is not kept until the rest has.
            *segment = Segment::Copied(0..0);
            first += 1;
        }
        first
    }

    fn clear(&mut self) {
        self.segments.clear();
        if self.buffer.capacity() > KEEP_CAPACITY {
            self.buffer = BytesMut::new();
        } else {
            self.buffer.clear();
        }
    }
}
