//! Replies to bytes: the RESP2 and RESP3 encoder and the output of one connection.
//!
//! Last step of a request at the Redis door. All replies of a batch are encoded into one reused buffer and leave in one
//! send. A long value is not copied: the buffer notes where it belongs, and the send gathers it from where it lies.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;

/// Which dialect a connection speaks. `HELLO` switches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RESP2: what every client starts with.
    #[default]
    Two,
    /// RESP3: maps, and a null of its own.
    Three,
}

/// Values from this length on are sent from where they lie instead of being copied.
const LARGE_BYTES: usize = 16 * 1024;

/// Capacity that an idle output keeps for its next batch.
const KEPT_BYTES: usize = 16 * 1024;

/// Slices handed to one vectored write.
const SLICES: usize = 64;

/// Replies on their way to the client.
///
/// # Invariants
/// - The offsets in `large` never decrease and lie within `buffer`.
#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// Values that were not copied, each with the offset in `buffer` that it goes in front of.
    large: Vec<(usize, Bytes)>,
    large_bytes: usize,
}

impl Output {
    /// An empty output; takes no memory.
    pub fn new() -> Self {
        Output::default()
    }

    /// Bytes that wait to be sent.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.large_bytes
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes that are encoded already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends what waits in another output.
    pub fn append(&mut self, other: Output) {
        let shift = self.buffer.len();
        self.buffer.extend_from_slice(&other.buffer);
        self.large.extend(other.large.into_iter().map(|(offset, value)| (offset + shift, value)));
        self.large_bytes += other.large_bytes;
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A simple string. `text` must not hold a line end.
    pub fn simple(&mut self, text: &str) {
        assert!(!text.contains(['\r', '\n']), "a simple string is one line, got {text:?}");
        self.buffer.push(b'+');
        self.raw(text.as_bytes());
        self.crlf();
    }

    /// An error; `message` starts with its code, such as `ERR`. Line ends in it become blanks.
    pub fn error(&mut self, message: &str) {
        self.buffer.push(b'-');
        self.buffer
            .extend(message.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        self.crlf();
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.buffer.push(b':');
        if value < 0 {
            self.buffer.push(b'-');
        }
        self.decimal(value.unsigned_abs());
        self.crlf();
    }

    /// A count as an integer; what lies above the protocol's integers is sent as the largest of them.
    pub fn count(&mut self, value: u64) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A bulk string, copied.
    pub fn bulk(&mut self, value: &[u8]) {
        self.header(b'$', value.len());
        self.raw(value);
        self.crlf();
    }

    /// A bulk string, shared when it is long.
    pub fn value(&mut self, value: &Bytes) {
        if value.len() < LARGE_BYTES {
            return self.bulk(value);
        }
        self.header(b'$', value.len());
        self.large.push((self.buffer.len(), value.clone()));
        self.large_bytes += value.len();
        self.crlf();
    }

    /// The absence of a value.
    pub fn null(&mut self, version: Version) {
        self.raw(match version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// The absence of an array.
    pub fn null_array(&mut self, version: Version) {
        self.raw(match version {
            Version::Two => b"*-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// The head of an array; its `length` elements follow.
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// The head of a map; its `pairs` keys and values follow in turn. RESP2 has none and gets a flat array.
    pub fn map(&mut self, pairs: usize, version: Version) {
        match version {
            Version::Two => self.header(b'*', pairs * 2),
            Version::Three => self.header(b'%', pairs),
        }
    }

    /// A longer text for a person. RESP3 marks it as such, so that redis-cli prints it as it is.
    pub fn verbatim(&mut self, text: &str, version: Version) {
        match version {
            Version::Two => self.bulk(text.as_bytes()),
            Version::Three => {
                self.header(b'=', text.len() + 4);
                self.raw(b"txt:");
                self.raw(text.as_bytes());
                self.crlf();
            }
        }
    }

    /// Sends everything. On an error the connection is of no use any more and the rest is gone.
    pub fn send(&mut self, to: &mut impl Write) -> io::Result<()> {
        let result = if self.large.is_empty() { to.write_all(&self.buffer) } else { self.send_gathered(to) };
        self.clear();
        result
    }

    fn send_gathered(&self, to: &mut impl Write) -> io::Result<()> {
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(self.large.len() * 2 + 1);
        let mut sent = 0;
        for (offset, value) in &self.large {
            pieces.push(&self.buffer[sent..*offset]);
            pieces.push(value);
            sent = *offset;
        }
        pieces.push(&self.buffer[sent..]);
        pieces.retain(|piece| !piece.is_empty());

        let mut pieces = &mut pieces[..];
        while !pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                pieces.iter().take(SLICES).map(|piece| IoSlice::new(piece)).collect();
            let mut written = match to.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while let Some(piece) = pieces.first_mut() {
                if written < piece.len() {
                    *piece = &piece[written..];
                    break;
                }
                written -= piece.len();
                pieces = &mut pieces[1..];
            }
        }
        Ok(())
    }

    /// Drops what waits and gives back memory that only an unusual batch needed.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        self.large.clear();
        self.large_bytes = 0;
    }

    fn header(&mut self, kind: u8, length: usize) {
        self.buffer.push(kind);
        self.decimal(length as u64);
        self.crlf();
    }

    fn crlf(&mut self) {
        self.raw(b"\r\n");
    }

    fn decimal(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.buffer.extend_from_slice(&digits[first..]);
    }
}

#[cfg(test)]
mod tests;
