//! Requests from bytes: the incremental RESP parser.
//!
//! First step of a request at the Redis door. The connection reads into one buffer; [`Decoder::decode`] takes every
//! complete request off its front and leaves the rest for the next read. A request is either an array of bulks
//!
//! ```text
//!   *3\r\n  $3\r\nSET\r\n  $1\r\na\r\n  $5\r\nhello\r\n
//!   |count  |length |bytes
//! ```
//!
//! or an *inline command*: one line of words, quoted as a shell would, for people with a terminal.
//!
//! Two properties matter. Bytes that were seen once are not looked at again: the decoder remembers where it stopped,
//! so a value that arrives in a thousand pieces costs as much as one that arrives whole. And no memory is taken on the word
//! of a header: counts and lengths are held against [`Limits`] first, and the buffer grows with the bytes that came.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::command::write::MAX_VALUE_BYTES;

/// What one client may send. What lies beyond is answered with Redis' own error and the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one request, the command's name included.
    pub arguments: usize,
    /// Bytes of one argument.
    pub bulk_bytes: usize,
    /// Bytes of one request as it stands on the wire.
    pub request_bytes: usize,
    /// Bytes of one inline command, its line end not counted.
    pub inline_bytes: usize,
    /// Requests that are executed as one batch; those behind them wait in the buffer for the next batch.
    pub batch_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            arguments: 128 * 1024,
            bulk_bytes: MAX_VALUE_BYTES,
            request_bytes: MAX_VALUE_BYTES + 8 * 1024 * 1024,
            inline_bytes: 64 * 1024,
            batch_requests: 1024,
        }
    }
}

/// Why the bytes of a client are not a request. Worded as Redis words it; the connection does not survive any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The argument count is no number or above [`Limits::arguments`].
    #[error("Protocol error: invalid multibulk length")]
    InvalidCount,
    /// The line that should hold the argument count does not end.
    #[error("Protocol error: too big mbulk count string")]
    EndlessCount,
    /// An argument does not start with `$`.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0).escape_default())]
    ExpectedBulk(u8),
    /// The length of an argument is no number or above [`Limits::bulk_bytes`].
    #[error("Protocol error: invalid bulk length")]
    InvalidLength,
    /// The line that should hold an argument's length does not end.
    #[error("Protocol error: too big bulk count string")]
    EndlessLength,
    /// An argument is not followed by CR LF.
    #[error("Protocol error: bulk string is not terminated by CRLF")]
    Unterminated,
    /// The whole request is above [`Limits::request_bytes`].
    #[error("Protocol error: request is too big")]
    RequestTooBig,
    /// An inline command is above [`Limits::inline_bytes`].
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// The quotes of an inline command do not pair up.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

/// The complete requests of one read, in their order.
///
/// All of them share the memory they arrived in; nothing is copied until a key or a value is asked for, and then only
/// a reference count goes up.
#[derive(Debug, Default)]
pub struct Batch {
    input: Bytes,
    spans: Vec<Range<usize>>,
    requests: Vec<Range<usize>>,
}

impl Batch {
    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The requests, first to last.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Arguments<'_>> {
        self.requests
            .iter()
            .map(|request| Arguments { input: &self.input, spans: &self.spans[request.clone()] })
    }

    /// How many bytes the requests took on the wire.
    pub fn input_bytes(&self) -> usize {
        self.input.len()
    }

    /// Forgets the requests and lets go of the memory they arrived in.
    pub fn clear(&mut self) {
        self.input = Bytes::new();
        self.requests.clear();
        // One pipeline of huge requests must not hold its bookkeeping for the life of the connection.
        self.spans.clear();
        self.spans.shrink_to(4096);
        self.requests.shrink_to(1024);
    }
}

/// The words of one request; the first is the command's name. Never empty.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    input: &'a Bytes,
    spans: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    /// How many words there are, the command's name included.
    #[expect(clippy::len_without_is_empty, reason = "a request is never empty")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Word `index` for looking at. Panics when there is none: arity is checked before.
    pub fn get(&self, index: usize) -> &'a [u8] {
        &self.input[self.spans[index].clone()]
    }

    /// Word `index` for keeping: shares the memory the request arrived in.
    pub fn bytes(&self, index: usize) -> Bytes {
        self.input.slice(self.spans[index].clone())
    }

    /// The words from `first` on.
    pub fn tail(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let input = self.input;
        self.spans[first.min(self.spans.len())..].iter().map(move |span| &input[span.clone()])
    }
}

/// Where the decoder stands inside a request.
#[derive(Clone, Copy, Debug)]
enum State {
    /// At the first byte of a request.
    Start,
    /// In an array, at the `$` of an argument, `missing` of which are still to come.
    Length { missing: usize },
    /// In an array, at the bytes of an argument, the first of `missing`.
    Bulk { length: usize, missing: usize },
    /// In an inline command; bytes before `searched` hold no line end.
    Inline { searched: usize },
}

/// The parser of one connection. It holds positions only; the bytes stay in the connection's buffer.
///
/// # Invariants
/// - `cursor` and every span lie inside the buffer that is passed to the next [`Decoder::decode`].
/// - The request under way starts at offset 0 of that buffer.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    state: State,
    cursor: usize,
    spans: Vec<Range<usize>>,
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Decoder { limits, state: State::Start, cursor: 0, spans: Vec::new() }
    }

    /// Moves the complete requests at the front of `buffer` into `batch`, at most [`Limits::batch_requests`] of them.
    ///
    /// `buffer` must hold what it held after the last call, with new bytes only at its end. `batch` is cleared
    /// first. On an error the requests in front of the damage are in `batch` and want their answers before the connection ends.
    pub fn decode(&mut self, buffer: &mut BytesMut, batch: &mut Batch) -> Result<(), ProtocolError> {
        batch.clear();
        let mut start = 0; // of the request under way
        let mut outcome = Ok(());
        while batch.requests.len() < self.limits.batch_requests {
            match self.request(buffer, start) {
                Ok(true) => {
                    start = self.cursor;
                    if !self.spans.is_empty() {
                        let first = batch.spans.len();
                        batch.spans.append(&mut self.spans);
                        batch.requests.push(first..batch.spans.len());
                    }
                }
                Ok(false) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        batch.input = buffer.split_to(start).freeze();
        self.rebase(start);
        outcome
    }

    /// Shifts the positions of a partial request after `by` bytes were taken off the buffer's front.
    fn rebase(&mut self, by: usize) {
        self.cursor -= by;
        for span in &mut self.spans {
            *span = span.start - by..span.end - by;
        }
        if let State::Inline { searched } = &mut self.state {
            *searched -= by;
        }
        if self.spans.capacity() > 4096 && self.spans.is_empty() {
            self.spans = Vec::new();
        }
    }

    /// Goes on with the request that starts at `start`. True when its end was reached; its words are then in
    /// `self.spans`, none for an empty line or an empty array.
    fn request(&mut self, buffer: &mut BytesMut, start: usize) -> Result<bool, ProtocolError> {
        loop {
            match self.state {
                State::Start => match buffer.get(self.cursor) {
                    None => return Ok(false),
                    Some(b'*') => {
                        let (count, next) = match number_line(buffer, self.cursor + 1) {
                            Line::Partial => return Ok(false),
                            Line::Endless => return Err(ProtocolError::EndlessCount),
                            Line::Bad => return Err(ProtocolError::InvalidCount),
                            Line::Number(count, next) => (count, next),
                        };
                        if count > self.limits.arguments as i64 {
                            return Err(ProtocolError::InvalidCount);
                        }
                        self.cursor = next;
                        match usize::try_from(count) {
                            Ok(missing) if missing > 0 => self.state = State::Length { missing },
                            _ => return Ok(true), // an empty array asks nothing; Redis answers nothing
                        }
                    }
                    Some(_) => self.state = State::Inline { searched: self.cursor },
                },
                State::Length { missing } => {
                    match buffer.get(self.cursor) {
                        None => return Ok(false),
                        Some(b'$') => {}
                        Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
                    }
                    let (length, next) = match number_line(buffer, self.cursor + 1) {
                        Line::Partial => return Ok(false),
                        Line::Endless => return Err(ProtocolError::EndlessLength),
                        Line::Bad => return Err(ProtocolError::InvalidLength),
                        Line::Number(length, next) => (length, next),
                    };
                    let length = usize::try_from(length).map_err(|_| ProtocolError::InvalidLength)?;
                    if length > self.limits.bulk_bytes {
                        return Err(ProtocolError::InvalidLength);
                    }
                    if next - start + length + 2 > self.limits.request_bytes {
                        return Err(ProtocolError::RequestTooBig);
                    }
                    self.cursor = next;
                    self.state = State::Bulk { length, missing };
                }
                State::Bulk { length, missing } => {
                    let end = self.cursor + length;
                    // The first byte after the value is judged as soon as it is there, so that every split of the
                    // same bytes ends in the same answer.
                    match &buffer[end.min(buffer.len())..(end + 2).min(buffer.len())] {
                        [b'\r', b'\n'] => {}
                        [] | [b'\r'] => return Ok(false),
                        _ => return Err(ProtocolError::Unterminated),
                    }
                    self.spans.push(self.cursor..end);
                    self.cursor = end + 2;
                    if missing > 1 {
                        self.state = State::Length { missing: missing - 1 };
                    } else {
                        self.state = State::Start;
                        return Ok(true);
                    }
                }
                State::Inline { searched } => {
                    let Some(found) = buffer[searched..].iter().position(|&byte| byte == b'\n') else {
                        if buffer.len() - start > self.limits.inline_bytes {
                            return Err(ProtocolError::InlineTooBig);
                        }
                        self.state = State::Inline { searched: buffer.len() };
                        return Ok(false);
                    };
                    let newline = searched + found;
                    if newline - start > self.limits.inline_bytes {
                        return Err(ProtocolError::InlineTooBig);
                    }
                    let line_end = if buffer[..newline].ends_with(b"\r") && newline > start {
                        newline - 1
                    } else {
                        newline
                    };
                    split_words(buffer, start..line_end, &mut self.spans)?;
                    self.cursor = newline + 1;
                    self.state = State::Start;
                    return Ok(true);
                }
            }
        }
    }
}

enum Line {
    Partial,
    Endless,
    Bad,
    /// The number and the offset behind its CR LF.
    Number(i64, usize),
}

/// The longest line that can hold a number this parser accepts, with room for a sign.
const NUMBER_BYTES: usize = 20;

/// Reads a decimal number that ends in CR LF, starting at `from`. No sign but `-`, no blanks, no empty number.
fn number_line(buffer: &[u8], from: usize) -> Line {
    let line = &buffer[from.min(buffer.len())..];
    let (negative, digits_at) = match line.first() {
        None => return Line::Partial,
        Some(b'-') => (true, 1),
        Some(_) => (false, 0),
    };
    let mut value: i64 = 0;
    let mut digits = 0;
    for (offset, &byte) in line[digits_at..].iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                if digits_at + digits > NUMBER_BYTES {
                    return Line::Endless;
                }
                let Some(next) =
                    value.checked_mul(10).and_then(|value| value.checked_add(i64::from(byte - b'0')))
                else {
                    return Line::Bad;
                };
                value = next;
            }
            b'\r' if digits > 0 => {
                let newline = digits_at + offset + 1;
                return match line.get(newline) {
                    None => Line::Partial,
                    Some(b'\n') => Line::Number(if negative { -value } else { value }, from + newline + 1),
                    Some(_) => Line::Bad,
                };
            }
            _ => return Line::Bad,
        }
    }
    Line::Partial
}

/// Splits an inline command into words and appends where they are. Quoted words are unescaped in place, which always
/// makes them shorter, so no memory is needed.
fn split_words(
    buffer: &mut [u8],
    line: Range<usize>,
    spans: &mut Vec<Range<usize>>,
) -> Result<(), ProtocolError> {
    let mut read = line.start;
    loop {
        while read < line.end && is_blank(buffer[read]) {
            read += 1;
        }
        if read == line.end {
            return Ok(());
        }
        let start = read;
        let mut write = read;
        while read < line.end && !is_blank(buffer[read]) {
            match buffer[read] {
                quote @ (b'"' | b'\'') => {
                    read = unquote(buffer, read + 1..line.end, quote, &mut write)?;
                    // A closing quote ends the word: "a"b is a mistake, not a word.
                    if read < line.end && !is_blank(buffer[read]) {
                        return Err(ProtocolError::UnbalancedQuotes);
                    }
                }
                byte => {
                    buffer[write] = byte;
                    write += 1;
                    read += 1;
                }
            }
        }
        spans.push(start..write);
    }
}

/// Unescapes up to the closing `quote`, writing from `write` on; returns the offset behind the quote.
fn unquote(
    buffer: &mut [u8],
    text: Range<usize>,
    quote: u8,
    write: &mut usize,
) -> Result<usize, ProtocolError> {
    let mut read = text.start;
    while read < text.end {
        let rest = &buffer[read..text.end];
        let (byte, used) = match *rest {
            [byte, ..] if byte == quote => return Ok(read + 1),
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [b'\\', b'x', high, low, ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex_digit(high) << 4 | hex_digit(low), 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => match escaped {
                b'n' => (b'\n', 2),
                b'r' => (b'\r', 2),
                b't' => (b'\t', 2),
                b'b' => (8, 2),
                b'a' => (7, 2),
                other => (other, 2),
            },
            [byte, ..] => (byte, 1),
            [] => break,
        };
        buffer[*write] = byte;
        *write += 1;
        read += used;
    }
    Err(ProtocolError::UnbalancedQuotes)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\0' | 0x0b | 0x0c)
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests;
