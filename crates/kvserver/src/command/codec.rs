//! The primitives of the binary form: varints, length-prefixed bytes, bounded lists.
//!
//! The form is canonical: there is one encoding of a value, and a decoder that accepts some bytes would encode the
//! result to the same bytes. Every length is checked against its limit and against the bytes that are there before
//! memory is taken. Decoded byte strings share the memory of the input.

use bytes::{Buf, Bytes};

/// First byte of every encoded command, batch and answer. Raised when the form changes.
pub const VERSION: u8 = 1;

/// What is wrong with encoded bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("ends after {have} of at least {need} bytes")]
    Truncated {
        /// Bytes needed for the item that is being read.
        need: usize,
        /// Bytes left.
        have: usize,
    },
    /// The version byte is not one this program knows.
    #[error("version {0} is not supported")]
    Version(u8),
    /// A tag byte names no variant.
    #[error("{what} has no variant {tag}")]
    Tag {
        /// Of which type.
        what: &'static str,
        /// The byte.
        tag: u8,
    },
    /// A length or a count is above its limit.
    #[error("{what} of {value} exceeds the limit of {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// What was found.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A varint is longer than it needs to be, or does not fit 64 bits.
    #[error("malformed varint")]
    Varint,
    /// A text is not UTF-8.
    #[error("text is not UTF-8")]
    Text,
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
}

/// Appends a varint: seven bits a byte, least significant first, the top bit set on all but the last.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number, folded so that small magnitudes are short.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a presence byte and, if present, the bytes.
pub fn put_optional(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            out.push(1);
            put_bytes(out, bytes);
        }
    }
}

/// Takes items off the front of encoded bytes.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Reads `bytes` from its beginning.
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    /// Takes the version byte.
    ///
    /// # Errors
    /// [`DecodeError::Version`] if it is not [`VERSION`].
    pub fn version(&mut self) -> Result<(), DecodeError> {
        match self.byte()? {
            VERSION => Ok(()),
            other => Err(DecodeError::Version(other)),
        }
    }

    /// Takes a byte that is 0 or 1.
    ///
    /// # Errors
    /// [`DecodeError::Tag`] if it is neither.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::Tag { what: "flag", tag }),
        }
    }

    /// Takes a varint.
    ///
    /// # Errors
    /// [`DecodeError::Varint`] if it is not the shortest form of a 64-bit number.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let overflows = shift == 63 && bits > 1;
            let padded = byte == 0 && shift > 0;
            if overflows || padded {
                return Err(DecodeError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// Takes a number written by [`put_signed`].
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let folded = self.varint()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// Takes 16 bytes, most significant first.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn wide(&mut self) -> Result<u128, DecodeError> {
        self.need(16)?;
        Ok(self.bytes.get_u128())
    }

    /// Takes a length of at most `limit` and so many bytes.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] or [`DecodeError::Truncated`].
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<Bytes, DecodeError> {
        let length = self.length(what, limit)?;
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    /// Takes what [`put_optional`] wrote.
    ///
    /// # Errors
    /// As [`Reader::bytes`] and [`Reader::flag`].
    pub fn optional(&mut self, what: &'static str, limit: usize) -> Result<Option<Bytes>, DecodeError> {
        if self.flag()? { Ok(Some(self.bytes(what, limit)?)) } else { Ok(None) }
    }

    /// Takes a text of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and [`DecodeError::Text`].
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(what, limit)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Text)
    }

    /// Takes a count of at most `limit` and so many items.
    ///
    /// # Errors
    /// The count's or the first bad item's.
    pub fn list<T>(
        &mut self,
        limit: usize,
        item: impl Fn(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.length("count", limit)?;
        // Every item takes at least one byte: a count beyond the bytes that are left is a lie.
        self.need(count)?;
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
    }

    fn length(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(length) if length <= limit => Ok(length),
            _ => Err(DecodeError::TooLarge { what, value, limit: limit as u64 }),
        }
    }

    fn need(&self, need: usize) -> Result<(), DecodeError> {
        let have = self.bytes.len();
        if have < need { Err(DecodeError::Truncated { need, have }) } else { Ok(()) }
    }
}
