//! Bytes to frames, however the bytes are cut.

use std::io::{self, Read};

use bytes::{Buf, BytesMut};
use prost::Message;

use super::header::Header;
use super::{Frame, FrameError, FrameLimits};

/// Bytes asked for by the first read of a connection: what an idle connection costs.
const MIN_READ: usize = 4 << 10;
/// Bytes asked for by a read when the peer keeps filling the buffer.
const MAX_READ: usize = 64 << 10;
/// A payload above this size gets memory of its own and is read straight into it.
const LARGE_PAYLOAD: usize = 32 << 10;
/// Bytes asked for by a read inside a large payload: the bounds between which the size follows what the socket gives, as
/// the room for a read is zeroed first.
const MIN_LARGE_READ: usize = 16 << 10;
const MAX_LARGE_READ: usize = 512 << 10;
/// Memory reserved ahead of the bytes of a large payload. It is not touched, so not resident, before they arrive.
const RESERVE_AHEAD: usize = 1 << 20;
/// A header length below 2^32 takes at most this many bytes.
const MAX_VARINT: usize = 5;

/// What [`Decoder::next_frame`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A whole frame.
    Frame(Frame),
    /// A frame whose payload is larger than allowed. The header tells whom to answer; the payload is skipped as it
    /// arrives, without being stored.
    Oversize(Header),
}

#[derive(Debug)]
enum State {
    Head,
    /// The payload is gathered in the read buffer.
    Small {
        header: Header,
        size: usize,
    },
    /// The payload is gathered in `body`.
    Large {
        header: Header,
        size: usize,
        body: Vec<u8>,
    },
    /// The payload is dropped as it arrives.
    Skip {
        remaining: u64,
    },
}

/// Turns received bytes into frames.
///
/// Bytes come in by [`read_from`](Self::read_from) or [`extend`](Self::extend) in any portions; frames come out of
/// [`next_frame`](Self::next_frame) until it says `None`: an incomplete frame is a value, not an error.
///
/// # Invariants
/// - The memory held is at most twice the bytes that arrived and were not yet taken, plus 1 MiB and one read, whatever a
///   header announces.
///
/// ```
/// use fiber_rpc::frame::{Decoded, Decoder, FrameLimits};
///
/// let mut decoder = Decoder::new(FrameLimits::default());
/// decoder.extend(b"\x04\x18\x02\x40");
/// assert_eq!(decoder.next_frame(), Ok(None));
/// decoder.extend(b"\x02hi");
/// let Ok(Some(Decoded::Frame(frame))) = decoder.next_frame() else { panic!("the frame is complete") };
/// assert_eq!(frame.payload, "hi");
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limits: FrameLimits,
    state: State,
    read_size: usize,
    large_read_size: usize,
}

impl Decoder {
    /// An empty decoder; it takes no memory before the first byte.
    pub fn new(limits: FrameLimits) -> Decoder {
        Decoder {
            buffer: BytesMut::new(),
            limits,
            state: State::Head,
            read_size: MIN_READ,
            large_read_size: MIN_LARGE_READ,
        }
    }

    /// One `read` into the buffer. `Ok(0)` is the end of the stream.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if let State::Large { size, body, .. } = &mut self.state {
            take_part(&mut self.buffer, body, *size);
            if body.len() < *size {
                let room = self.large_read_size.min(*size - body.len());
                let read = read_large(source, body, room, *size)?;
                let next = if read == room { room * 2 } else { read };
                self.large_read_size = next.clamp(MIN_LARGE_READ, MAX_LARGE_READ);
                return Ok(read);
            }
        }
        let filled = self.buffer.len();
        let room = self.read_size;
        self.buffer.resize(filled + room, 0);
        let result = source.read(&mut self.buffer[filled..]);
        let read = *result.as_ref().unwrap_or(&0);
        self.buffer.truncate(filled + read);
        if read == room {
            self.read_size = (room * 2).min(MAX_READ);
        } else if read > 0 && read < room / 4 {
            self.read_size = (room / 2).max(MIN_READ);
        }
        result
    }

    /// Appends bytes that were received elsewhere.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` if more bytes are needed. After an error the decoder is of no further use.
    pub fn next_frame(&mut self) -> Result<Option<Decoded>, FrameError> {
        loop {
            match std::mem::replace(&mut self.state, State::Head) {
                State::Head => {
                    let Some(header) = self.take_header()? else { return Ok(None) };
                    match usize::try_from(header.args_size) {
                        Ok(size) if size > self.limits.max_payload => {
                            self.state = State::Skip { remaining: header.args_size };
                            return Ok(Some(Decoded::Oversize(header)));
                        }
                        Ok(size) if size > LARGE_PAYLOAD => {
                            self.state = State::Large { header, size, body: Vec::new() };
                        }
                        Ok(size) => self.state = State::Small { header, size },
                        Err(_) => {
                            self.state = State::Skip { remaining: header.args_size };
                            return Ok(Some(Decoded::Oversize(header)));
                        }
                    }
                }
                State::Small { header, size } => {
                    if self.buffer.len() < size {
                        self.state = State::Small { header, size };
                        return Ok(None);
                    }
                    let payload = self.buffer.split_to(size).freeze();
                    return Ok(Some(Decoded::Frame(Frame { header, payload })));
                }
                State::Large { header, size, mut body } => {
                    take_part(&mut self.buffer, &mut body, size);
                    if body.len() < size {
                        self.state = State::Large { header, size, body };
                        return Ok(None);
                    }
                    return Ok(Some(Decoded::Frame(Frame { header, payload: body.into() })));
                }
                State::Skip { remaining } => {
                    let skipped = usize::try_from(remaining).unwrap_or(usize::MAX).min(self.buffer.len());
                    self.buffer.advance(skipped);
                    let remaining = remaining - skipped as u64;
                    if remaining > 0 {
                        self.state = State::Skip { remaining };
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn take_header(&mut self) -> Result<Option<Header>, FrameError> {
        let Some((prefix, size)) = header_length(&self.buffer)? else { return Ok(None) };
        if size == 0 {
            return Err(FrameError::EmptyHeader);
        }
        let limit = self.limits.max_header;
        let Some(size) = usize::try_from(size).ok().filter(|&size| size <= limit) else {
            return Err(FrameError::HeaderTooLarge { size, limit });
        };
        if self.buffer.len() < prefix + size {
            return Ok(None);
        }
        self.buffer.advance(prefix);
        Ok(Some(Header::decode(self.buffer.split_to(size).freeze())?))
    }

    /// Whether part of a frame has arrived.
    pub fn is_partial(&self) -> bool {
        !matches!(self.state, State::Head) || !self.buffer.is_empty()
    }

    /// Payload bytes of the frame in progress that are still to come; 0 if its header is not complete.
    pub fn missing(&self) -> u64 {
        match &self.state {
            State::Head => 0,
            State::Small { size, .. } => size.saturating_sub(self.buffer.len()) as u64,
            State::Large { size, body, .. } => (size - body.len()) as u64,
            State::Skip { remaining } => *remaining,
        }
    }

    /// Bytes of memory the decoder holds.
    pub fn capacity(&self) -> usize {
        let body = if let State::Large { body, .. } = &self.state { body.capacity() } else { 0 };
        self.buffer.capacity() + body
    }
}

/// Moves what `buffer` has of the payload into `body`.
fn take_part(buffer: &mut BytesMut, body: &mut Vec<u8>, size: usize) {
    let part = buffer.len().min(size - body.len());
    if part > 0 {
        reserve(body, part, size);
        body.extend_from_slice(&buffer[..part]);
        buffer.advance(part);
    }
}

/// One `read` of up to `room` bytes into `body`.
fn read_large(source: &mut impl Read, body: &mut Vec<u8>, room: usize, size: usize) -> io::Result<usize> {
    let filled = body.len();
    reserve(body, room, size);
    body.resize(filled + room, 0);
    let result = source.read(&mut body[filled..]);
    body.truncate(filled + *result.as_ref().unwrap_or(&0));
    result
}

/// Makes room for `more` bytes: a fixed amount ahead or double of what arrived, but never beyond the payload's size.
fn reserve(body: &mut Vec<u8>, more: usize, size: usize) {
    if body.capacity() - body.len() < more {
        let ahead = more.max(body.len()).max(RESERVE_AHEAD);
        body.reserve_exact(ahead.min(size - body.len()));
    }
}

/// The varint at the start of `bytes`: its own length and its value.
fn header_length(bytes: &[u8]) -> Result<Option<(usize, u64)>, FrameError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(MAX_VARINT).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(Some((index + 1, value)));
        }
    }
    if bytes.len() >= MAX_VARINT { Err(FrameError::BadHeaderLength) } else { Ok(None) }
}
